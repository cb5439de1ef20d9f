package store_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/store"
)

// auditFilters are the questions of the console's page, and more.
func auditFilters(who string) map[string]store.AuditFilter {
	return map[string]store.AuditFilter{
		"all": {}, "who": {Who: who}, "who did nothing": {Who: "nobody"}, "a deed": {Deed: "update"}, "a rare deed": {Deed: "reject"}, "a deed's beginning": {Deed: "re"},
		"a deed that is no change": {Deed: "hold"}, "no deed": {Deed: "dance"}, "who and what": {Who: "often", Deed: "pause"},
		"before": {Until: time.Now().Add(-20 * time.Hour)}, "few": {Who: who, Limit: 3}, "a ruling": {Deed: "rule"},
	}
}

// manyChanges writes a history in which one login did little.
func manyChanges(t *testing.T, p people, n int) {
	t.Helper()
	p.exec(t, fmt.Sprintf(`
		SET session_replication_role = replica;
		INSERT INTO scheduler.campaign_history (campaign_id, app_no, revision, action, strategy_ended, changed_by, changed_at, before)
		SELECT 1000001, app_no, g, CASE WHEN g %% 977 = 0 THEN 'pause' ELSE 'update' END, false, CASE WHEN g %% 331 = 0 THEN 'rare' ELSE 'often' END, now() - g * interval '1 minute', '{}'
		  FROM scheduler.apps, generate_series(1, %d) g WHERE app_id = 'mine';
		RESET session_replication_role;
		INSERT INTO scheduler.campaign_notes (campaign_id, app_no, revision, note, noted_by) SELECT campaign_id, app_no, revision, 'note ' || revision, changed_by
		  FROM scheduler.campaign_history WHERE revision %% 10 = 0;
		SELECT scheduler.hold_pushes('stop'), scheduler.release_hold();
		ANALYZE`, n))
}

// TestAuditIsWhatTheViewSays compares what the console asks with all that there is.
func TestAuditIsWhatTheViewSays(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	manyChanges(t, p, 3000)
	for _, role := range []string{"reader", "author"} {
		s, err := store.Open(t.Context(), store.Config{URL: p.urlOf(t, role), MaxConns: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		for name, f := range auditFilters("rare") {
			got, err := s.ListAudit(t.Context(), f)
			if err != nil {
				t.Fatalf("%s, %s: %v", role, name, err)
			}
			limit := 50
			if f.Limit > 0 {
				limit = f.Limit
			}
			until := f.Until
			if until.IsZero() {
				until = time.Now().Add(time.Hour)
			}
			rows, err := p.connect(t, role).Query(t.Context(), `SELECT at || ' ' || who || ' ' || deed || ' ' || coalesce(app_id, '') || ' ' || coalesce(note, '') FROM scheduler.audit
				WHERE ($1 = '' OR who = $1) AND starts_with(deed, $2) AND at < $3 ORDER BY at DESC, deed LIMIT $4`, f.Who, f.Deed, until, limit)
			if err != nil {
				t.Fatal(err)
			}
			want := []string{}
			for rows.Next() {
				var line string
				if err := rows.Scan(&line); err != nil {
					t.Fatal(err)
				}
				_, rest, _ := strings.Cut(line, "+")
				_, rest, _ = strings.Cut(rest, " ")
				want = append(want, rest)
			}
			if err := rows.Err(); err != nil {
				t.Fatal(err)
			}
			have := make([]string, len(got))
			for i, r := range got {
				have[i] = fmt.Sprintf("%s %s %s %s", r.Who, r.Deed, r.AppID, r.Note)
			}
			if diff := cmp.Diff(want, have); diff != "" {
				t.Errorf("%s, %s (-view +list):\n%s", role, name, diff)
			}
		}
	}
}

// TestAuditReadsWhatItShows counts the changes that are read: about as many as are
// shown, however many there are.
func TestAuditReadsWhatItShows(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	const many = 30_000
	manyChanges(t, p, many)
	conn := p.connect(t, "reader")
	for name, f := range auditFilters("rare") {
		sql, args := store.WholeAuditSQL(f, nil)
		var text []byte
		if err := conn.QueryRow(t.Context(), `EXPLAIN (ANALYZE, FORMAT JSON) `+sql, args...).Scan(&text); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var plans []struct{ Plan planNode }
		if err := json.Unmarshal(text, &plans); err != nil {
			t.Fatal(err)
		}
		if n := plans[0].Plan.read(); n > many/10 {
			t.Errorf("%s: %d rows of campaign_history are read:\n%s", name, n, text)
		}
	}
}

// A planNode is a step of a plan with what it did.
type planNode struct {
	Relation string     `json:"Relation Name"`
	Rows     float64    `json:"Actual Rows"`
	Loops    float64    `json:"Actual Loops"`
	Removed  float64    `json:"Rows Removed by Filter"`
	Plans    []planNode `json:"Plans"`
}

// read counts the rows of campaign_history that were looked at.
func (n *planNode) read() (rows int) {
	if n.Relation == "campaign_history" {
		rows = int((n.Rows + n.Removed) * n.Loops)
	}
	for i := range n.Plans {
		rows += n.Plans[i].read()
	}
	return rows
}

// TestAuditOfAnAuthorReadsLittle counts what an author's list reads among the changes
// of others: those of the author's campaigns, the deleted ones too.
func TestAuditOfAnAuthorReadsLittle(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	const many = 20_000
	p.exec(t, fmt.Sprintf(`
		SET session_replication_role = replica;
		INSERT INTO scheduler.campaign_history (campaign_id, app_no, revision, action, strategy_ended, changed_by, changed_at, before)
		SELECT 1000002, app_no, g, 'pause', false, 'somebody', now() - g * interval '1 minute', '{}' FROM scheduler.apps, generate_series(1, %d) g WHERE app_id = 'theirs';
		INSERT INTO scheduler.campaign_history (campaign_id, app_no, revision, action, strategy_ended, changed_by, changed_at, before)
		SELECT 1000003, app_no, 1, 'delete', true, 'me', now() - interval '30 days', '{}' FROM scheduler.apps WHERE app_id = 'mine';
		RESET session_replication_role;
		ALTER TABLE scheduler.campaign_history SET (autovacuum_enabled = false)`, many))
	s, err := store.Open(t.Context(), store.Config{URL: p.urlOf(t, "author"), MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	read := func() int64 {
		t.Helper()
		return one[int64](t, p.db, `SELECT t.seq_tup_read + (SELECT sum(i.idx_tup_read) FROM pg_stat_user_indexes i WHERE i.relid = t.relid)::bigint
			FROM pg_stat_user_tables t WHERE t.relname = 'campaign_history'`)
	}
	before := read()
	for name, f := range auditFilters("me") {
		rows, err := s.ListAudit(t.Context(), f)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, r := range rows {
			if r.AppID == "theirs" {
				t.Errorf("%s: %+v", name, r)
			}
		}
		if name == "who" && len(rows) != 1 {
			t.Errorf("%d changes of a deleted campaign, want 1: %v", len(rows), rows)
		}
	}
	s.Close()
	awaitEnd(t, p.db)
	if n := read() - before; n > many/10 {
		t.Errorf("%d changes were read to show a few of %d", n, many)
	}
}
