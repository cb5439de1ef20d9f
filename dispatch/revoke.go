package dispatch

import "context"

// A Revocation asks a provider to take back what it accepted in one delivery.
type Revocation struct {
	// DeliveryID is the delivery's, as its Push had it.
	DeliveryID string
	// MessageID and RequestID are what the provider answered then; either may be
	// empty.
	MessageID, RequestID string
	// Target is the one receiver to take it back from; empty: all of them.
	Target string
}

// A Revoker is a Pusher whose provider can take messages back. A Pusher that is
// none says that its provider cannot.
//
// Revoke makes one call and classes its outcome as Push does: accepted is that the
// provider took the revocation, which says nothing of devices that have shown the
// message already. It may be called again with the same Revocation.
type Revoker interface {
	Revoke(ctx context.Context, r *Revocation) Outcome
}
