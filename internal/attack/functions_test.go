package attack_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A function is one that authors may call.
type function struct {
	name  string
	types []string
	pure  bool // it knows its arguments only
}

// authorsFunctions are all of them, from the catalog.
func (c *town) authorsFunctions(t *testing.T) (out []function) {
	t.Helper()
	rows, _ := c.db.Query(t.Context(), `
		SELECT 'scheduler.' || quote_ident(p.proname), ARRAY(SELECT format_type(a.oid, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY AS a (oid, n) ORDER BY a.n), p.provolatile = 'i'
		  FROM pg_proc p WHERE p.pronamespace = 'scheduler'::regnamespace AND p.prorettype <> 'trigger'::regtype AND p.prokind = 'f'
		   AND has_function_privilege('scheduler_author', p.oid, 'EXECUTE') ORDER BY 1`)
	var f function
	if _, err := pgx.ForEachRow(rows, []any{&f.name, &f.types, &f.pure}, func() error {
		out = append(out, function{f.name, append([]string(nil), f.types...), f.pure})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// hostile are arguments that a function may not have been written for.
var hostile = map[string][]string{
	"bigint":                     {"NULL", "0", "-1", "(-9223372036854775808)", "9223372036854775807"},
	"integer":                    {"NULL", "0", "-1", "(-2147483648)", "2147483647"},
	"smallint":                   {"NULL", "(-32768)", "32767"},
	"numeric":                    {"NULL", "'NaN'", "'infinity'", "'1e1000'"},
	"double precision":           {"NULL", "'NaN'", "'infinity'"},
	"boolean":                    {"NULL", "true", "false"},
	"text":                       {"NULL", "''", "repeat('x', 1000000)", "E'\\x01\\x1b[31m'", "'%s %I %L'", "''' OR true --'"},
	"name":                       {"NULL", "''", "'postgres'", "'scheduler_owner'", "'\"; DROP TABLE x'"},
	"text[]":                     {"NULL", "'{}'", "'{NULL}'", "'{{a},{b}}'", "array_fill('x'::text, ARRAY[20000])", "'[-5:-4]={a,b}'"},
	"bigint[]":                   {"NULL", "'{}'", "'{NULL}'", "'{{1},{2}}'"},
	"integer[]":                  {"NULL", "'{}'", "'{NULL}'", "'{{1},{2}}'"},
	"timestamp with time zone":   {"NULL", "'infinity'", "'-infinity'", "'4714-11-24 BC UTC'", "'294276-12-31 UTC'"},
	"timestamp with time zone[]": {"NULL", "'{}'", "'{NULL}'", "'{{2027-01-01},{2027-01-02}}'", "'{infinity,-infinity}'", "array_fill('2027-01-01'::timestamptz, ARRAY[20000])"},
	"date[]":                     {"NULL", "'{}'", "'{NULL}'", "'{infinity}'", "'{{2027-01-01}}'"},
	"interval":                   {"NULL", "'-1 day'", "'100000000 years'"},
	"date":                       {"NULL", "'infinity'", "'-infinity'", "'5874897-12-31'"},
	"jsonb":                      {"NULL", "'null'", "'[]'", "'{}'", "'{\"fixedTime\": 1e400}'", "'{\"fixedTime\": -9e18}'", "jsonb_build_object('startTime', 1, 'endTime', 9e18, 'circleType', 1, 'time', '00:00:00')", "(repeat('[', 3000) || repeat(']', 3000))::jsonb"},
	"json":                       {"NULL", "'null'", "'{}'", "'{\"a\": 1, \"a\": 2}'"},
}

// usual are arguments of each type that mean something to many functions.
func (c *town) usual(kind string) string {
	switch kind {
	case "bigint":
		return fmt.Sprint(c.a)
	case "integer", "smallint":
		return "1"
	case "text":
		return "'a'"
	case "boolean":
		return "true"
	case "timestamp with time zone":
		return "'2100-01-01 UTC'"
	case "text[]":
		return "'{ta}'"
	}
	return "NULL"
}

// call runs one call as somebody, takes it back, and returns what they are told.
func call(t *testing.T, conn *pgx.Conn, sql string) (told, state string) {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	rows, _ := tx.Query(t.Context(), sql)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[*string])
	if err == nil {
		var b strings.Builder
		for _, l := range lines {
			if l == nil {
				b.WriteString("NULL\n")
				continue
			}
			b.WriteString(*l + "\n")
		}
		return b.String(), ""
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		t.Fatalf("%.200s: %v", sql, err)
	}
	if strings.HasPrefix(pg.Detail, "Failing row contains") { // the caller's own, with a clock in it
		pg.Detail = ""
	}
	return strings.Join([]string{pg.Code, pg.Message, pg.Detail, pg.Hint, pg.TableName, pg.ConstraintName}, "\n"), pg.Code
}

func (f *function) with(args []string) string {
	list := make([]string, len(args))
	for i, a := range args {
		list[i] = "(" + a + ")::" + f.types[i]
	}
	return fmt.Sprintf("SELECT f::text FROM (SELECT %s(%s) AS f LIMIT 1000) x", f.name, strings.Join(list, ", "))
}

// vary calls do with the usual arguments, and with each hostile one in turn.
func (c *town) vary(f *function, do func(args []string)) {
	base := make([]string, len(f.types))
	for i, kind := range f.types {
		base[i] = c.usual(kind)
	}
	do(base)
	for i, kind := range f.types {
		for _, value := range hostile[kind] {
			args := append([]string(nil), base...)
			args[i] = value
			do(args)
		}
	}
}

// TestHostileArguments calls every function that authors may call with arguments
// that nobody means: it answers or refuses, and neither breaks nor goes on without end.
func TestHostileArguments(t *testing.T) {
	t.Parallel()
	c := newTown(t)
	conn := c.as(t, "mei")
	if _, err := conn.Exec(t.Context(), `SET statement_timeout = '20s'`); err != nil {
		t.Fatal(err)
	}
	for _, f := range c.authorsFunctions(t) {
		c.vary(&f, func(args []string) {
			sql := f.with(args)
			text, state := call(t, conn, sql)
			if state != "" && !slices.Contains([]string{"22", "23", "42", "55", "P0"}, state[:2]) {
				t.Errorf("%.200s: %.300s", sql, text)
			}
			if len(text) > 1_010_000 { // what it was given, and some words
				t.Errorf("%.200s: tells %d bytes", sql, len(text))
			}
		})
	}
}

// TestFunctionsTellNothingForeign calls each with what is somebody else's and with
// what there is not, in every place for an id or a name: the answer is the same.
func TestFunctionsTellNothingForeign(t *testing.T) {
	t.Parallel()
	c := newTown(t)
	c.exec(t, fmt.Sprintf(`
		INSERT INTO scheduler.apps (app_id, workspace_id, provider) SELECT 'theirapp', w, 'webhook' FROM unnest('{"",theirapp,a}'::text[]) w;
		SELECT scheduler.grant_app('theirapp', w, '%s') FROM unnest('{"",theirapp,a}'::text[]) w`, c.names["li"]))
	const campaign, nobodys = "87654321", "76543218" // told apart from whatever else a text may say
	c.exec(t, fmt.Sprintf(`
		INSERT INTO scheduler.campaigns (id, name, app_id, channel, strategy_type, strategy_content) VALUES (%[1]s, 'c', 'b', 'webhook', 1, '{"fixedTime": 4102444800000}');
		INSERT INTO scheduler.campaign_targets (campaign_id, target) VALUES (%[1]s, 'ta');
		UPDATE scheduler.campaigns SET name = 'changed' WHERE id = %[1]s;
		INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, decided_at, attempts, slices, accepted, target_count, reason)
		SELECT id, app_no, id, 1, 1, 'scheduled', 'unknown', '1999-01-01', '1999-01-01', 1, 1, 0, 1, 'lost' FROM scheduler.campaigns WHERE id = %[1]s`, campaign))
	var theirs string
	c.scan(t, &theirs, `SELECT app_no::text FROM scheduler.apps WHERE app_id = 'b'`)
	conn := c.as(t, "mei")
	pairs := map[string][][2]string{
		"bigint": {{campaign, nobodys}}, "integer": {{theirs, "7654"}}, "text": {{"'theirapp'", "'nobodyap'"}},
		"name": {{"'" + c.names["li"] + "'", "'" + c.names["eve"] + "'"}}, // who has a grant, and who has none
	}
	for _, f := range c.authorsFunctions(t) {
		if f.pure {
			continue
		}
		c.vary(&f, func(args []string) {
			for i, kind := range f.types {
				for _, pair := range pairs[kind] {
					var told [2]string
					for n, value := range pair {
						with := append([]string(nil), args...)
						with[i] = value
						text, _ := call(t, conn, f.with(with))
						if told[n] = text; kind != "integer" { // a number is part of other numbers
							told[n] = strings.ReplaceAll(text, strings.Trim(value, "'"), "X")
						}
					}
					if told[0] != told[1] {
						with := append([]string(nil), args...)
						with[i] = pair[0]
						t.Errorf("%.200s: of a foreign one %.300q, of none %.300q", f.with(with), told[0], told[1])
					}
				}
			}
		})
	}
}
