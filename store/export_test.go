package store

import (
	"context"
	"io/fs"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// OccurrencesSQL is for the test that holds it to package strategy.
const OccurrencesSQL = occurrencesSQL

// PageSteps shows the statements of a page of tasks; step says how many they found.
func (s *Store) PageSteps(ctx context.Context, f Filter, patience time.Duration, step func(tx pgx.Tx, sql string, args []any) (found int, err error)) (downTo time.Time, err error) {
	f.patience = patience
	err = s.read(ctx, "list tasks", func(tx pgx.Tx) error {
		downTo, err = f.pageIDs(ctx, tx, func(sql string, args []any) (int, error) { return step(tx, sql, args) })
		return err
	})
	return downTo, err
}

// NamedTargetsSQL is for the test of its plan.
const NamedTargetsSQL = namedTargetsSQL

// Explain returns the plan of a statement as the store's sessions make it.
func (s *Store) Explain(ctx context.Context, sql string, args ...any) (string, error) {
	rows, _ := s.db.Query(ctx, "EXPLAIN "+sql, args...)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return strings.Join(lines, "\n"), err
}

// Setting returns a setting of the store's sessions.
func (s *Store) Setting(ctx context.Context, name string) (value string, err error) {
	err = s.db.QueryRow(ctx, `SELECT current_setting($1)`, name).Scan(&value)
	return value, err
}

// OnlyPrimary says whether connections are taken only where writes are.
func (s *Store) OnlyPrimary() bool { return s.pool.Config().ConnConfig.ValidateConnect != nil }

// ShapeLines describes the schema.
func (s *Store) ShapeLines(ctx context.Context) ([]string, error) { return s.shapeLines(ctx) }

// IsSessionLost says whether err means that a pooler took the session's
// settings away.
func IsSessionLost(err error) bool { return sqlState(err) == sessionLost }

// IsNonceUsed is for the test of two calls with one nonce.
func IsNonceUsed(err error) bool { return isNonceUsed(err) }

// LengthOf returns the length of an interval as the daemon counts it.
func LengthOf(v pgtype.Interval) (time.Duration, error) {
	var d interval
	err := d.ScanInterval(v)
	return time.Duration(d), err
}

// WholeAuditSQL is the statement of ListAudit without a campaign or task.
var WholeAuditSQL = wholeAuditSQL

// NewMigratorFrom is NewMigrator with other files.
func NewMigratorFrom(url string, files fs.FS) (*Migrator, error) { return newMigrator(url, nil, files) }
