package sandbox

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A FaultKind is a way in which a call fails.
type FaultKind string

const (
	// Throttle refuses in the provider's words for too many calls.
	Throttle FaultKind = "throttle"
	// Refuse answers a permanent business error.
	Refuse FaultKind = "refuse"
	// SystemError answers the provider's own system error.
	SystemError FaultKind = "error"
	// HTML answers 200 with a page, as a proxy in between may. For webhooks it
	// answers 502, since a webhook's 200 accepts the push whatever its body is.
	HTML FaultKind = "html"
	// Status answers a bare HTTP status. A webhook's 2xx accepts.
	Status FaultKind = "status"
	// Hang never answers and does not accept.
	Hang FaultKind = "hang"
	// HangAfter accepts and never answers.
	HangAfter FaultKind = "hang_after"
	// CutBefore resets the connection and does not accept.
	CutBefore FaultKind = "cut_before"
	// CutAfter accepts and resets the connection without an answer.
	CutAfter FaultKind = "cut_after"
	// Unsigned accepts and answers without a signature (Alipay only).
	Unsigned FaultKind = "unsigned"
	// Forged accepts and answers with a wrong signature (Alipay only).
	Forged FaultKind = "forged"
	// Delay holds the call back before it is accepted. It comes on top of any
	// other fault.
	Delay FaultKind = "delay"
)

var faultKinds = []FaultKind{
	Throttle, Refuse, SystemError, HTML, Status, Hang, HangAfter, CutBefore, CutAfter, Unsigned, Forged, Delay,
}

// A Fault is applied to some of the calls. A call gets at most one fault of the
// kinds other than Delay.
type Fault struct {
	Kind FaultKind `json:"kind"`
	// Probability of a call in scope, 0 to 1.
	Probability float64 `json:"probability"`
	// Status is the HTTP status of kind "status".
	Status int `json:"status,omitempty"`
	// Delay is how long kind "delay" holds a call.
	Delay Span `json:"delay,omitempty"`
	// API limits the fault to one API ("mpaas.push_multiple") or to one
	// provider ("mpaas"). Empty: all.
	API string `json:"api,omitempty"`
	// App limits the fault to one app id. Empty: all.
	App string `json:"app,omitempty"`
	// Times ends the fault after so many calls. Zero: never.
	Times int64 `json:"times,omitempty"`

	left atomic.Int64
}

// A Span is a time.Duration that JSON writes as "50ms".
type Span time.Duration

// MarshalText writes the duration as time.Duration does.
func (s Span) MarshalText() ([]byte, error) { return []byte(time.Duration(s).String()), nil }

// UnmarshalText reads what time.ParseDuration does.
func (s *Span) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	*s = Span(d)
	return err
}

// String writes the fault as ParseFaults reads it.
func (f *Fault) String() string {
	var b strings.Builder
	b.WriteString(string(f.Kind) + "=")
	switch f.Kind {
	case Delay:
		fmt.Fprintf(&b, "%s:", time.Duration(f.Delay))
	case Status:
		fmt.Fprintf(&b, "%d:", f.Status)
	case Throttle, Refuse, SystemError, HTML, Hang, HangAfter, CutBefore, CutAfter, Unsigned, Forged:
	}
	b.WriteString(strconv.FormatFloat(f.Probability, 'g', -1, 64))
	if f.Times > 0 {
		fmt.Fprintf(&b, "*%d", f.Times)
	}
	if f.API != "" {
		b.WriteString("@" + f.API)
	}
	if f.App != "" {
		b.WriteString("@app:" + f.App)
	}
	return b.String()
}

// ParseFaults reads faults as the command line has them, separated by commas:
//
//	throttle=0.1                     every tenth call
//	status=503:0.05                  HTTP 503 for one call in twenty
//	delay=50ms  delay=50ms:0.2       all calls; one in five
//	cut_after=1*3                    the next three calls
//	hang=0.5@alipay.label_send       one API, or one provider: @mpaas
//	refuse=1@app:sandbox-mpaas       one app
func ParseFaults(text string) ([]*Fault, error) {
	var faults []*Fault
	var problems []error
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		f, err := parseFault(item)
		if err != nil {
			problems = append(problems, fmt.Errorf("fault %q: %w", item, err))
			continue
		}
		faults = append(faults, f)
	}
	return faults, errors.Join(append(problems, checkFaults(faults))...)
}

func parseFault(item string) (*Fault, error) {
	item, scope, _ := strings.Cut(item, "@")
	kind, value, ok := strings.Cut(item, "=")
	if !ok {
		return nil, errors.New("want kind=probability")
	}
	f := &Fault{Kind: FaultKind(kind), Probability: 1}
	for s := range strings.SplitSeq(scope, "@") {
		if app, isApp := strings.CutPrefix(s, "app:"); isApp {
			f.App = app
		} else if s != "" {
			f.API = s
		}
	}
	return f, f.parseValue(value)
}

