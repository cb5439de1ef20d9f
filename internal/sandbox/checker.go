package sandbox

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"
)

// A Checker reads a journal as the oracle of a test: what was pushed, when, and
// what was pushed twice. Fill it with AddFile or Add; then it is read only.
type Checker struct {
	// Calls, Accepted and Refused count calls.
	Calls, Accepted, Refused int
	// ByAPI counts accepted calls by API.
	ByAPI map[string]int
	// BadSignatures are the reasons against signatures, with their numbers.
	BadSignatures map[string]int
	// Silent counts accepted calls whose answer was kept back.
	Silent int
	// Targets counts the targets of accepted calls.
	Targets int
	// Notes are the oddities the sandbox saw, with their numbers.
	Notes map[string]int

	keys  map[string][]time.Time // arrivals of accepted calls by msgKey
	sends map[quotaKey][]time.Time
}

// CheckJournal reads a journal file into a new Checker.
func CheckJournal(path string) (*Checker, error) {
	k := NewChecker()
	return k, k.AddFile(path)
}

// NewChecker returns an empty Checker.
func NewChecker() *Checker {
	return &Checker{
		ByAPI: map[string]int{}, BadSignatures: map[string]int{}, Notes: map[string]int{},
		keys: map[string][]time.Time{}, sends: map[quotaKey][]time.Time{},
	}
}

// AddFile adds every call of a journal file. A last line without its end was
// torn by a kill and is left out: its call was never answered.
func (k *Checker) AddFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("check journal: %w", err)
	}
	defer func() { _ = file.Close() }()
	r := bufio.NewReaderSize(file, 1<<20)
	for n := 1; ; n++ {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		var c Call
		if err == nil {
			err = json.Unmarshal(line, &c)
		}
		if err == nil && c.Seq != uint64(n) {
			err = fmt.Errorf("sequence number %d is out of order", c.Seq)
		}
		if err != nil {
			return fmt.Errorf("check journal: line %d: %w", n, err)
		}
		k.Add(c)
	}
}

// Add adds one call.
func (k *Checker) Add(c Call) {
	k.Calls++
	if c.Signature != signatureOK && c.Signature != "" {
		k.BadSignatures[c.Signature]++
	}
	for _, note := range c.Notes {
		k.Notes[note]++
	}
	if c.Outcome != Accepted {
		k.Refused++
		return
	}
	k.Accepted++
	k.ByAPI[c.API]++
	k.Targets += c.TargetCount
	if !c.AnswerDelivered {
		k.Silent++
	}
	for _, key := range c.MsgKeys {
		k.keys[key] = append(k.keys[key], c.ReceivedAt)
	}
	for _, api := range []api{apiLabelSend, apiTotalSend, apiGroupSend} {
		if c.API == api.String() {
			key := quotaKey{api, c.AppID}
			k.sends[key] = append(k.sends[key], c.ReceivedAt)
		}
	}
}

// Arrivals returns when calls with a msgKey were accepted: none, one, or more
// when it was pushed twice.
func (k *Checker) Arrivals(msgKey string) []time.Time { return k.keys[msgKey] }

// MsgKeys returns every accepted msgKey, sorted.
func (k *Checker) MsgKeys() []string { return slices.Sorted(maps.Keys(k.keys)) }

// A Duplicate is a msgKey that more than one call was accepted with, or that
// one call carried twice.
type Duplicate struct {
	MsgKey   string
	Arrivals []time.Time
}

// Duplicates returns the msgKeys pushed more than once, sorted.
func (k *Checker) Duplicates() []Duplicate {
	var out []Duplicate
	for key, arrivals := range k.keys {
		if len(arrivals) > 1 {
			out = append(out, Duplicate{key, arrivals})
		}
	}
	slices.SortFunc(out, func(a, b Duplicate) int {
		if a.MsgKey < b.MsgKey {
			return -1
		}
		return 1
	})
	return out
}

// QuotaBreaches returns the apps that made more than limit label, total or
// group sends in some rolling week, as "alipay.label_send APP".
func (k *Checker) QuotaBreaches(limit int) []string {
	var out []string
	for key, sends := range k.sends {
		slices.SortFunc(sends, time.Time.Compare)
		for i := limit; i < len(sends); i++ {
			if sends[i].Sub(sends[i-limit]) < week {
				out = append(out, key.api.String()+" "+key.app)
				break
			}
		}
	}
	slices.Sort(out)
	return out
}

// Lateness returns how late the accepted msgKeys that due knows arrived,
// sorted, and the msgKeys that due knows and no call carried.
func (k *Checker) Lateness(due map[string]time.Time) (late []time.Duration, absent []string) {
	for key, at := range due {
		arrivals := k.keys[key]
		if len(arrivals) == 0 {
			absent = append(absent, key)
			continue
		}
		late = append(late, arrivals[0].Sub(at))
	}
	slices.Sort(late)
	slices.Sort(absent)
	return late, absent
}

// Percentile returns the p-quantile (0 to 1) of sorted durations; zero of none.
func Percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	i := int(p * float64(len(sorted)))
	return sorted[min(max(i, 0), len(sorted)-1)]
}
