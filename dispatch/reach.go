package dispatch

import "context"

// A Reacher is a Pusher that can try the way to its push API: it connects as a
// push does, by the same rules, and sends nothing. The error never holds a
// secret.
type Reacher interface {
	Reach(ctx context.Context) error
}
