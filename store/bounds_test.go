package store_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
)

// Every column that an author writes has a bound, and the statement tells it.

// goTo migrates to a version.
func goTo(t *testing.T, db *pgtest.DB, version int) {
	t.Helper()
	do(t, migrator(t, db.URL).Goto(t.Context(), version))
}

func TestInsertBoundsCampaigns(t *testing.T) {
	t.Parallel()
	db := surface(t)
	for _, c := range []struct{ name, column, value, message, detail string }{
		{"name", "name", `repeat('x', 513)`, "name: must not be longer than 512 bytes", "name = 513 bytes"},
		{"name of 60 MB", "name", `repeat('x', 60000000)`, "name: must not be longer than 512 bytes", "60000000 bytes"},
		{"request", "request", `jsonb_build_object('t', repeat('x', 66000))`, "request: must not be longer than 65536 bytes", "bytes"},
		{"request of 60 MB", "request", `jsonb_build_object('t', repeat('x', 60000000))`, "request: must not be longer than 65536 bytes", "60000009 bytes"},
		{"request whose number is long", "request", `'{"n": 1e100000}'`, "request: must not be longer than 65536 bytes", ""},
		{"request of 200,000 keys", "request", `(SELECT jsonb_object_agg('k' || g, repeat('v', 20)) FROM generate_series(1, 200000) g)`, "request: must not be longer than 65536 bytes", ""},
		{"request of 2,001 keys", "request", `(SELECT jsonb_object_agg('k' || g, 1) FROM generate_series(1, 2001) g)`, "request: must not have more than 2000 keys and list entries", "2001"},
		{"deep request", "request", `('{"a":' || repeat('[', 33) || repeat(']', 33) || '}')::jsonb`, "request: must not be nested deeper than 32 levels", ""},
		{"very deep request", "request", `('{"a":' || repeat('[', 5000) || repeat(']', 5000) || '}')::jsonb`, "request: must not be nested deeper than 32 levels", ""},
		{"ignored content", "strategy_content", `jsonb_build_object('t', repeat('x', 40000))`, "strategy_content: must not be longer than 32768 bytes", ""},
		{"window of 1 ms", "catch_up_window", `interval '1 millisecond'`, "catch_up_window: must be at least 1 second", "00:00:00.001"},
		{"client_token", "client_token", `repeat('x', 129)`, "client_token: must have from 1 to 128 bytes", "129 bytes"},
		{"empty client_token", "client_token", `''`, "client_token: must have from 1 to 128 bytes", ""},
		{"app", "workspace_id", `repeat('x', 100000)`, "app_id: must be an app", "..."},
		{"channel", "channel", `repeat('x', 100000)`, "channel: must be a known channel", "..."},
		{"zone", "time_zone", `repeat('X', 100000)`, "time_zone: must be an IANA time zone", "..."},
		{"view", "audience_view", `repeat('x', 100000)`, "audience_view: must be the bare name", "..."},
		{"policy", "misfire_policy", `repeat('x', 100000)`, "misfire_policy: must be latest, all or skip", "..."},
		{"status", "status", `repeat('x', 100000)`, "status: must be active or paused", "..."},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			columns := map[string]string{"name": "'n'", "app_id": "'hook'", "channel": "'webhook'"}
			columns[c.column] = c.value
			var names, values []string
			for name, value := range columns {
				names, values = append(names, name), append(values, value)
			}
			got := refused(t, db, fmt.Sprintf(`INSERT INTO scheduler.campaigns (%s) SELECT %s`, strings.Join(names, ", "), strings.Join(values, ", ")))
			if !strings.Contains(got.Message, c.message) || !strings.Contains(got.Detail, c.detail) || got.Hint == "" {
				t.Errorf("got\n%s\n%s\n%s\nwant\n%s\n%s and a hint", got.Message, got.Detail, got.Hint, c.message, c.detail)
			}
			if len(got.Message)+len(got.Detail)+len(got.Hint) > 5000 {
				t.Errorf("the answer has %d bytes", len(got.Message)+len(got.Detail)+len(got.Hint))
			}
		})
	}
}

