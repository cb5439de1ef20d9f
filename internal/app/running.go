package app

import (
	"errors"
	"path/filepath"

	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/embedpg"
)

// ErrNoDatabase says that no database is named and no embedded one runs.
var ErrNoDatabase = errors.New("no database is named, and no daemon runs one in data_dir")

// DatabaseURL is where the commands beside serve find the database: the
// configured one, else the embedded one of a daemon that runs on the same
// data_dir. It may hold a password.
func DatabaseURL(c *config.Config) (string, error) {
	if url := c.Database.URL.Reveal(); url != "" {
		return url, nil
	}
	if url, ok := embedpg.Running(filepath.Join(c.DataDir, "postgres"), databaseName); ok {
		return url, nil
	}
	return "", ErrNoDatabase
}
