// Package migrations holds the database schema as numbered pairs of plain SQL
// files, NNNNNN_title.up.sql and NNNNNN_title.down.sql, embedded in the binary.
//
// The rules every file keeps:
//
//   - It runs as one transaction, without a BEGIN or COMMIT of its own: an
//     explicit BEGIN in a file that fails would leave its connection unusable.
//   - The last statement of an up file is SELECT scheduler.set_schema_version(N),
//     that of a down file SELECT scheduler.set_schema_version(N-1). The function
//     comes with 000001; the down file of 000001 does the same by hand. So the
//     schema itself knows, in the same transaction, what was applied, and a mark
//     left by a killed migration can be told from an applied one.
//   - It needs nothing but PostgreSQL 14: each file may be given to psql, which
//     is then told to make it one transaction: psql -1 -v ON_ERROR_STOP=1 -f FILE.
//   - A file that has been released is never edited; a correction is a new pair.
package migrations

import "embed"

// FS holds the migration files at its root.
//
//go:embed *.sql
var FS embed.FS
