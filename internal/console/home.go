package console

import (
	"net/http"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// home answers what needs the reader, what comes next and what came last.
func (c *Console) home(x *exchange) error {
	var d struct {
		Attention store.Attention
		Next      []store.UpcomingRow
		Last      store.TaskPage
		Empty     bool
		Yesterday string
		Overdue   string // until when what is overdue was due
	}
	var err error
	if d.Attention, err = x.store.Attention(x.Context()); err != nil {
		return err
	}
	if d.Next, err = x.store.ListUpcoming(x.Context(), store.Filter{Limit: 20}); err != nil {
		return err
	}
	decided := store.Filter{Statuses: []string{"succeeded", "failed", "missed", "cancelled", "unknown"}, Until: x.Now, Since: x.Now.AddDate(0, 0, -7), Limit: 20}
	if d.Last, err = x.store.PageTasks(x.Context(), decided, store.TaskCursor{}); err != nil {
		return err
	}
	if len(d.Next) == 0 && len(d.Last.Rows) == 0 {
		some, _, err := x.store.FindCampaigns(x.Context(), "", store.Filter{Limit: 1}, 0)
		if err != nil {
			return err
		}
		d.Empty = len(some) == 0
	}
	d.Overdue = x.Now.Add(-time.Minute).UTC().Format(time.RFC3339)
	d.Yesterday = x.Now.Add(-24 * time.Hour).UTC().Format(time.RFC3339)
	return c.render(x, http.StatusOK, "home", d)
}
