package store

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// OccurrencesSQL is for the test that holds it to package strategy.
const OccurrencesSQL = occurrencesSQL

// TaskListSteps shows the statements of a list.
func (s *Store) TaskListSteps(ctx context.Context, f Filter, step func(tx pgx.Tx, sql string, args []any) (enough bool, err error)) error {
	return s.taskListSteps(ctx, f, step)
}
