package store_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
)

// TestWarningsOfTheServer judges how PostgreSQL is run.
func TestWarningsOfTheServer(t *testing.T) {
	t.Parallel()
	good := store.Setup{Encoding: "UTF8", Fsync: true, FullPageWrites: true, Commit: "on"}
	for name, c := range map[string]struct {
		change func(*store.Setup)
		want   string // empty: nothing
	}{
		"as it should be":        {func(*store.Setup) {}, ""},
		"fsync":                  {func(u *store.Setup) { u.Fsync = false }, "fsync is off"},
		"full_page_writes":       {func(u *store.Setup) { u.FullPageWrites = false }, "full_page_writes is off"},
		"encoding":               {func(u *store.Setup) { u.Encoding = "SQL_ASCII" }, "encoding is SQL_ASCII"},
		"synchronous, local":     {func(u *store.Setup) { u.Synchronous, u.Standbys, u.Commit = true, 1, "local" }, "synchronous_commit is local"},
		"synchronous":            {func(u *store.Setup) { u.Synchronous, u.Standbys = true, 1 }, ""},
		"asynchronous":           {func(u *store.Setup) { u.Standbys = 2 }, "asynchronous (2)"},
		"commit off, no standby": {func(u *store.Setup) { u.Commit = "off" }, ""}, // the program sets its own
	} {
		u := good
		c.change(&u)
		got := fmt.Sprint(u.Warnings())
		if (c.want == "") != (len(u.Warnings()) == 0) || !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %q", name, got, c.want)
		}
	}
}

// TestDatabaseThatIsNotUTF8 is told of by the migrator and in the setup.
func TestDatabaseThatIsNotUTF8(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	name := one[string](t, db, `SELECT current_database()`) + "_ascii"
	run(t, db, `CREATE DATABASE `+name+` ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'`)
	t.Cleanup(func() { _, _ = db.Exec(context.WithoutCancel(t.Context()), `DROP DATABASE `+name+` WITH (FORCE)`) })
	u, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	var said bytes.Buffer
	m, err := store.NewMigrator(u.String(), slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Up(t.Context()); err != nil || !strings.Contains(said.String(), "encoding=SQL_ASCII") {
		t.Errorf("%v: %s", err, said.String())
	}
	s, err := store.Open(t.Context(), store.Config{URL: u.String()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	setup, err := s.Setup(t.Context())
	if err != nil || setup.Encoding != "SQL_ASCII" {
		t.Errorf("%+v, %v", setup, err)
	}
}
