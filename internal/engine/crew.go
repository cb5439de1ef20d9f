package engine

import "sync"

// A crew runs calls, each in a goroutine that is kept for the next one: a call
// needs a deep stack, and a new goroutine would have to grow one each time. There
// are as many goroutines as there were calls at once. It is safe for concurrent
// use.
type crew struct {
	next  chan func() // to one that is free
	leave chan struct{}
	under sync.WaitGroup // calls
	all   sync.WaitGroup // goroutines
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
		call()
		c.under.Done()
		select {
		case call = <-c.next:
		case <-c.leave:
			return
		}
	}
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
