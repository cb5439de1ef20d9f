package store

import "io/fs"

// NewMigratorFrom is NewMigrator with other files.
func NewMigratorFrom(url string, files fs.FS) (*Migrator, error) { return newMigrator(url, nil, files) }
