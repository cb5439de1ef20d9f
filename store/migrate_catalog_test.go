package store_test

import (
	"regexp"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
)

// catalog describes everything in the database that a migration can make, one
// line per thing: schemas, relations with columns, defaults, constraints,
// indexes, triggers, views, functions, types, sequences, grants, comments and
// settings. golang-migrate's own table is left out, and so are object ids. Grants
// are spelt out, since none at all and the owner's alone are stored differently.
func catalog(t *testing.T, db *pgtest.DB) []string {
	t.Helper()
	query := grantsCall.ReplaceAllString(catalogSQL, grantsSQL)
	rows, err := db.Query(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// grants(ACL, KIND, OWNER) in catalogSQL stands for who may do what.
var grantsCall = regexp.MustCompile(`grants\(([\w.]+), ([^,]+), ([\w.]+)\)`)

const grantsSQL = `(SELECT string_agg(format('%s=%s/%s', x.grantee::regrole, x.privilege_type, x.is_grantable), ' ' ORDER BY x.grantee::regrole::text, x.privilege_type)
	FROM aclexplode(coalesce(${1}::aclitem[], acldefault(${2}, ${3}))) x)`

const catalogSQL = `
WITH namespaces AS (
	SELECT * FROM pg_namespace WHERE nspname NOT LIKE 'pg\_%' AND nspname <> 'information_schema'
), relations AS (
	SELECT c.*, c.oid::regclass::text AS name FROM pg_class c JOIN namespaces n ON n.oid = c.relnamespace
	WHERE c.relname NOT LIKE 'schema\_migrations%'
), functions AS (
	SELECT p.* FROM pg_proc p JOIN namespaces n ON n.oid = p.pronamespace
)
SELECT line FROM (
	-- The schema itself stays for golang-migrate's table, so only its grants and comment count.
	SELECT concat_ws(' ', 'schema', nspname, grants(nspacl, 'n', nspowner), obj_description(oid, 'pg_namespace')) FROM namespaces
	WHERE nspname <> 'scheduler' OR grants(nspacl, 'n', nspowner) <> grants(NULL, 'n', nspowner) OR obj_description(oid, 'pg_namespace') IS NOT NULL
	UNION ALL
	SELECT concat_ws(' ', 'relation', name, relkind, relpersistence, relispartition, relrowsecurity, reloptions::text, grants(relacl, CASE relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END, relowner),
		obj_description(oid, 'pg_class'), CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(oid) END,
		pg_get_expr(relpartbound, oid))
	FROM relations
	UNION ALL
	SELECT concat_ws(' ', 'column', r.name, row_number() OVER (PARTITION BY r.oid ORDER BY a.attnum), a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
		a.attgenerated, a.attstorage, a.attstattarget, a.attcollation::regcollation, pg_get_expr(d.adbin, d.adrelid), grants(a.attacl, 'c', r.relowner),
		col_description(r.oid, a.attnum))
	FROM relations r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
	LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
	UNION ALL
	SELECT concat_ws(' ', 'constraint', r.name, k.conname, pg_get_constraintdef(k.oid), k.convalidated, obj_description(k.oid, 'pg_constraint'))
	FROM relations r JOIN pg_constraint k ON k.conrelid = r.oid
	UNION ALL
	SELECT concat_ws(' ', 'index', pg_get_indexdef(i.indexrelid), i.indisvalid)
	FROM relations r JOIN pg_index i ON i.indrelid = r.oid
	UNION ALL
	SELECT concat_ws(' ', 'trigger', pg_get_triggerdef(g.oid), g.tgenabled, obj_description(g.oid, 'pg_trigger'))
	FROM relations r JOIN pg_trigger g ON g.tgrelid = r.oid WHERE NOT g.tgisinternal
	UNION ALL
	SELECT concat_ws(' ', 'policy', r.name, p.polname, p.polroles::regrole[], pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
	FROM relations r JOIN pg_policy p ON p.polrelid = r.oid
	UNION ALL
	SELECT concat_ws(' ', 'statistics', pg_get_statisticsobjdef(s.oid)) FROM pg_statistic_ext s JOIN relations r ON r.oid = s.stxrelid
	UNION ALL
	SELECT concat_ws(' ', 'sequence', s.seqrelid::regclass, s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmax, s.seqcycle)
	FROM pg_sequence s JOIN relations r ON r.oid = s.seqrelid
	UNION ALL
	SELECT concat_ws(' ', CASE prokind WHEN 'a' THEN 'aggregate' ELSE 'function' END, oid::regprocedure,
		CASE WHEN prokind <> 'a' THEN pg_get_functiondef(oid) END, grants(proacl, 'f', proowner), obj_description(oid, 'pg_proc'))
	FROM functions
	UNION ALL
	SELECT concat_ws(' ', 'type', t.oid::regtype, t.typtype, format_type(t.typbasetype, t.typtypmod), t.typnotnull, t.typdefault,
		(SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid),
		(SELECT string_agg(pg_get_constraintdef(k.oid), ',' ORDER BY k.conname) FROM pg_constraint k WHERE k.contypid = t.oid),
		obj_description(t.oid, 'pg_type'))
	FROM pg_type t JOIN namespaces n ON n.oid = t.typnamespace WHERE t.typname NOT LIKE '%schema\_migrations'
	UNION ALL
	SELECT concat_ws(' ', 'extension', extname, extversion) FROM pg_extension
	UNION ALL
	SELECT concat_ws(' ', 'default grant', defaclrole::regrole, defaclnamespace::regnamespace, defaclobjtype, defaclacl::text)
	FROM pg_default_acl
	UNION ALL
	SELECT concat_ws(' ', 'setting', setconfig::text) FROM pg_db_role_setting
	WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
) AS everything(line) ORDER BY line COLLATE "C"`
