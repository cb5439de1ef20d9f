package api

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"math"
	"slices"
	"sync"

	"golang.org/x/time/rate"

	"github.com/campaign-scheduler/scheduler/internal/aliyun"
)

// A Client is an access key and the database role whose rights its calls have.
// Two keys may have the same role, so that a key can be replaced without a gap.
type Client struct {
	AccessKeyID, AccessKeySecret string
	SecurityToken                string // empty: none is asked for
	Role                         string
}

// NewAccessKey makes a key that nobody guesses: 20 characters of id, 32 of secret.
func NewAccessKey() (id, secret string) {
	const idLength, secretLength = 20, 32
	return "CS" + rand.Text()[:idLength-2], (rand.Text() + rand.Text())[:secretLength]
}

// A keyring holds the clients by their key. All may be replaced at once while
// calls are answered.
type keyring struct {
	mu   sync.RWMutex
	keys map[string]*client
}

type client struct {
	Client
	key   *aliyun.Key
	limit *rate.Limiter
}

// SetClients replaces the clients. A call under way ends with the key with
// which it began. A key that stays keeps the state of its bound.
func (s *Server) SetClients(clients []Client, callsPerSecond float64) {
	limit, burst := rate.Limit(callsPerSecond), int(math.Ceil(callsPerSecond))
	if callsPerSecond == 0 {
		limit, burst = rate.Inf, 1
	}
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	keys := make(map[string]*client, len(clients))
	for _, c := range clients {
		if old := s.keys.keys[c.AccessKeyID]; old != nil && old.Client == c {
			old.limit.SetLimit(limit)
			old.limit.SetBurst(burst)
			keys[c.AccessKeyID] = old
			continue
		}
		keys[c.AccessKeyID] = &client{
			Client: c, key: aliyun.NewKey(c.AccessKeyID, c.AccessKeySecret, c.SecurityToken), limit: rate.NewLimiter(limit, burst),
		}
	}
	s.keys.keys = keys
}

func (k *keyring) find(id string) *aliyun.Key {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if c := k.keys[id]; c != nil {
		return c.key
	}
	return nil
}

// role returns the role of a key that verified a call, and its bound. For a key that
// was removed since, it returns an empty role, which no database has.
func (k *keyring) role(key *aliyun.Key) (string, *rate.Limiter) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if c := k.keys[key.ID]; c != nil && c.key == key {
		return c.Role, c.limit
	}
	return "", rate.NewLimiter(0, 0)
}

func (k *keyring) roles() []string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	var roles []string
	for _, c := range k.keys {
		roles = append(roles, c.Role)
	}
	slices.SortFunc(roles, cmp.Compare)
	return slices.Compact(roles)
}

// nonceHash returns the hash under which the database keeps a nonce. Nonces of
// different access keys do not meet.
func nonceHash(keyID, nonce string) (out [16]byte) {
	sum := sha256.Sum256([]byte(keyID + "\n" + nonce))
	copy(out[:], sum[:])
	return out
}
