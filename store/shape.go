package store

import (
	"context"
	_ "embed" // the shape
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// shape lists the parts of the schema of this program's version, one a line. It
// is written by: go test ./store -run TestSchemaShape -update
//
//go:embed shape.txt
var shape string

// ErrSchemaDiffers says that the schema has the right version but lacks parts
// of it. An unfinished build of this program may have migrated it.
var ErrSchemaDiffers = errors.New("the schema is not what its version says")

// A ShapeDifference lists the parts that a schema lacks or has in another form.
// Additional parts are its owner's affair and are not listed.
type ShapeDifference struct {
	Missing []string // tables, columns, functions, triggers, values of types
	Changed []string // functions with another text, columns of another type
}

// Shape compares the schema with the shape of its version.
func (s *Store) Shape(ctx context.Context) (ShapeDifference, error) {
	lines, err := s.shapeLines(ctx)
	if err != nil {
		return ShapeDifference{}, err
	}
	have := make(map[string]string, len(lines))
	for _, line := range lines {
		thing, form, _ := strings.Cut(line, " = ")
		have[thing] = form
	}
	var d ShapeDifference
	for line := range strings.Lines(shape) {
		thing, form, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " = ")
		switch is, ok := have[thing]; {
		case !ok:
			d.Missing = append(d.Missing, thing)
		case is != form:
			d.Changed = append(d.Changed, thing)
		}
	}
	return d, nil
}

// CheckShape returns ErrSchemaDiffers where a part of the schema is missing,
// else nil.
func (s *Store) CheckShape(ctx context.Context) error {
	d, err := s.Shape(ctx)
	if err != nil || len(d.Missing) == 0 {
		return err
	}
	return fmt.Errorf("%w: it lacks %s", ErrSchemaDiffers, some(d.Missing))
}

// some joins the first few names.
func some(things []string) string {
	if n := len(things) - 5; n > 0 {
		return strings.Join(things[:5], ", ") + fmt.Sprintf(" and %d more", n)
	}
	return strings.Join(things, ", ")
}

// String lists the differences in words.
func (d ShapeDifference) String() string {
	var parts []string
	if len(d.Missing) > 0 {
		parts = append(parts, "it lacks "+some(d.Missing))
	}
	if len(d.Changed) > 0 {
		parts = append(parts, "another form have "+some(d.Changed))
	}
	return strings.Join(parts, "; ")
}

// shapeLines describes the schema in a way that is the same for every version
// of PostgreSQL and every owner.
func (s *Store) shapeLines(ctx context.Context) ([]string, error) {
	rows, _ := s.db.Query(ctx, `
		WITH relation AS (
			SELECT c.oid, c.relname, c.relkind, c.relpersistence FROM pg_class c
			 WHERE c.relnamespace = to_regnamespace('scheduler') AND c.relkind IN ('r', 'v', 'm', 'S', 'p') AND c.relname <> 'schema_migrations'
		)
		SELECT format('%s %s = %s', CASE relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'view' WHEN 'S' THEN 'sequence' ELSE 'table' END, relname, relpersistence) FROM relation
		 UNION ALL
		SELECT format('column %s.%s = %s%s', r.relname, a.attname, format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN ' not null' END)
		  FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped WHERE r.relkind <> 'S'
		 UNION ALL
		SELECT format('function %s(%s) = %s', p.proname, pg_get_function_identity_arguments(p.oid), md5(replace(coalesce(p.prosrc, ''), E'\r', '')))
		  FROM pg_proc p WHERE p.pronamespace = to_regnamespace('scheduler')
		 UNION ALL
		SELECT format('trigger %s.%s = %s', r.relname, t.tgname, t.tgfoid::regproc) FROM relation r JOIN pg_trigger t ON t.tgrelid = r.oid WHERE NOT t.tgisinternal
		 UNION ALL
		SELECT format('value %s.%s = ', t.typname, e.enumlabel) FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid WHERE t.typnamespace = to_regnamespace('scheduler')
		 UNION ALL
		SELECT format('index %s = ', i.indexrelid::regclass) FROM relation r JOIN pg_index i ON i.indrelid = r.oid WHERE r.relkind <> 'S'`)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read the schema's shape: %w", err)
	}
	slices.Sort(lines)
	return lines, nil
}
