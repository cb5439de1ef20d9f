package sandbox

import (
	"hash/maphash"
	"sync"
)

const (
	nonceShards = 64
	// nonceShardSize bounds memory: at least nonceShards × nonceShardSize
	// nonces are remembered, and at most twice as many, in about 50 MB.
	nonceShardSize = 16 << 10
)

// nonces remembers the nonces of late, by their hash. Replays of very old
// requests are refused by their timestamp.
type nonces struct {
	seed   maphash.Seed
	shards [nonceShards]nonceShard
}

type nonceShard struct {
	mu           sync.Mutex
	young, older map[uint64]struct{}
}

func newNonces() *nonces { return &nonces{seed: maphash.MakeSeed()} }

// use takes a nonce for an owner and reports whether it was free.
func (n *nonces) use(owner, nonce []byte) bool {
	var h maphash.Hash
	h.SetSeed(n.seed)
	_, _ = h.Write(owner)
	_ = h.WriteByte(0)
	_, _ = h.Write(nonce)
	key := h.Sum64()
	return n.shards[key%nonceShards].use(key)
}

func (s *nonceShard) use(key uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, used := s.young[key]; used {
		return false
	}
	if _, used := s.older[key]; used {
		return false
	}
	if s.young == nil || len(s.young) >= nonceShardSize {
		s.older, s.young = s.young, make(map[uint64]struct{})
	}
	s.young[key] = struct{}{}
	return true
}
