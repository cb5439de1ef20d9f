// Package api is the mPaaS API in front: programs that schedule on mPaaS through
// Alibaba Cloud's clients schedule here, by another endpoint and another key.
//
// A push becomes one campaign with its targets, stored in one transaction as the
// database role of the access key, after the adapter and the database judged it.
// Each call is one transaction, so any number of daemons serve the API at once.
package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/aliyun"
	"github.com/campaign-scheduler/scheduler/internal/listen"
	"github.com/campaign-scheduler/scheduler/store"
)

// A Config says what to serve and for whom. Fields without "zero" are required.
type Config struct {
	// Listen is host:port; port 0 takes a free one.
	Listen string
	// CertFile and KeyFile, PEM, make the listener speak TLS; they are read at
	// every handshake. BehindProxy says that a proxy speaks TLS to the clients,
	// and may reach the listener without TLS. With neither, Listen must be
	// loopback.
	CertFile, KeyFile string
	BehindProxy       bool
	// Store is a pool whose login may act as the roles of the clients.
	Store *store.Store
	// Compile judges a request of an app.
	Compile func(appID, workspaceID string, r dispatch.Request) (*dispatch.Message, []dispatch.Problem)
	// Now is the clock by which signatures are judged.
	Now     func() time.Time
	Clients []Client
	// MaxInFlight bounds the calls that are worked on at once; zero means 32.
	MaxInFlight int
	// CallsPerSecond bounds each key's calls; zero: no bound.
	CallsPerSecond float64
	Log            *slog.Logger
	// Metrics is where the figures are registered; zero: nowhere.
	Metrics prometheus.Registerer
}

// A Server is the listener. New binds it, Start serves, Stop ends it.
type Server struct {
	cfg     Config
	listen  *listen.Server
	keys    keyring
	metrics *metrics
	slots   chan struct{}
	// verifying bounds the work for calls whose signature is not checked yet.
	verifying chan struct{}
	// refusals bounds the log lines about strangers, who could fill the log.
	refusals *rate.Limiter
	// strangers bounds how fast calls without a good signature are answered.
	strangers *rate.Limiter
	stop      context.CancelFunc
	pruned    chan struct{}
}

// Bounds of open calls. A body is read before a slot is taken, so that a slow
// client holds only its connection.
const (
	maxConns     = 256
	maxHeader    = 96 << 10 // a GET has its parameters here
	callTimeout  = 20 * time.Second
	pruneEvery   = time.Minute
	pruneAtOnce  = 5000
	nonceLasts   = 2*aliyun.Window + time.Minute // a call's own time may be that far ahead, and clocks differ a little
	refusalsASec = 10
	// Calls without a good signature are answered at this rate a second, after as many
	// at once. None waits longer than strangerWait, so that a flood of calls holds no
	// more connections than silent clients could.
	strangersASec = 100
	strangerWait  = time.Second
)

// New binds the listener. It refuses an address that other machines can reach,
// unless the listener speaks TLS or BehindProxy is set.
func New(ctx context.Context, cfg Config) (*Server, error) {
	cfg.MaxInFlight = cmp.Or(cfg.MaxInFlight, 32)
	s := &Server{
		cfg: cfg, slots: make(chan struct{}, cfg.MaxInFlight), verifying: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		refusals:  rate.NewLimiter(refusalsASec, refusalsASec),
		strangers: rate.NewLimiter(strangersASec, strangersASec),
		pruned:    make(chan struct{}),
	}
	s.SetClients(cfg.Clients, cfg.CallsPerSecond)
	tls, err := listen.TLS(cfg.CertFile, cfg.KeyFile, "")
	if err != nil {
		return nil, fmt.Errorf("api listener: %w", err)
	}
	s.listen, err = listen.New(ctx, listen.Config{
		Listen: cfg.Listen, TLS: tls, Handler: s, MaxConns: maxConns, MaxBody: aliyun.MaxBody, MaxHeader: maxHeader, Log: cfg.Log,
		Plain: tls == nil && !cfg.BehindProxy,
	})
	if err != nil {
		return nil, fmt.Errorf("api listener: %w", err)
	}
	s.metrics = newMetrics(cfg.Metrics) // after binding, so that New can be called again when it failed
	return s, nil
}

// Addr returns the address on which the server listens.
func (s *Server) Addr() string { return s.listen.Addr().String() }

