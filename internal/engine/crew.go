package engine

import (
	"context"
	"sync"
)

// A crew runs calls, each in a goroutine that is kept for the next one: a call
// needs a deep stack, and a new goroutine would have to grow one each time. There
// are as many goroutines as there were calls at once. It is safe for concurrent
// use.
type crew struct {
	next   chan func() // to one that is free
	leave  chan struct{}
	faults *faults        // told of panics
	under  sync.WaitGroup // calls
	all    sync.WaitGroup // goroutines
}

func newCrew() *crew { return &crew{next: make(chan func()), leave: make(chan struct{})} }

// Go begins a call. It does not wait.
func (c *crew) Go(call func()) {
	c.under.Add(1)
	select {
	case c.next <- call:
	default:
		c.all.Go(func() { c.work(call) })
	}
}

func (c *crew) work(call func()) {
	for {
		c.make(call)
		select {
		case call = <-c.next:
		case <-c.leave:
			return
		}
	}
}

// make makes a call. A panic ends that call and nothing else: its intent is
// stored, and its outcome is ruled on as unknown.
func (c *crew) make(call func()) {
	defer c.under.Done()
	defer func() {
		if r := recover(); r != nil {
			c.faults.caught(context.Background(), faultCall, r)
		}
	}()
	call()
}

// Wait returns when no call is under way.
func (c *crew) Wait() { c.under.Wait() }

// Dismiss ends the goroutines once no call is under way. No call may begin any
// more.
func (c *crew) Dismiss() {
	c.under.Wait()
	close(c.leave)
	c.all.Wait()
}
