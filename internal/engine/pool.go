package engine

import (
	"context"
	"sync"
)

// A pool runs calls, each in a goroutine that is kept for the next one: a call
// needs a deep stack, and a new goroutine would have to grow one each time. There
// are as many goroutines as there were calls at once. It is safe for concurrent
// use.
type pool struct {
	next   chan func() // to one that is free
	leave  chan struct{}
	faults *faults        // told of panics
	under  sync.WaitGroup // calls
	all    sync.WaitGroup // goroutines
}

func newPool(f *faults) *pool {
	return &pool{next: make(chan func()), leave: make(chan struct{}), faults: f}
}

// Go begins a call. It does not wait.
func (p *pool) Go(call func()) {
	p.under.Add(1)
	select {
	case p.next <- call:
	default:
		p.all.Go(func() { p.work(call) })
	}
}

func (p *pool) work(call func()) {
	for {
		p.make(call)
		select {
		case call = <-p.next:
		case <-p.leave:
			return
		}
	}
}

// make makes a call. A panic ends that call and nothing else: its intent is
// stored, and its outcome is ruled on as unknown.
func (p *pool) make(call func()) {
	defer p.under.Done()
	defer func() {
		if r := recover(); r != nil {
			p.faults.caught(context.Background(), faultCall, r)
		}
	}()
	call()
}

// Wait returns when no call is under way.
func (p *pool) Wait() { p.under.Wait() }

// Dismiss ends the goroutines once no call is under way. No call may begin any
// more.
func (p *pool) Dismiss() {
	p.under.Wait()
	close(p.leave)
	p.all.Wait()
}