func TestInsertBoundsTargets(t *testing.T) {
	t.Parallel()
	db := surface(t)
	id := campaign(t, db)
	for _, c := range []struct{ name, column, value, message, detail string }{
		{"target", "target", `repeat('x', 1025)`, "target: must not be longer than 1024 bytes", "target = 1025 bytes"},
		{"target of 9 kB", "target", `(SELECT string_agg(md5(g::text), '') FROM generate_series(1, 300) g)`, "target: must not be longer than 1024 bytes", "9600 bytes"},
		{"msg_key", "msg_key", `repeat('x', 257)`, "msg_key: must not be longer than 256 bytes", "257 bytes"},
		{"values", "template_key_value", `jsonb_build_object('t', repeat('x', 4096))`, "template_key_value: must not be longer than 4096 bytes", ""},
		{"long number", "template_key_value", `'{"n": 1e100000}'`, "template_key_value: must not be longer than 4096 bytes", ""},
		{"deep values", "template_key_value", `'{"a": [[[[[[[[1]]]]]]]]}'`, "template_key_value: must not be nested deeper than 8 levels", ""},
		{"parameters", "extended_params", `jsonb_build_object('t', repeat('x', 60000000))`, "extended_params: must not be longer than 4096 bytes", ""},
		{"both", "target, msg_key", `repeat('x', 2000), repeat('x', 2000)`, "target: must not be longer than 1024 bytes; msg_key: must not be longer than 256 bytes", ""},
	} {
		for form, sql := range map[string]string{
			"INSERT": `INSERT INTO scheduler.campaign_targets (campaign_id, %[1]s) SELECT %[3]d, %[2]s`,
			"UPDATE": `UPDATE scheduler.campaign_targets SET (%[1]s) = ROW (%[2]s) WHERE campaign_id = %[3]d`,
		} {
			t.Run(c.name+" "+form, func(t *testing.T) {
				columns, values := c.column, c.value
				if form == "INSERT" && !strings.Contains(columns, "target,") && columns != "target" {
					columns, values = "target, "+columns, "'t', "+values
				}
				run(t, db, `INSERT INTO scheduler.campaign_targets (campaign_id, target) VALUES ($1, 'there') ON CONFLICT DO NOTHING`, id)
				got := refused(t, db, fmt.Sprintf(sql, columns, values, id))
				if !strings.Contains(got.Message, c.message) || !strings.Contains(got.Detail, c.detail) || got.Hint == "" || got.TableName != "campaign_targets" {
					t.Errorf("got\n%s\n%s\n%s of %s\nwant\n%s\n%s and a hint", got.Message, got.Detail, got.Hint, got.TableName, c.message, c.detail)
				}
			})
		}
	}
}

// What people ordinarily write is taken.
func TestOrdinarySizesAreTaken(t *testing.T) {
	t.Parallel()
	db := surface(t)
	id := one[int64](t, db, `INSERT INTO scheduler.campaigns (name, app_id, channel, request, catch_up_window)
		VALUES (repeat('推', 100), 'hook', 'webhook', jsonb_build_object('text', repeat('x', 20000), 'list', (SELECT jsonb_agg(g) FROM generate_series(1, 500) g)), '1 second') RETURNING id`)
	run(t, db, `INSERT INTO scheduler.campaign_targets (campaign_id, target, msg_key, template_key_value, extended_params)
		SELECT $1, lpad(g::text, 200, '用'), repeat('k', 64), jsonb_build_object('a', repeat('v', 1000)), jsonb_build_object('b', repeat('v', 1000), 'c', '{"d": [1]}'::jsonb)
		  FROM generate_series(1, 100) g`, id)
}

