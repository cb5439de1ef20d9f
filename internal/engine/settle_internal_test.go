package engine

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// Fault 1: a statement that takes too long takes fewer rows the next time, and is
// told of once when it is the second in a row.
func TestFault1BatchesAreHalved(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, nil))
	b := batch{doing: "count sheep", rows: 5000, most: 5000}
	tooLong := fmt.Errorf("place: %w", context.DeadlineExceeded)
	cancelled := fmt.Errorf("place: %w", &pgconn.PgError{Code: "57014"}) // by the server's statement_timeout
	for i, c := range []struct {
		err            error
		rows, warnings int
	}{{tooLong, 2500, 0}, {tooLong, 1250, 1}, {tooLong, 625, 1}, {nil, 1250, 1}, {nil, 2500, 1}, {nil, 5000, 1}, {nil, 5000, 1}, {tooLong, 2500, 1}, {tooLong, 1250, 2}, {cancelled, 625, 2}} {
		b.over(t.Context(), log, c.err)
		if n := strings.Count(text.String(), "count sheep"); b.rows != c.rows || n != c.warnings {
			t.Errorf("step %d: %d rows, %d warnings; want %d, %d", i, b.rows, n, c.rows, c.warnings)
		}
	}
}
