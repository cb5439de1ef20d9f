package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Detail says how much the journal keeps of each call.
type Detail string

const (
	// Full keeps everything.
	Full Detail = "full"
	// Brief leaves out targets, task names, notes and the sandbox's own ids.
	Brief Detail = "brief"
	// Off keeps nothing but the counters of Stats.
	Off Detail = "off"
)

// ErrGone says that the journal no longer holds the calls that were asked for.
// Without a file it keeps only the latest Config.Ring lines.
var ErrGone = errors.New("these calls are no longer in the journal")

// A journal is an append-only file of calls, one JSON line each, with the
// latest lines in memory. It is safe for concurrent use.
//
// add returns when the line has been handed to the operating system, so that
// it survives the death of this process. Lines that arrive while another is
// being written go out together in the next write.
type journal struct {
	detail Detail
	path   string
	file   *os.File // nil: memory only

	mu      sync.Mutex // guards the fields below; never held during a write
	seq     uint64
	pending []byte
	batch   uint64 // the batch that pending belongs to
	ring    [][]byte
	news    chan struct{} // closed when a line is added; nil when nobody waits

	writing sync.Mutex // held during a write; taken before mu
	written uint64     // the last batch that was written
	spare   []byte
	failure error // the first failed write; the journal is closed by it
}

// openJournal opens or creates the file. A kill may leave a last line without
// its end. The call of that line was never answered, so the line is dropped.
func openJournal(path string, detail Detail, ring int) (*journal, error) {
	j := &journal{detail: detail, path: path, batch: 1, ring: make([][]byte, ring)}
	if path == "" || detail == Off {
		return j, nil
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		_ = file.Chmod(0o600) // for a file of an earlier version; another user's file stays as it is
	}
	if j.seq, err = repair(file); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j.file = file
	return j, nil
}

// repair cuts off everything after the last whole line of a file, and counts
// the lines. A pipe or another special file counts as empty.
func repair(file *os.File) (lines uint64, err error) {
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return 0, err
	}
	size, lines, err := measure(file)
	if err != nil {
		return 0, err
	}
	return lines, file.Truncate(size)
}

// measure counts the whole lines of a file and the bytes they take.
func measure(r io.Reader) (size int64, lines uint64, err error) {
	buf := make([]byte, 256<<10)
	var at int64
	for {
		n, err := r.Read(buf)
		lines += uint64(bytes.Count(buf[:n], []byte{'\n'}))
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			size = at + int64(i) + 1
		}
		at += int64(n)
		if errors.Is(err, io.EOF) {
			return size, lines, nil
		}
		if err != nil {
			return 0, 0, err
		}
	}
}

// add appends a line (without its opening brace and sequence number).
func (j *journal) add(rest []byte) error {
	if j.detail == Off {
		return nil
	}
	j.mu.Lock()
	j.seq++
	start := len(j.pending)
	j.pending = append(j.pending, `{"seq":`...)
	j.pending = strconv.AppendUint(j.pending, j.seq, 10)
	j.pending = append(j.pending, ',')
	j.pending = append(j.pending, rest...)
	slot := &j.ring[j.seq%uint64(len(j.ring))]
	*slot = append((*slot)[:0], j.pending[start:]...)
	if j.file == nil {
		j.pending = j.pending[:start]
	}
	batch := j.batch
	if j.news != nil {
		close(j.news)
		j.news = nil
	}
	j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	return j.flush(batch)
}

// flush returns when a batch is written, by this caller or by another.
func (j *journal) flush(batch uint64) error {
	j.writing.Lock()
	defer j.writing.Unlock()
	if j.written >= batch || j.failure != nil {
		return j.failure
	}
	j.mu.Lock()
	lines := j.pending
	j.pending, j.spare = j.spare[:0], nil
	j.written = j.batch
	j.batch++
	j.mu.Unlock()
	if _, err := j.file.Write(lines); err != nil {
		j.failure = fmt.Errorf("write journal: %w", err)
	}
	j.spare = lines
	return j.failure
}

// close ends the journal. Calls that come later fail.
func (j *journal) close() error {
	j.writing.Lock()
	defer j.writing.Unlock()
	if j.failure == nil {
		j.failure = errors.New("write journal: closed")
		if j.file != nil {
			return j.file.Close()
		}
	}
	return nil
}

// last returns the sequence number of the latest call.
func (j *journal) last() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.seq
}

// copyTo writes the lines after since to w and returns the sequence number of
// the last of them. It prefers memory and falls back to the file.
func (j *journal) copyTo(w io.Writer, since uint64) (uint64, error) {
	j.mu.Lock()
	size := uint64(len(j.ring))
	oldest := j.seq + 1 - min(j.seq, size)
	remembered := since+1 >= oldest && (since >= j.seq || len(j.ring[(since+1)%size]) > 0)
	var lines []byte
	last := max(since, j.seq)
	for s := since + 1; remembered && s <= j.seq; s++ {
		lines = append(lines, j.ring[s%size]...)
	}
	j.mu.Unlock()
	if remembered {
		_, err := w.Write(lines)
		return last, err
	}
	if j.file == nil {
		return since, ErrGone
	}
	return j.copyFile(w, since)
}

// copyFile is copyTo from the file, where the number of a line is its sequence
// number. A line that is being written at this moment may be missing.
func (j *journal) copyFile(w io.Writer, since uint64) (uint64, error) {
	file, err := os.Open(j.path)
	if err != nil {
		return since, fmt.Errorf("read journal: %w", err)
	}
	defer func() { _ = file.Close() }()
	r := bufio.NewReaderSize(file, 256<<10)
	for seq := uint64(1); ; seq++ {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return max(since, seq-1), nil
		}
		if err == nil && seq > since {
			_, err = w.Write(line)
		}
		if err != nil {
			return since, fmt.Errorf("copy journal: %w", err)
		}
	}
}

// wait returns when there is a call after since.
func (j *journal) wait(ctx context.Context, since uint64) error {
	for {
		j.mu.Lock()
		if j.seq > since {
			j.mu.Unlock()
			return nil
		}
		if j.news == nil {
			j.news = make(chan struct{})
		}
		news := j.news
		j.mu.Unlock()
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// parseCalls decodes journal lines. A last line without its end is ignored.
func parseCalls(lines []byte) ([]Call, error) {
	var calls []Call
	for len(lines) > 0 {
		line, rest, whole := bytes.Cut(lines, []byte{'\n'})
		if !whole {
			break
		}
		var c Call
		if err := json.Unmarshal(line, &c); err != nil {
			return calls, fmt.Errorf("journal line %d: %w", len(calls)+1, err)
		}
		calls = append(calls, c)
		lines = rest
	}
	return calls, nil
}

// A Checker reads a journal as the oracle of a test: which messages were
// pushed, when, and which twice. Fill it with AddFile or Add, and only read it
// afterwards.
type Checker struct {
	// Calls, Accepted and Refused count calls.
	Calls, Accepted, Refused int
	// ByAPI counts accepted calls by API.
	ByAPI map[string]int
	// BadSignatures counts refused signatures by the reason.
	BadSignatures map[string]int
	// Silent counts accepted calls whose answer a fault kept back.
	Silent int
	// Targets counts the targets of accepted calls.
	Targets int
	// Notes counts the oddities that the sandbox saw.
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

// AddFile adds every call of a journal file. A last line without its end, which
// a kill may leave, is left out: its call was never answered.
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

// A Duplicate is a msgKey with which more than one call was accepted, or that
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
