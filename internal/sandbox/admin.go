package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/listen"
)

const adminPrefix = "/_sandbox/"

const adminHelp = `GET  /_sandbox/stats                counters
GET  /_sandbox/journal?since=N      the journal's lines after N, as NDJSON; &follow=1 goes on until you leave
GET  /_sandbox/faults               the faults in force
POST /_sandbox/faults               replaces them: {"spec":"throttle=0.1,delay=50ms"} or
                                    {"faults":[{"kind":"status","status":503,"probability":0.1,"api":"mpaas"}]},
                                    and with "seed":N draws anew from there
`

// admin answers requests about the sandbox itself. They are neither journaled
// nor subject to faults.
func (s *Sandbox) admin(c *call) error {
	if err := c.readBody(); err != nil {
		return err
	}
	if err := c.fromHere(); err != nil {
		return err
	}
	switch string(c.method) + " " + string(c.path) {
	case "GET /_sandbox/":
		c.answer.kind = "text/plain;charset=utf-8"
		c.answer.body = append(c.answer.body, adminHelp...)
	case "GET /_sandbox/stats":
		return s.reply(c, s.Stats())
	case "GET /_sandbox/faults":
		return s.reply(c, s.faults())
	case "POST /_sandbox/faults":
		if err := s.changeFaults(c.body); err != nil {
			return &wireError{http.StatusBadRequest, err.Error()}
		}
		return s.reply(c, s.faults())
	case "GET /_sandbox/journal":
		return s.stream(c)
	default:
		return &wireError{http.StatusNotFound, "no such page; see GET /_sandbox/"}
	}
	return c.write(&c.answer)
}

// fromHere refuses requests of web pages in a browser on this machine, since admin
// asks for no credential. A page whose own name was made to lead here has that
// name in Host. Any other page's request has an Origin.
func (c *call) fromHere() error {
	host := string(c.header("host"))
	if !listen.IsLoopbackHost(host) {
		return &wireError{http.StatusMisdirectedRequest, listen.WrongHost}
	}
	if origin := c.header("origin"); origin != nil && string(origin) != "http://"+host {
		return &wireError{http.StatusForbidden, "a page from elsewhere may not ask this"}
	}
	return nil
}

func (s *Sandbox) reply(c *call, value any) error {
	body, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %T: %w", value, err)
	}
	c.answer.body = append(append(c.answer.body, body...), '\n')
	return c.write(&c.answer)
}

// faultPlan is the body of /_sandbox/faults.
type faultPlan struct {
	Faults []*Fault `json:"faults"`
	Spec   string   `json:"spec,omitempty"`
	Seed   *uint64  `json:"seed,omitempty"`
}

func (s *Sandbox) faults() faultPlan {
	faults, seed := s.chaos.get()
	if faults == nil {
		faults = []*Fault{}
	}
	return faultPlan{Faults: faults, Seed: &seed}
}

func (s *Sandbox) changeFaults(body []byte) error {
	var plan faultPlan
	if err := json.Unmarshal(body, &plan); err != nil {
		return fmt.Errorf("want {\"faults\":[...]} or {\"spec\":\"...\"}: %w", err)
	}
	parsed, err := ParseFaults(plan.Spec)
	faults := append(parsed, plan.Faults...)
	if err := errors.Join(err, checkFaults(plan.Faults)); err != nil {
		return err
	}
	s.chaos.set(faults, plan.Seed)
	return nil
}

// stream writes the journal's lines after ?since. The stream ends at the end of
// the journal, unless ?follow asks for later lines too.
func (s *Sandbox) stream(c *call) error {
	query, err := url.ParseQuery(string(c.query))
	since, err2 := strconv.ParseUint("0"+query.Get("since"), 10, 64)
	if err := errors.Join(err, err2); err != nil {
		return &wireError{http.StatusBadRequest, "since must be a sequence number"}
	}
	c.last = true
	head := "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
	if _, err := io.WriteString(c, head); err != nil {
		return err
	}
	chunks := httputil.NewChunkedWriter(c)
	if err := s.copyJournal(s.stopping, chunks, since, query.Has("follow")); err != nil {
		return err // without its last chunk the client knows that the stream was cut
	}
	if err := chunks.Close(); err != nil {
		return err
	}
	_, err = io.WriteString(c, "\r\n")
	return err
}

func (s *Sandbox) copyJournal(ctx context.Context, w io.Writer, since uint64, follow bool) error {
	for {
		last, err := s.journal.copyTo(w, since)
		if err != nil || !follow {
			return err
		}
		since = last
		if err := s.journal.wait(ctx, since); err != nil {
			return err
		}
	}
}

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
	AnswersLost uint64              `json:"answers_lost"`   // the client closed the connection first
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
