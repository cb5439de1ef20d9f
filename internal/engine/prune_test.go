package engine_test

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/campaign-scheduler/scheduler/internal/engine"
	"github.com/campaign-scheduler/scheduler/store"
)

// record is a rig with decided tasks: 1 and 2 are old, 3 is old and unknown, 4
// is young.
func record(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	r.app(t, "shop", "webhook", nil)
	campaign := r.insert(t, "shop", "webhook", 1, fixed(time.Now().Add(time.Hour)))
	r.run(t, `UPDATE scheduler.campaigns SET name = E'spring,\n"sale"' WHERE id = $1`, campaign)
	r.run(t, `INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, started_at, sent_at, decided_at,
			attempts, slices, accepted, target_count, daemon_id, reason, code, request_id, message_id, targets)
		SELECT n, (SELECT app_no FROM scheduler.apps WHERE app_id = 'shop'), CASE n WHEN 2 THEN 99 ELSE $1 END, 1, (SELECT channel_no FROM scheduler.channels WHERE channel = 'webhook'), 'scheduled',
			CASE n WHEN 1 THEN 'succeeded' WHEN 3 THEN 'unknown' ELSE 'failed' END::scheduler.decision,
			timestamptz '2026-01-01 09:00Z' + n * interval '1 s', '2026-01-01 09:00:01.5Z', '2026-01-01 09:00:01.75Z',
			CASE n WHEN 4 THEN clock_timestamp() ELSE '2026-01-01 09:00:02Z' END, 1, CASE n WHEN 2 THEN 2 ELSE 1 END, (n = 1)::integer, n, 7,
			CASE WHEN n <> 1 THEN 'refused: "no"' END, CASE WHEN n <> 1 THEN '=E' || n END, 'r-' || n, 'm-' || n, CASE WHEN n = 1 THEN '{ann,"b,ob"}'::text[] END
		  FROM generate_series(1, 4) n`, campaign)
	r.run(t, `WITH delivery AS (
			INSERT INTO scheduler.slices (task_id, slice_no, app_no, campaign_id, status, ready_at, attempts, reason, sent_at, finished_at)
			SELECT task, n, 1, 99, 'failed', now(), 1, 'no', '2026-01-01 09:00:01Z', '2026-01-01 09:00:02Z'
			  FROM unnest('{2,4}'::int[]) task, generate_series(1, 2) n RETURNING id, slice_no)
		INSERT INTO scheduler.slice_targets (slice_id, targets) SELECT id, ARRAY['u' || slice_no] FROM delivery`)
	return r
}

func exported(t *testing.T, dir string) (name, text string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, %v; want one", files, err)
	}
	content, err := os.ReadFile(filepath.Join(dir, files[0].Name()))
	if err != nil {
		t.Fatal(err)
	}
	return files[0].Name(), string(content)
}

func golden(t *testing.T, name string) string {
	t.Helper()
	a, err := txtar.ParseFile("testdata/export.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range a.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	t.Fatalf("no %s in the golden file", name)
	return ""
}

// TestPruneExports removes what is old, having written it, and leaves what is
// young or waits for a ruling.
func TestPruneExports(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"ndjson", "csv"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			r, dir := record(t), filepath.Join(t.TempDir(), "made", "by", "pruner")
			retention := engine.Retention{Age: 24 * time.Hour, Dir: dir, Format: format}
			for range 2 { // the second has nothing to do
				if err := engine.NewPruner(r.store, r.log, retention).Pass(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if d := cmp.Diff([]int64{3, 4}, list[int64](t, r, `SELECT id FROM scheduler.decided_tasks ORDER BY id`)); d != "" {
				t.Errorf("tasks left (-want +got):\n%s", d)
			}
			if d := cmp.Diff([]int64{4, 4}, list[int64](t, r, `SELECT task_id FROM scheduler.slices`)); d != "" {
				t.Errorf("deliveries left (-want +got):\n%s", d)
			}
			name, text := exported(t, dir)
			if !strings.HasSuffix(name, "."+format) {
				t.Errorf("file %s", name)
			}
			if d := cmp.Diff(golden(t, format), text); d != "" {
				t.Errorf("file (-want +got):\n%s", d)
			}
			switch format {
			case "csv":
				if records, err := csv.NewReader(strings.NewReader(text)).ReadAll(); err != nil || len(records) != 3 {
					t.Errorf("%d records, %v", len(records), err)
				}
			default:
				for line := range strings.Lines(text) {
					if !json.Valid([]byte(line)) {
						t.Errorf("no JSON: %s", line)
					}
				}
			}
		})
	}
}

// TestPruneKeepsWhatItCannotExport holds the order: durable elsewhere first.
func TestPruneKeepsWhatItCannotExport(t *testing.T) {
	t.Parallel()
	r := record(t)
	dir := filepath.Join(t.TempDir(), "a file")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := engine.NewPruner(r.store, r.log, engine.Retention{Age: time.Hour, Dir: dir, Format: "csv"}).Pass(t.Context()); err == nil {
		t.Error("no error from a directory that is none")
	}
	full := errors.New("no space left")
	if n, err := r.store.Prune(t.Context(), time.Now(), 0, 100, func([]store.Pruned) error { return full }); n != 0 || !errors.Is(err, full) {
		t.Errorf("%d removed, error %v", n, err)
	}
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.decided_tasks`); n != 4 {
		t.Errorf("%d tasks left, want all 4", n)
	}
}

func TestPruneWithoutExport(t *testing.T) {
	t.Parallel()
	r := record(t)
	if err := engine.NewPruner(r.store, r.log, engine.Retention{}).Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.decided_tasks`); n != 4 {
		t.Errorf("%d tasks left without a retention, want all 4", n)
	}
	if err := engine.NewPruner(r.store, r.log, engine.Retention{Age: time.Hour}).Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.decided_tasks`); n != 2 {
		t.Errorf("%d tasks left, want 2", n)
	}
}

// TestPrunersTakeTurns lets a second pruner come while the first one exports.
func TestPrunersTakeTurns(t *testing.T) {
	t.Parallel()
	r := record(t)
	_, err := r.store.Prune(t.Context(), time.Now().Add(-time.Hour), 0, 100, func(tasks []store.Pruned) error {
		n, err := r.store.Prune(t.Context(), time.Now(), 0, 100, func([]store.Pruned) error {
			t.Error("a second pruner exports at the same time")
			return nil
		})
		if len(tasks) != 2 || n != 0 {
			t.Errorf("%d tasks exported, %d removed meanwhile", len(tasks), n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Fault 20: what only the engine needed is looked at once an hour, however often
// the pruner passes.
func TestBooksArePrunedHourly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := engine.NewPruner(r.store, r.log, engine.Retention{})
	old := func() {
		r.run(t, `INSERT INTO scheduler.daemons (name, version, leased_until, ended_at) VALUES ('old', '', now() - interval '31 days', now() - interval '31 days')`)
	}
	old()
	for _, c := range []struct {
		name  string
		after time.Duration // the pass before
		left  int
	}{
		{"the first pass", 0, 0},
		{"a minute later", time.Minute, 1},
		{"59 minutes later", 58 * time.Minute, 1},
		{"an hour later", time.Minute, 0},
	} {
		p.Later(c.after)
		if err := p.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := get[int](t, r, `SELECT count(*) FROM scheduler.daemons`); n != c.left {
			t.Errorf("%s: %d daemons that ended long ago are left, want %d", c.name, n, c.left)
		}
		if c.left == 0 {
			old()
		}
	}
}
