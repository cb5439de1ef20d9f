package store_test

import (
	"context"
	"testing"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
)

// A nonce is used once, also by two connections at the same time.
func TestNonceIsUsedOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	tx := author(t, db, `SELECT scheduler.use_nonce($1, now() + interval '1 hour')`, nonceOf(1))
	second := make(chan error, 1)
	go func() {
		_, err := db.Exec(context.WithoutCancel(t.Context()), `SELECT scheduler.use_nonce($1, now() + interval '1 hour')`, nonceOf(1))
		second <- err
	}()
	blocked(t, db, 1)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-second; !store.IsNonceUsed(err) {
		t.Errorf("the second use: %v", err)
	}
	run(t, db, `SELECT scheduler.use_nonce($1, now() - interval '1 hour')`, nonceOf(2))
	if n := one[int64](t, db, `SELECT scheduler.prune_nonces(100)`); n != 1 {
		t.Errorf("%d nonces pruned, want the one that has expired", n)
	}
}

func nonceOf(n byte) []byte { return append(make([]byte, 15), n) }
