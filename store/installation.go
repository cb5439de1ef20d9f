package store

import (
	"context"
	"fmt"
)

// Keys are what names an installation's messages.
type Keys struct {
	Installation     string
	Campaigns, Tasks int64 // up to these numbers what was sent is without the installation
	Range            int   // of the numbers that campaigns, tasks and deliveries get
}

// Keys reads how the installation names its messages. The first daemon makes the
// installation's row, when it enlists.
func (s *Store) Keys(ctx context.Context) (Keys, error) {
	var k Keys
	err := s.pool.QueryRow(ctx, `SELECT key, keyed_campaigns, keyed_tasks, id_range FROM scheduler.installation`).Scan(&k.Installation, &k.Campaigns, &k.Tasks, &k.Range)
	if err != nil {
		return Keys{}, fmt.Errorf("read the installation's keys: %w", err)
	}
	return k, nil
}
