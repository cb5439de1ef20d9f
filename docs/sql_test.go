package docs_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/alipay"
	"github.com/campaign-scheduler/scheduler/dispatch/mpaas"
	"github.com/campaign-scheduler/scheduler/dispatch/webhook"
	"github.com/campaign-scheduler/scheduler/internal/pgtest"
)

// sandboxApps are the apps of a daemon without a configuration, and those that
// the adapters' documents name.
const sandboxApps = `
INSERT INTO scheduler.apps (app_id, workspace_id, provider) VALUES
('sandbox-mpaas', 'default', 'mpaas'), ('sandbox-alipay', '', 'alipay'), ('sandbox-webhook', '', 'webhook'),
('ONEX570DA89211721', 'test', 'mpaas'), ('2021000000000001', '', 'alipay'), ('coupons', '', 'webhook')`

// TestSQL pastes every document's SQL into a database, block by block, and has
// the adapters judge the campaigns it made.
func TestSQL(t *testing.T) {
	t.Parallel()
	for _, path := range documents(t) {
		all := blocks(read(t, path))
		if !hasSQL(all) {
			continue
		}
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			s := openSession(t, db.URL)
			if got := s.run(t, sandboxApps); got != "" {
				t.Fatal(got)
			}
			for i, b := range all {
				if b.language != "sql" {
					continue
				}
				want := ""
				if i+1 < len(all) && all[i+1].adjacent && isAnswer(all[i+1].text) {
					want = all[i+1].text
				}
				if got := s.run(t, b.text); got != want {
					t.Errorf("%s:%d: psql would say\n%s\nnot\n%s", path, b.line, got, want)
				}
			}
			judge(t, db)
		})
	}
}

func hasSQL(all []block) bool {
	for _, b := range all {
		if b.language == "sql" {
			return true
		}
	}
	return false
}

func isAnswer(text string) bool {
	return strings.HasPrefix(text, "ERROR:") || strings.HasPrefix(text, "NOTICE:")
}

// A session is what a person at psql has: one connection, and what it says.
type session struct {
	conn *pgx.Conn
	said strings.Builder
}

func openSession(t *testing.T, url string) *session {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	s := &session{}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { s.say((*pgconn.PgError)(n)) }
	if s.conn, err = pgx.ConnectConfig(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.conn.Close(context.WithoutCancel(t.Context())) })
	return s
}

// run executes a block and returns the notices and the error as psql prints them.
func (s *session) run(t *testing.T, sql string) string {
	t.Helper()
	s.said.Reset()
	_, err := s.conn.PgConn().Exec(t.Context(), sql).ReadAll()
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		s.say(pg)
	} else if err != nil {
		t.Fatal(err)
	}
	return s.said.String()
}

func (s *session) say(e *pgconn.PgError) {
	fmt.Fprintf(&s.said, "%s:  %s\n", e.Severity, e.Message)
	for _, part := range [][2]string{{"DETAIL", e.Detail}, {"HINT", e.Hint}} {
		if part[1] != "" {
			fmt.Fprintf(&s.said, "%s:  %s\n", part[0], part[1])
		}
	}
}

// judge asks the adapters about every campaign, as the daemon would; those that
// a document calls rejected must be, all others must not.
func judge(t *testing.T, db *pgtest.DB) {
	t.Helper()
	rows, _ := db.Query(t.Context(), `
		SELECT c.name, c.channel, c.request, c.strategy_type,
		       c.audience_view IS NOT NULL OR EXISTS (SELECT FROM scheduler.campaign_targets x WHERE x.campaign_id = c.id)
		  FROM scheduler.campaigns c`)
	var r dispatch.Request
	var body []byte
	_, err := pgx.ForEachRow(rows, []any{&r.TaskName, &r.Channel, &body, &r.StrategyType, &r.StoredTargets}, func() error {
		r.Body = body
		_, problems := adapterOf(r.Channel).Compile(r)
		if bad := strings.HasPrefix(r.TaskName, "rejected"); bad != (len(problems) > 0) {
			t.Errorf("campaign %q: the adapter says %v", r.TaskName, problems)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func adapterOf(channel string) dispatch.Adapter {
	provider, _, _ := strings.Cut(channel, ".")
	return map[string]dispatch.Adapter{"mpaas": mpaas.Adapter{}, "alipay": alipay.Adapter{}, "webhook": webhook.Adapter{}}[provider]
}