// What was written before there was a bound stays, can be paused and cancelled,
// and is the daemon's to reject.
func TestRowsOverTheBoundSurvive(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	goTo(t, db, 14)
	run(t, db, `INSERT INTO scheduler.apps (app_id, provider) VALUES ('hook', 'webhook')`)
	id := one[int64](t, db, `INSERT INTO scheduler.campaigns (name, app_id, channel, request, catch_up_window, status)
		VALUES (repeat('x', 1000), 'hook', 'webhook', jsonb_build_object('t', repeat('x', 100000)), '1 millisecond', 'paused') RETURNING id`)
	run(t, db, `INSERT INTO scheduler.campaign_targets (campaign_id, target) VALUES ($1, repeat('x', 2000))`, id)
	run(t, db, `INSERT INTO scheduler.campaigns (id, name, app_id, channel) VALUES (0, 'zero', 'hook', 'webhook')`)
	goTo(t, db, 15)
	run(t, db, `UPDATE scheduler.campaigns SET status = 'active' WHERE id = $1`, id)
	run(t, db, `UPDATE scheduler.campaigns SET resend_unknown = true WHERE id = $1`, id)
	if got := refused(t, db, `UPDATE scheduler.campaigns SET request = request || '{"u": 1}' WHERE id = $1`, id); !strings.Contains(got.Message, "request: must not be longer") {
		t.Error(got.Message)
	}
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SET LOCAL scheduler.daemon = 'on'`); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `UPDATE scheduler.campaigns SET status = 'rejected', status_reason = 'too long' WHERE id = $1`, id); err != nil {
		t.Error(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(t, db, `UPDATE scheduler.campaigns SET status = 'cancelled' WHERE id IN ($1, 0)`, id)
	run(t, db, `DELETE FROM scheduler.campaigns WHERE id = $1`, id)
	if n := one[int](t, db, `SELECT count(*) FROM scheduler.campaign_targets`); n != 0 {
		t.Errorf("%d targets of a deleted campaign", n)
	}
}

// Whoever writes many mistakes is told of some, and how many more there are.
func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	db := surface(t)
	got := refused(t, db, `INSERT INTO scheduler.campaigns (name, app_id, channel, strategy_type, strategy_content)
		SELECT 'n', 'hook', 'webhook', 1, jsonb_object_agg('k' || g, 1) FROM generate_series(1, 700) g`)
	if strings.Count(got.Message, "is not a key of StrategyContent") != 20 || !strings.HasSuffix(got.Message, "; … and 681 more") || len(got.Detail) > 4000 {
		t.Errorf("%s\n%s", got.Message, got.Detail)
	}
}

//-------------------------------------------------------------------------- ids

func TestIDs(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	insert := func(id string) string {
		return fmt.Sprintf(`INSERT INTO scheduler.campaigns (id, name, app_id, channel) VALUES (%s, 'n', 'mine', 'webhook')`, id)
	}
	p.exec(t, insert("5000")) // the owner may
	p.exec(t, `INSERT INTO scheduler.campaigns (id, name, app_id, channel) VALUES (7000, 'loop', 'mine', 'webhook'); DELETE FROM scheduler.campaigns WHERE id = 7000`)
	for _, c := range []struct{ role, sql, state, message string }{
		{"author", insert("DEFAULT"), "", ""},
		{"author", insert("DEFAULT") + `, (DEFAULT, 'm', 'mine', 'webhook')`, "", ""},
		{"author", `INSERT INTO scheduler.campaigns (id, name, app_id, channel) VALUES (NULL, 'n', 'mine', 'webhook') RETURNING id`, "", ""},
		{"author", insert("6000"), denied, "id: is given by the database"},
		{"author", insert("1000001"), denied, "id: is given by the database"},
		{"author", insert("1"), denied, "id: is given by the database"},
		{"author", insert("0"), denied, "id: is given by the database"},
		{"admin", insert("6000"), "", ""},
		{"admin", insert("0"), "23514", "id: must be 1 or more"},
		{"admin", insert("-5"), "23514", "id: must be 1 or more"},
		{"admin", insert("7000"), "23514", "id: must not be used again: it is that of a campaign with a record"},
		{
			"admin", `INSERT INTO scheduler.campaigns (id, name, app_id, channel) SELECT (h.before ->> 'id')::bigint, 'back', 'mine', 'webhook' FROM scheduler.campaign_history h WHERE h.action = 'delete'`,
			"23514", "id: must not be used again",
		},
	} {
		conn := p.connect(t, c.role)
		told := told(t, conn, c.sql)
		if c.state == "" && !strings.HasSuffix(told, "rows") || c.state != "" && !strings.HasPrefix(told, c.state+"\n"+c.message) {
			t.Errorf("%s: %s\n%s\nwant SQLSTATE %q and %q", c.role, c.sql, told, c.state, c.message)
		}
	}
}

//------------------------------------------------------------------ client_token

func TestInsertCanBeRepeated(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	p.exec(t, `INSERT INTO scheduler.campaigns (name, app_id, channel, client_token) VALUES ('n', 'theirs', 'webhook', 'once')`)
	conn := p.connect(t, "author")
	insert := `INSERT INTO scheduler.campaigns (name, app_id, channel, client_token) VALUES ('n', 'mine', 'webhook', 'once')`
	for i, c := range []struct {
		sql  string
		rows int64
	}{
		{insert + ` ON CONFLICT DO NOTHING`, 1},
		{insert + ` ON CONFLICT DO NOTHING`, 0},
		{insert + ` ON CONFLICT (app_id, workspace_id, client_token) DO NOTHING`, 0},
		{`INSERT INTO scheduler.campaigns (name, app_id, channel) VALUES ('n', 'mine', 'webhook')`, 1},
		{`INSERT INTO scheduler.campaigns (name, app_id, channel) VALUES ('n', 'mine', 'webhook')`, 1},
	} {
		tag, err := conn.Exec(t.Context(), c.sql)
		if err != nil || tag.RowsAffected() != c.rows {
			t.Errorf("%d: %d rows, %v; want %d", i, tag.RowsAffected(), err, c.rows)
		}
	}
	if _, err := conn.Exec(t.Context(), insert); err == nil || !strings.Contains(err.Error(), "23505") {
		t.Errorf("a token twice: %v", err)
	}
	got := refused(t, p.db, `UPDATE scheduler.campaigns SET client_token = 'other' WHERE client_token = 'once'`)
	if !strings.Contains(got.Message, "client_token: cannot change") {
		t.Error(got.Message)
	}
}

//----------------------------------------------------------------------- at once

// TestAtOnceCountsFromWhenItCouldBePushed looks where the occurrence of a
// campaign stands that was written before it could be pushed.
func TestAtOnceCountsFromWhenItCouldBePushed(t *testing.T) {
	t.Parallel()
	insert := `INSERT INTO scheduler.campaigns (name, app_id, channel, catch_up_window, status) VALUES ('n', 'hook', 'webhook', '1 second', '%s') RETURNING id`
	written := func(t *testing.T, db *pgtest.DB, id int64) time.Time {
		t.Helper()
		return one[time.Time](t, db, `SELECT written_at FROM scheduler.campaigns WHERE id = $1`, id)
	}
	backdated := func(t *testing.T, db *pgtest.DB, status string) int64 {
		t.Helper()
		id := one[int64](t, db, fmt.Sprintf(insert, "paused"))
		run(t, db, `SET session_replication_role = replica; UPDATE scheduler.campaigns SET written_at = now() - interval '1 hour', status = '`+status+`', status_reason = 'why'; RESET session_replication_role`)
		return id
	}
	t.Run("activated", func(t *testing.T) {
		t.Parallel()
		db := surface(t)
		id := backdated(t, db, "paused")
		now := one[time.Time](t, db, `SELECT clock_timestamp()`)
		run(t, db, `UPDATE scheduler.campaigns SET status = 'active' WHERE id = $1`, id)
		if at := written(t, db, id); at.Before(now) {
			t.Errorf("its occurrence is %s, before it became active at %s", at, now)
		}
	})
	t.Run("rejected and fixed", func(t *testing.T) {
		t.Parallel()
		db := surface(t)
		id := backdated(t, db, "rejected")
		now := one[time.Time](t, db, `SELECT clock_timestamp()`)
		run(t, db, `UPDATE scheduler.campaigns SET request = '{"fixed": true}' WHERE id = $1`, id)
		if at := written(t, db, id); at.Before(now) {
			t.Errorf("its occurrence is %s, before it was fixed at %s", at, now)
		}
	})
	t.Run("begun", func(t *testing.T) {
		t.Parallel()
		db := surface(t)
		id := backdated(t, db, "paused")
		at := written(t, db, id)
		sliced(t, db, id, at, "held")
		run(t, db, `UPDATE scheduler.campaigns SET status = 'active' WHERE id = $1`, id)
		if got := written(t, db, id); !got.Equal(at) {
			t.Errorf("the occurrence of a push that has begun moved from %s to %s", at, got)
		}
	})
	t.Run("committed late", func(t *testing.T) {
		t.Parallel()
		db := surface(t)
		tx, err := db.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var id int64
		if err := tx.QueryRow(t.Context(), fmt.Sprintf(insert, "active")).Scan(&id); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "a quarter of the window to pass", func() bool {
			var passed bool
			if err := tx.QueryRow(t.Context(), `SELECT clock_timestamp() - written_at > catch_up_window / 4 FROM scheduler.campaigns WHERE id = $1`, id).Scan(&passed); err != nil {
				t.Fatal(err)
			}
			return passed
		})
		now := one[time.Time](t, db, `SELECT clock_timestamp()`)
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if at := written(t, db, id); at.Before(now) {
			t.Errorf("its occurrence is %s, before it was committed at %s", at, now)
		}
	})
	t.Run("a load that takes long to move", func(t *testing.T) {
		t.Parallel()
		db := surface(t)
		const n = 200
		run(t, db, `CREATE FUNCTION public.slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.002); RETURN NEW; END $$;
			CREATE TRIGGER slowly BEFORE INSERT OR UPDATE ON scheduler.campaigns FOR EACH ROW EXECUTE FUNCTION public.slowly()`)
		now := one[time.Time](t, db, `SELECT clock_timestamp()`)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // statement_timeout does not bound a commit
		defer cancel()
		if _, err := db.Exec(ctx, `INSERT INTO scheduler.campaigns (name, app_id, channel, catch_up_window)
			SELECT 'n', 'hook', 'webhook', '1 second' FROM generate_series(1, $1)`, n); err != nil {
			t.Fatal(err)
		}
		if moved := one[int](t, db, `SELECT count(*) FROM scheduler.campaigns WHERE written_at > $1`, now); moved != n {
			t.Errorf("%d of %d occurrences are after the INSERT began", moved, n)
		}
	})
}
