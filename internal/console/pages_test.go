package console

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// Where a page counts or looks no further, it says so in both languages.
func TestPagesSayWhereTheyEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.owner(t)
	// 5,000 daily campaigns have more than 200,000 occurrences in six weeks.
	exec(t, r.db, fmt.Sprintf(`SET session_replication_role = replica;
		INSERT INTO scheduler.campaigns (id, name, app_id, workspace_id, channel, strategy_type, strategy_content, request, time_zone, app_no, written_at, created_by, updated_by, created_at, updated_at)
		SELECT n, 'many', 'shop', 'test', 'mpaas.push_multiple', 2,
		       jsonb_build_object('startTime', extract(epoch FROM d)::bigint * 1000, 'endTime', extract(epoch FROM d + interval '100 days')::bigint * 1000, 'circleType', 1, 'time', '12:00:00'),
		       '{}', 'Asia/Shanghai', (SELECT app_no FROM scheduler.apps WHERE app_id = 'shop'), now(), 'me', 'me', now(), now()
		  FROM generate_series(1, 5000) n, (SELECT date_trunc('day', now() AT TIME ZONE 'Asia/Shanghai') AT TIME ZONE 'Asia/Shanghai' AS d) x;
		INSERT INTO scheduler.pending_tasks (id, app_no, campaign_id, revision, origin, due_at, ready_at)
		SELECT n, (SELECT app_no FROM scheduler.apps WHERE app_id = 'shop'), n %% 5000 + 1, 1, 'immediate', now() - n * interval '1 second', now() FROM generate_series(1, %d) n;
		SET session_replication_role = origin`, store.MaxHeld+1))
	b.post("/hold", url.Values{"note": {"wrong template"}}, http.StatusOK)
	ahead := "/calendar?app=shop&at=" + time.Now().AddDate(0, 0, 60).Format(time.DateOnly)
	has(t, b.get("/hold"), "more than 10000 overdue pushes", "; 0 more follow")
	has(t, b.get(ahead), "There are too many planned occurrences: those after ", "are left out")
	b.post("/preferences", url.Values{"language": {"zh"}}, http.StatusOK)
	has(t, b.get("/hold"), "超过 10000 个已到时间的推送")
	has(t, b.get(ahead), "计划的推送过多")
}
