package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// A Setup is how PostgreSQL is run, as far as the program's promises rest on it.
type Setup struct {
	Encoding       string // of the database
	Fsync          bool
	FullPageWrites bool
	Commit         string // synchronous_commit as the server, the database and the role have it
	Synchronous    bool   // commits wait for a standby
	Standbys       int    // that stream; 0 also where the login may not see them
}

// Setup asks for it, with a session that has none of the program's settings.
func (s *Store) Setup(ctx context.Context) (Setup, error) {
	var out Setup
	plain, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig)
	if err != nil {
		return out, fmt.Errorf("connect: %w", err)
	}
	defer closeProbe(ctx, plain)
	err = plain.QueryRow(ctx, `
		SELECT current_setting('server_encoding'), current_setting('fsync')::boolean, current_setting('full_page_writes')::boolean,
		       current_setting('synchronous_commit'), current_setting('synchronous_standby_names') <> '',
		       (SELECT count(*) FROM pg_stat_replication)`, pgx.QueryExecModeExec).
		Scan(&out.Encoding, &out.Fsync, &out.FullPageWrites, &out.Commit, &out.Synchronous, &out.Standbys)
	if err != nil {
		return out, fmt.Errorf("read how the server is run: %w", err)
	}
	return out, nil
}

// A Warning is something about the server that an operator should know.
type Warning struct{ Found, ToDo string }

// Warnings says what is wrong with the way PostgreSQL is run, in the order of
// its weight.
func (u Setup) Warnings() []Warning {
	var out []Warning
	add := func(bad bool, found, toDo string) {
		if bad {
			out = append(out, Warning{found, toDo})
		}
	}
	add(!u.Fsync, "fsync is off: a crash of the machine loses what was committed, or all", "fsync = on in postgresql.conf")
	add(!u.FullPageWrites, "full_page_writes is off: a crash of the machine may damage it", "full_page_writes = on, unless the file system promises whole pages")
	add(u.Encoding != "UTF8", "the database's encoding is "+u.Encoding+", not UTF8: some texts cannot be stored, others be cut inside a character",
		"dump it, make it anew with: createdb --encoding=UTF8 --template=template0, and restore")
	add(u.Synchronous && (u.Commit == "local" || u.Commit == "off"), "there is a synchronous standby, and this role's synchronous_commit is "+u.Commit+
		": commits of other programs do not wait for it; the scheduler's own do", "ALTER ROLE … RESET synchronous_commit")
	add(!u.Synchronous && u.Standbys > 0, fmt.Sprintf("its standbys are asynchronous (%d): a failover may lose what was committed last; daemons that live write their part again", u.Standbys),
		"synchronous_standby_names, where nothing may be lost")
	return out
}
