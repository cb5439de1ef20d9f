package store_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/campaign-scheduler/scheduler/dispatch/dispatchtest"
	"github.com/campaign-scheduler/scheduler/internal/pgtest"
)

// Rows are judged as they are written, by the rules that the adapters have: the
// shared cases run through both.
func TestTargetRowsAreJudged(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	campaigns := map[string]int64{}
	for _, provider := range []string{"mpaas", "alipay", "webhook"} {
		if _, err := db.Exec(t.Context(), `INSERT INTO scheduler.apps (app_id, provider) VALUES ($1, $1)`, provider); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range dispatchtest.TargetCases() {
		provider, _, _ := strings.Cut(c.Channel, ".")
		if campaigns[c.Channel] == 0 {
			var id int64
			err := db.QueryRow(t.Context(), `INSERT INTO scheduler.campaigns (name, app_id, channel) VALUES ('c', $1, $2) RETURNING id`, provider, c.Channel).Scan(&id)
			if err != nil {
				t.Fatal(err)
			}
			campaigns[c.Channel] = id
		}
		t.Run(c.Channel+"/"+c.Name, func(t *testing.T) {
			null := func(s string) any {
				if s == "" {
					return nil
				}
				return s
			}
			err := pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error {
				_, err := tx.Exec(t.Context(), `INSERT INTO scheduler.campaign_targets (campaign_id, target, template_key_value, extended_params)
					VALUES ($1, 'good', NULL, NULL), ($1, $2, $3, $4)`, campaigns[c.Channel], c.Target, null(c.TemplateKeyValue), null(c.ExtendedParams))
				if err == nil {
					err = tx.Rollback(t.Context())
				}
				return err
			})
			if errors.Is(err, pgx.ErrTxClosed) {
				err = nil
			}
			pg, refused := errors.AsType[*pgconn.PgError](err)
			switch {
			case err != nil && !refused:
				t.Fatal(err)
			case refused != (c.Bad != ""):
				t.Errorf("got %v, want refused: %v", err, c.Bad != "")
			case refused && (pg.Code != "23514" || pg.ColumnName == "" || pg.Hint == "" || !strings.Contains(pg.Detail, "1 of the rows")):
				t.Errorf("got %+v", pg)
			}
		})
	}
}

// A campaign that names its audience itself is looked at again when it gets its
// first target, and, once it is rejected, when it loses the last.
func TestTargetsHaveACampaignJudgedAgain(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := db.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	changes := func() (n int) {
		t.Helper()
		if err := db.QueryRow(t.Context(), `WITH gone AS (DELETE FROM scheduler.campaign_changes RETURNING campaign_id) SELECT count(*) FROM gone`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	exec(`INSERT INTO scheduler.apps (app_id, provider) VALUES ('m', 'mpaas')`)
	for request, looked := range map[string]int{`{"targetMsgs": [{"target": "a"}]}`: 1, `{}`: 0} {
		var id int64
		if err := db.QueryRow(t.Context(), `INSERT INTO scheduler.campaigns (name, app_id, channel, request) VALUES ('c', 'm', 'mpaas.push_multiple', $1) RETURNING id`, request).Scan(&id); err != nil {
			t.Fatal(err)
		}
		changes()
		exec(`INSERT INTO scheduler.campaign_targets (campaign_id, target) VALUES ($1, 'a'), ($1, 'b')`, id)
		if got := changes(); got != looked {
			t.Errorf("%s: %d changes after the first target, want %d", request, got, looked)
		}
		exec(`BEGIN; SET LOCAL scheduler.daemon = 'on'; UPDATE scheduler.campaigns SET status = 'rejected', status_reason = 'targets'; COMMIT`)
		exec(`INSERT INTO scheduler.campaign_targets (campaign_id, target) VALUES ($1, 'c')`, id)
		exec(`DELETE FROM scheduler.campaign_targets WHERE campaign_id = $1 AND target = 'a'`, id)
		if got := changes(); got != 0 {
			t.Errorf("%s: %d changes while targets are left, want none", request, got)
		}
		exec(`DELETE FROM scheduler.campaign_targets WHERE campaign_id = $1`, id)
		if got := changes(); got != looked {
			t.Errorf("%s: %d changes after the last target went, want %d", request, got, looked)
		}
	}
}
