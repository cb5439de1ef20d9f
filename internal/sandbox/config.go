package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Config configures a Sandbox. The zero value listens on a free port of
// 127.0.0.1, knows no app and keeps its journal in memory.
type Config struct {
	// Listen is the TCP address, on loopback. Empty: 127.0.0.1:0.
	Listen string
	// MaxConns bounds the connections, as listen.Config has it. Zero: 4096.
	MaxConns int
	// ReadTimeout bounds the reading of a request. Zero: what listen.Config has.
	ReadTimeout time.Duration
	// Apps are the credentials that calls may carry.
	Apps Apps
	// JournalPath is the file that calls are appended to. Empty: memory only.
	JournalPath string
	// JournalDetail is how much is kept of each call. Empty: Full.
	JournalDetail Detail
	// Ring is how many of the latest lines stay in memory. Zero: 4096 beside a
	// file, 65536 without one.
	Ring int
	// Faults are in force from the start; see ParseFaults.
	Faults []*Fault
	// Seed makes the faults repeatable.
	Seed uint64
	// WeeklyQuota is how many label, total and group sends an Alipay app may
	// make in any rolling 7 × 24 h, each. Zero: the documented 5. Negative: any
	// number.
	WeeklyQuota int
	// Now is the clock that requests are judged by. Nil: time.Now.
	Now func() time.Time
	// Logger hears of what the sandbox itself has trouble with. Nil: silence.
	Logger *slog.Logger
}

const documentedQuota = 5

func (c Config) withDefaults() Config {
	c.Listen = cmp.Or(c.Listen, "127.0.0.1:0")
	c.MaxConns = cmp.Or(c.MaxConns, 4096)
	c.JournalDetail = cmp.Or(c.JournalDetail, Full)
	c.WeeklyQuota = cmp.Or(c.WeeklyQuota, documentedQuota)
	if c.JournalPath == "" {
		c.Ring = cmp.Or(c.Ring, 1<<16)
	}
	c.Ring = cmp.Or(c.Ring, 1<<12)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) check() error {
	var problems []error
	switch c.JournalDetail {
	case Full, Brief, Off:
	default:
		problems = append(problems, fmt.Errorf("journal detail %q: want full, brief or off", c.JournalDetail))
	}
	if c.Ring < 1 {
		problems = append(problems, errors.New("ring: want at least one line"))
	}
	return errors.Join(append(problems, checkFaults(c.Faults))...)
}
