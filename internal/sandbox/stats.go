package sandbox

import (
	"sync/atomic"
	"time"
)

// Stats are the counters since the start.
type Stats struct {
	StartedAt time.Time `json:"started_at"`
	Uptime    Span      `json:"uptime"`
	LastSeq   uint64    `json:"last_seq"` // of the journal; see /_sandbox/journal?since=
	InFlight  int64     `json:"in_flight"`
	// MaxInFlight is the most calls ever in flight at once.
	MaxInFlight int64               `json:"max_in_flight"`
	Calls       uint64              `json:"calls"`
	Accepted    uint64              `json:"accepted"`
	Refused     uint64              `json:"refused"`
	BadSign     uint64              `json:"bad_signatures"`
	QuotaOver   uint64              `json:"quota_exceeded"` // calls beyond a weekly quota
	AnswersLost uint64              `json:"answers_lost"`   // the client went away first
	Targets     uint64              `json:"targets"`        // of accepted calls
	APIs        map[string]APIStats `json:"apis"`
	Faults      map[string]uint64   `json:"faults"`
}

// APIStats are the counters of one API.
type APIStats struct {
	Accepted uint64 `json:"accepted"`
	Refused  uint64 `json:"refused"`
}

type stats struct {
	started               time.Time
	inFlight, maxInFlight atomic.Int64
	accepted, refused     [apiCount]atomic.Uint64
	faults                [16]atomic.Uint64 // by the index in faultKinds
	badSign, quota, lost  atomic.Uint64
	targets               atomic.Uint64
}

func (s *stats) begin() {
	n := s.inFlight.Add(1)
	for {
		top := s.maxInFlight.Load()
		if n <= top || s.maxInFlight.CompareAndSwap(top, n) {
			return
		}
	}
}

func (s *stats) end() { s.inFlight.Add(-1) }

func (s *stats) count(c *call) {
	if c.outcome == Accepted {
		s.accepted[c.api].Add(1)
		s.targets.Add(uint64(c.targetCount))
	} else {
		s.refused[c.api].Add(1)
	}
	if c.signature != signatureOK && c.signature != "" {
		s.badSign.Add(1)
	}
	if c.code == codeBatchOver || c.code == codeLabelOver {
		s.quota.Add(1)
	}
	if c.fault != nil {
		for i, kind := range faultKinds {
			if kind == c.fault.Kind {
				s.faults[i].Add(1)
			}
		}
	}
}

func (s *stats) snapshot(now time.Time, last uint64) Stats {
	out := Stats{
		StartedAt: s.started, Uptime: Span(now.Sub(s.started)), LastSeq: last,
		InFlight: s.inFlight.Load(), MaxInFlight: s.maxInFlight.Load(),
		BadSign: s.badSign.Load(), QuotaOver: s.quota.Load(), AnswersLost: s.lost.Load(), Targets: s.targets.Load(),
		APIs: map[string]APIStats{}, Faults: map[string]uint64{},
	}
	for a := range apiCount {
		one := APIStats{s.accepted[a].Load(), s.refused[a].Load()}
		if one != (APIStats{}) {
			out.APIs[a.String()] = one
		}
		out.Accepted += one.Accepted
		out.Refused += one.Refused
	}
	out.Calls = out.Accepted + out.Refused
	for i, kind := range faultKinds {
		if n := s.faults[i].Load(); n > 0 {
			out.Faults[string(kind)] = n
		}
	}
	return out
}
