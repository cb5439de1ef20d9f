package engine

import "time"

// A timeHeap holds queues of apps, the one with the earliest time first. It is used
// through container/heap. Each element knows its index in the heap, so that an
// element whose time has changed can be moved or removed.
type timeHeap[T timed] []T

// A timed is an element of a timeHeap.
type timed interface {
	at() time.Time // when the element is due for a look
	setIndex(int)  // i is the element's index in the heap; -1: it is not there
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