// parseValue reads [STATUS: or DELAY[:]][PROBABILITY][*TIMES].
func (f *Fault) parseValue(value string) (err error) {
	value, times, limited := strings.Cut(value, "*")
	if limited {
		if f.Times, err = strconv.ParseInt(times, 10, 64); err != nil || f.Times < 1 {
			return errors.New("want a count of 1 or more after *")
		}
	}
	switch f.Kind {
	case Status:
		var status string
		status, value, _ = strings.Cut(value, ":")
		f.Status, err = strconv.Atoi(status)
	case Delay:
		var delay string
		delay, value, _ = strings.Cut(value, ":")
		err = f.Delay.UnmarshalText([]byte(delay))
	case Throttle, Refuse, SystemError, HTML, Hang, HangAfter, CutBefore, CutAfter, Unsigned, Forged:
		if value == "" {
			return errors.New("want a probability")
		}
	}
	if err == nil && value != "" {
		f.Probability, err = strconv.ParseFloat(value, 64)
	}
	return err
}

// checkFaults reports every fault that makes no sense.
func checkFaults(faults []*Fault) error {
	var problems []error
	for _, f := range faults {
		if err := f.check(); err != nil {
			problems = append(problems, fmt.Errorf("fault %q: %w", f, err))
		}
	}
	return errors.Join(problems...)
}

func (f *Fault) check() error {
	known := false
	for _, k := range faultKinds {
		known = known || k == f.Kind
	}
	switch {
	case !known:
		return fmt.Errorf("unknown kind; there are %v", faultKinds)
	case !(f.Probability >= 0 && f.Probability <= 1):
		return errors.New("the probability must be from 0 to 1")
	case f.Times < 0:
		return errors.New("times must not be negative")
	case f.Kind == Status && (f.Status < 200 || f.Status > 599):
		return errors.New("the status must be from 200 to 599")
	case f.Kind == Delay && f.Delay <= 0:
		return errors.New("the delay must be positive, such as 50ms")
	case f.API != "" && !knownScope(f.API):
		return fmt.Errorf("unknown api; there are the providers mpaas, alipay and webhook, and %v", apiNames[1:])
	}
	return nil
}

func knownScope(scope string) bool {
	for a := apiUnknown + 1; a < apiCount; a++ {
		if scope == a.String() || scope == a.provider().String() {
			return true
		}
	}
	return false
}

// covers reports whether a call is in the fault's scope.
func (f *Fault) covers(c *call) bool {
	return (f.API == "" || f.API == c.api.String() || f.API == c.provider.String()) &&
		(f.App == "" || f.App == string(c.appID))
}

// spend uses one of a limited fault's times. It returns false when none is left.
func (f *Fault) spend() bool { return f.Times == 0 || f.left.Add(-1) >= 0 }

// chaos draws the faults of calls. The nth call to arrive has the same fate in
// every run with the same seed and faults.
type chaos struct {
	mu     sync.RWMutex
	faults []*Fault
	seed   uint64
	drawn  atomic.Uint64
}

func (x *chaos) set(faults []*Fault, seed *uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, f := range faults {
		f.left.Store(f.Times)
	}
	x.faults = faults
	if seed != nil {
		x.seed = *seed
		x.drawn.Store(0)
	}
}

func (x *chaos) get() ([]*Fault, uint64) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.faults, x.seed
}

// A fate holds the numbers that were drawn for one call, before it is known
// which faults cover the call.
type fate struct {
	faults      []*Fault
	kind, delay float64 // uniform in [0, 1)
}

func (x *chaos) draw() fate {
	faults, seed := x.get()
	if len(faults) == 0 {
		return fate{}
	}
	n := x.drawn.Add(1)
	return fate{faults, uniform(seed + 2*n), uniform(seed + 2*n + 1)}
}

// fault returns the fault of a call, or nil. The faults that cover the call
// share the interval [0, 1), in their order.
func (t fate) fault(c *call) *Fault {
	at := 0.0
	for _, f := range t.faults {
		if f.Kind == Delay || !f.covers(c) || (f.Times > 0 && f.left.Load() <= 0) {
			continue
		}
		if at += f.Probability; t.kind < at {
			if f.spend() {
				return f
			}
			return nil
		}
	}
	return nil
}

// pause returns how long a call is held back.
func (t fate) pause(c *call) time.Duration {
	for _, f := range t.faults {
		if f.Kind == Delay && f.covers(c) && t.delay < f.Probability && f.spend() {
			return time.Duration(f.Delay)
		}
	}
	return 0
}

// uniform maps a counter to [0, 1) by the finaliser of splitmix64 (Steele,
// Lea and Flood, 2014), which needs no state between calls.
func uniform(n uint64) float64 {
	n *= 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	n ^= n >> 31
	return float64(n>>11) / (1 << 53)
}
