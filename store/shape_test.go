package store_test

import (
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
)

var update = flag.Bool("update", false, "write the shape of the schema anew")

// TestSchemaShape holds the file to the migrations.
func TestSchemaShape(t *testing.T) {
	t.Parallel()
	s, err := store.Open(t.Context(), store.Config{URL: pgtest.New(t).URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	lines, err := s.ShapeLines(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(lines, "\n") + "\n"
	if *update {
		if err := os.WriteFile("shape.txt", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile("shape.txt")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("shape.txt is not what the migrations make; go test ./store -run TestSchemaShape -update (-file +migrations):\n%s", d)
	}
}

// TestVersionWithoutItsContents is a schema with the right version whose
// contents are another build's.
func TestVersionWithoutItsContents(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change  string
		missing bool
		want    string
	}{
		"a column":       {`ALTER TABLE scheduler.daemons DROP COLUMN recognised`, true, "column daemons.recognised"},
		"a trigger":      {`DROP TRIGGER recognised ON scheduler.claims`, true, "trigger claims.recognised"},
		"another text":   {`CREATE OR REPLACE FUNCTION scheduler.seal() RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'x' $$`, false, "function seal()"},
		"something more": {`CREATE INDEX mine ON scheduler.daemons (name)`, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			run(t, db, c.change)
			s, err := store.Open(t.Context(), store.Config{URL: db.URL})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Close)
			d, err := s.Shape(t.Context())
			if err != nil || !strings.Contains(d.String(), c.want) || (c.want == "") != (d.String() == "") {
				t.Errorf("%q, %v; want %q", d, err, c.want)
			}
			if err := s.CheckShape(t.Context()); errors.Is(err, store.ErrSchemaDiffers) != c.missing {
				t.Errorf("%v", err)
			}
		})
	}
}