// URL returns the endpoint for a client on this machine.
func (s *Server) URL() string {
	scheme := "http://"
	if s.cfg.CertFile != "" {
		scheme = "https://"
	}
	return scheme + s.Addr()
}

// Start begins to serve, and to delete nonces that have expired.
func (s *Server) Start() {
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go s.prune(ctx)
	s.listen.Start()
}

// Stop lets the calls under way end until ctx does, then cuts them.
func (s *Server) Stop(ctx context.Context) error {
	err := s.listen.Stop(ctx)
	if s.stop != nil {
		s.stop()
		<-s.pruned
	}
	return err
}

// prune deletes expired nonces. Several daemons may do so at once.
func (s *Server) prune(ctx context.Context) {
	defer close(s.pruned)
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for {
			attempt, cancel := context.WithTimeout(ctx, callTimeout)
			n, err := s.cfg.Store.PruneNonces(attempt, pruneAtOnce)
			cancel()
			if err != nil && ctx.Err() == nil {
				s.cfg.Log.WarnContext(ctx, "nonces of the api not pruned", "error", err)
			}
			if err != nil || n < pruneAtOnce {
				break
			}
		}
	}
}

// A call is a verified call on its way to its reply.
type call struct {
	action string
	params aliyun.Params
	caller store.Caller
}

// A reply is an answer of the service. Answers of the gateway are errors of
// type aliyun.Error.
type reply struct {
	code   string // ResultCode
	fields aliyun.Fields
}

// actions are the actions that the API answers. For all others it answers that
// the action is not known, as the service does.
var actions = map[string]func(*Server, context.Context, *call) (*reply, error){
	"PushSimple": (*Server).push, "PushTemplate": (*Server).push, "PushMultiple": (*Server).push, "PushBroadcast": (*Server).push,
	"QueryPushSchedulerList": (*Server).list, "QueryMpsSchedulerList": (*Server).list,
	"RevokePushTask": (*Server).revoke, "RevokePushMessage": (*Server).revoke,
	"CancelPushScheduler": (*Server).cancel, "CancelMpsScheduler": (*Server).cancel,
}

// versions are the API's versions. Each has some of the actions. That every
// action may be called with every version is [inferred].
var versions = map[string]bool{"2019-08-21": true, "2020-07-10": true, "2020-10-28": true}

// ServeHTTP answers one call.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	id := aliyun.RequestID()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.refuse(w, r, nil, id, bodyError(err))
		return
	}
	c, key, refusal := s.verify(aliyun.FromHTTP(r, body))
	if refusal != nil {
		s.refuse(w, r, c, id, refusal)
		return
	}
	role, limit := s.keys.role(key)
	answered, refusal := s.answer(r.Context(), c, role, limit)
	code := ""
	if refusal != nil {
		code = refusal.Code
		aliyun.Refuse(w, c.Format, id, r.Host, refusal)
	} else {
		code = answered.code
		aliyun.Answer(w, c.Format, c.Action, id, answered.fields)
	}
	took := time.Since(began)
	s.metrics.count(c.Action, code, took)
	s.cfg.Log.InfoContext(r.Context(), "api call", "action", clip(c.Action), "code", code, "request_id", id, "access_key_id", key.ID, "role", role,
		"remote", r.RemoteAddr, "took", took)
}

// verify takes a request apart and checks its signature. Half of the processors
// are left to the pushes, however many strangers call at once.
func (s *Server) verify(r *aliyun.Request) (*aliyun.Call, *aliyun.Key, *aliyun.Error) {
	s.verifying <- struct{}{}
	defer func() { <-s.verifying }()
	c, refusal := aliyun.Decode(r)
	if refusal != nil {
		return c, nil, refusal
	}
	key, refusal := c.Verify(s.keys.find, s.cfg.Now())
	return c, key, refusal
}

func bodyError(err error) *aliyun.Error {
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return aliyun.ErrTooLarge
	}
	return &aliyun.Error{Status: http.StatusBadRequest, Code: "InvalidParameter", Message: "The body ended early."}
}

// refuse answers a call whose signature is not good. The log gets only its key
// id, and only as many such lines as it can take.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, c *aliyun.Call, id string, e *aliyun.Error) {
	format := aliyun.JSON
	keyID := ""
	if c != nil {
		format, keyID = c.Format, c.KeyID
	}
	s.pace(r.Context())
	aliyun.Refuse(w, format, id, r.Host, e)
	s.metrics.refused(e.Code)
	if s.refusals.Allow() {
		s.cfg.Log.WarnContext(r.Context(), "api call refused", "code", e.Code, "request_id", id, "access_key_id", clip(keyID), "remote", r.RemoteAddr)
	}
}

