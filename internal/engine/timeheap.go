package engine

import "time"

// A timeHeap holds an app's line each, the one first that wants to be looked at
// first. It is used through container/heap, and each element knows its index in it,
// so that one that has changed can be fixed or removed.
type timeHeap[T timed] []T

// A timed is what a timeHeap holds.
type timed interface {
	at() time.Time // when it wants to be looked at
	setIndex(int)  // where it is in the heap; -1: it is not there
}

func (h timeHeap[T]) Len() int           { return len(h) }
func (h timeHeap[T]) Less(i, j int) bool { return h[i].at().Before(h[j].at()) }
func (h timeHeap[T]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].setIndex(i)
	h[j].setIndex(j)
}

// Push implements heap.Interface.
func (h *timeHeap[T]) Push(x any) {
	e := x.(T)
	e.setIndex(len(*h))
	*h = append(*h, e)
}

// Pop implements heap.Interface.
func (h *timeHeap[T]) Pop() any {
	var none T
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = none
	*h = old[:len(old)-1]
	e.setIndex(-1)
	return e
}
