package engine

import "sync"

// A taskSet holds ids of tasks and is safe for concurrent use.
type taskSet struct {
	mu  sync.Mutex
	ids map[int64]bool
}

func (s *taskSet) add(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids[id] = true
}

func (s *taskSet) remove(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ids, id)
}

func (s *taskSet) has(id int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ids[id]
}