// pace lets strangers wait for their answers when many call, so that they take less
// time from the pushes: a caller makes its next call after the answer, and
// connections are bounded.
func (s *Server) pace(ctx context.Context) {
	turn := s.strangers.Reserve()
	wait := turn.Delay()
	if wait > strangerWait {
		turn.Cancel() // so that the queue stays short and ends soon after the flood
		wait = strangerWait
	}
	if wait == 0 {
		return
	}
	defer listen.Rest(ctx)() // so that waiting strangers keep no caller out
	select {
	case <-ctx.Done():
	case <-time.After(wait):
	}
}

// answer runs the action of a verified call.
func (s *Server) answer(ctx context.Context, c *aliyun.Call, role string, limit *rate.Limiter) (*reply, *aliyun.Error) {
	do := actions[c.Action]
	if do == nil || !versions[c.Version] {
		return nil, aliyun.ErrNoAPI
	}
	if !limit.Allow() {
		return nil, aliyun.ErrThrottled
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return nil, aliyun.ErrUnavailable
	}
	params, refusal := c.Params()
	if refusal != nil {
		return nil, refusal
	}
	for _, p := range params {
		if !storable(p.Name) || !storable(p.Value) {
			return nil, &aliyun.Error{Status: http.StatusBadRequest, Code: "InvalidParameter", Message: "The parameter " + clip(p.Name) + " is not UTF-8 text, or holds a zero byte."}
		}
	}
	one := &call{action: c.Action, params: params, caller: store.Caller{
		Role: role, Nonce: store.Nonce{Hash: nonceHash(c.KeyID, c.Nonce), Expires: s.cfg.Now().Add(nonceLasts)},
	}}
	out, err := do(s, ctx, one)
	if err != nil {
		return nil, s.failure(ctx, c.Action, role, err)
	}
	return out, nil
}

// storable says whether PostgreSQL can store a text.
func storable(s string) bool {
	return strings.IndexByte(s, 0) < 0 && utf8.ValidString(s)
}

// failure turns an error of the database into an answer on which a client can act.
func (s *Server) failure(ctx context.Context, action, role string, err error) *aliyun.Error {
	switch {
	case errors.Is(err, store.ErrNonceUsed):
		return aliyun.ErrNonceUsed
	case errors.Is(err, store.ErrNoPrivilege):
		s.cfg.Log.WarnContext(ctx, "api call without the right", "action", action, "role", role, "error", err)
		return &aliyun.Error{Status: http.StatusForbidden, Code: "NoPermission", Message: "The role of this access key has not the right to do this."}
	case store.IsOutage(err), store.IsBlocked(err):
		s.cfg.Log.WarnContext(ctx, "api call not answered", "action", action, "error", err)
		return aliyun.ErrUnavailable
	}
	s.cfg.Log.ErrorContext(ctx, "api call failed", "action", action, "error", err)
	return aliyun.ErrInternal
}

// Ready returns why calls cannot be answered now, or nil.
func (s *Server) Ready(ctx context.Context) error {
	for _, role := range s.keys.roles() {
		if err := s.cfg.Store.CheckRole(ctx, role); err != nil {
			return err
		}
	}
	return nil
}

func clip(s string) string {
	const longest = 64
	if len(s) > longest {
		return s[:longest]
	}
	return s
}

// metrics are the figures of the API. Actions are from the list of known
// actions, and codes from this package's answers, so that strangers cannot make
// new labels.
type metrics struct {
	calls   *prometheus.CounterVec // by action and code
	seconds *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scheduler_api_calls_total", Help: "Calls to the API, by action (none: the signature was refused) and code of the answer.",
		}, []string{"action", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "scheduler_api_call_seconds", Help: "Time to answer a call to the API.", Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 5, 20},
		}, []string{"action"}),
	}
	if reg != nil {
		reg.MustRegister(m.calls, m.seconds)
	}
	return m
}

func (m *metrics) count(action, code string, took time.Duration) {
	if actions[action] == nil {
		action = "other"
	}
	m.calls.WithLabelValues(action, code).Inc()
	m.seconds.WithLabelValues(action).Observe(took.Seconds())
}

func (m *metrics) refused(code string) { m.calls.WithLabelValues("none", code).Inc() }
