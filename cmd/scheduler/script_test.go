package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
)

// scriptNow is the clock of every script: a Thursday.
var scriptNow = time.Date(2026, time.January, 1, 12, 0, 0, 0, time.UTC)

// TestMain lets the scripts run this program as "scheduler".
func TestMain(m *testing.M) {
	testscript.Main(tests{m}, map[string]func(){"scheduler": func() {
		p := &program{
			environ: os.Environ(), stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
			now: func() time.Time { return scriptNow },
		}
		os.Exit(p.run(context.Background(), os.Args[1:]))
	}})
}

// tests runs what pgtest.Main would, and lets testscript clean up after it.
type tests struct{ m *testing.M }

func (t tests) Run() (code int) {
	pgtest.Main(t.m, goleak.Cleanup(func(status int) { code = status }))
	return code
}

// TestScripts runs testdata/script: each file is a session at the shell. Set
// UPDATE_SCRIPTS to write the outputs that cmp compares anew.
func TestScripts(t *testing.T) {
	t.Parallel()
	runScripts(t, "testdata/script", func(*testing.T, *testscript.Env) {})
}

// TestDatabaseScripts runs testdata/database, where DATABASE_URL is a database of
// the session's own with every migration applied, and testdata/empty, where it is an
// empty one.
func TestDatabaseScripts(t *testing.T) {
	t.Parallel()
	for dir, newDB := range map[string]func(testing.TB) *pgtest.DB{
		"testdata/database": pgtest.New,
		"testdata/empty":    pgtest.NewEmpty,
	} {
		runScripts(t, dir, func(t *testing.T, env *testscript.Env) {
			t.Helper()
			db := newDB(t)
			env.Values[databaseKey{}] = db
			env.Setenv("DATABASE_URL", db.URL)
		})
	}
}

func runScripts(t *testing.T, dir string, setup func(*testing.T, *testscript.Env)) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts in %s: %v", dir, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			testscript.Run(t, testscript.Params{
				Files:               []string{file},
				RequireExplicitExec: true,
				UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
				Setup: func(env *testscript.Env) error {
					env.Setenv("GORACE", "atexit_sleep_ms=0") // else each command waits a second before it ends
					setup(t, env)
					return nil
				},
				Cmds: map[string]func(*testscript.TestScript, bool, []string){"status": status, "sql": sql},
			})
		})
	}
}

// status N COMMAND...: the command ends with that exit status.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N COMMAND [ARGS]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

type databaseKey struct{}

// sql FILE: runs the file's statements in the session's database.
func sql(ts *testscript.TestScript, neg bool, args []string) {
	db, ok := ts.Value(databaseKey{}).(*pgtest.DB)
	if neg || len(args) != 1 || !ok {
		ts.Fatalf("usage: sql FILE, with a database")
	}
	pooled, err := db.Acquire(context.Background())
	ts.Check(err)
	conn := pooled.Hijack() // it ends with whatever the file has set
	defer conn.Close(context.Background())
	_, err = conn.Exec(context.Background(), ts.ReadFile(args[0]))
	ts.Check(err)
}
