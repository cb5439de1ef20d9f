package engine

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/plain"
	"github.com/campaign-scheduler/scheduler/store"
)

// A Retention says how long decided tasks are kept, and where they are written
// before they are removed.
type Retention struct {
	Age    time.Duration // zero: they are kept for ever
	Dir    string        // where they are written before they are removed; empty: nowhere
	Format string        // of the files: ndjson or csv
}

// The pruner's pace. It walks through a table of a million tasks in minutes,
// and through a hundred million in hours. No step holds anything up.
const (
	pagesPerStep = 64               // of 8 KiB: some 2500 tasks, in one transaction
	pagesPerPass = 10_000           // a pass is a minute's
	betweenWalks = 10 * time.Minute // from the end of a walk to the next
	betweenBooks = time.Hour        // between looks at rows that only the engine needed
)

// A pruner removes decided tasks that are older than their retention, and rows
// that only the engine needed. It walks through the table page by page.
type pruner struct {
	*loop
	store     *store.Store
	log       *slog.Logger
	metrics   *Metrics
	clock     *Clock
	retention Retention

	page   int64     // where the walk goes on
	booked time.Time // when the books were last looked at
	walked time.Time // when a walk last came to the end
}

func newPruner(s *store.Store, log *slog.Logger, m *Metrics, clock *Clock, answers func() bool, r Retention) *pruner {
	p := &pruner{store: s, log: log, metrics: m, clock: clock, retention: r}
	p.loop = newLoop("pruner", log, 10*time.Minute, answers, p.prune)
	return p
}

func (p *pruner) prune(ctx context.Context) error {
	if p.booked.IsZero() || time.Since(p.booked) >= betweenBooks {
		if err := p.books(ctx); err != nil {
			return err
		}
		p.booked = time.Now()
	}
	if p.retention.Age <= 0 || (!p.walked.IsZero() && time.Since(p.walked) < betweenWalks) {
		return nil
	}
	var file *exportFile
	if p.retention.Dir != "" {
		file = newExportFile(p.retention.Dir, p.retention.Format, p.clock.Now())
	}
	total, err := p.walk(ctx, file)
	if total > 0 {
		p.metrics.Pruned.Add(float64(total))
		p.log.InfoContext(ctx, "old tasks removed", "tasks", total, "exported_to", file.name())
	}
	if cerr := file.close(); err == nil {
		err = cerr
	}
	return err
}

func (p *pruner) books(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return p.store.PruneBooks(ctx)
}

// walk goes through a pass's pages and returns how many tasks it removed.
func (p *pruner) walk(ctx context.Context, file *exportFile) (total int64, err error) {
	pages, err := p.pages(ctx)
	if err != nil {
		return 0, err
	}
	end := min(pages, p.page+pagesPerPass)
	before := p.clock.Now().Add(-p.retention.Age)
	for p.page < end {
		n, err := p.step(ctx, before, file)
		total += n
		if err != nil {
			return total, err
		}
		p.page += pagesPerStep
	}
	if p.page >= pages {
		p.page, p.walked = 0, time.Now()
	}
	return total, nil
}

func (p *pruner) pages(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return p.store.Pages(ctx)
}

func (p *pruner) step(ctx context.Context, before time.Time, file *exportFile) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var keep func([]store.Pruned) error
	if file != nil {
		keep = file.write
	}
	return p.store.Prune(ctx, before, p.page, p.page+pagesPerStep, keep)
}

// An exportFile receives tasks before they are removed. It is created with the
// first tasks. Each write is on the disk when write returns, since the removal
// commits then. A daemon that is killed in between exports the same tasks again,
// into another file. So every task is in at least one file, and may be in two. A
// last line without its end was torn by such a kill.
type exportFile struct {
	dir, format string
	at          time.Time
	file        *os.File // nil: nothing was written yet
	size        int64    // of the part that is certainly whole
}

func newExportFile(dir, format string, at time.Time) *exportFile {
	return &exportFile{dir: dir, format: format, at: at.UTC()}
}

// name is the file's path; empty: there is none.
func (f *exportFile) name() string {
	if f == nil || f.file == nil {
		return ""
	}
	return f.file.Name()
}

// write appends tasks and syncs them to the disk. After an error the file holds
// no part of them.
func (f *exportFile) write(tasks []store.Pruned) error {
	if f.file == nil {
		if err := f.create(); err != nil {
			return err
		}
	}
	text, err := f.encode(tasks)
	if err != nil {
		return err
	}
	if _, err := f.file.Write(text); err != nil {
		return errors.Join(err, f.takeBack())
	}
	if err := f.file.Sync(); err != nil {
		return errors.Join(err, f.takeBack())
	}
	f.size += int64(len(text))
	return nil
}

// takeBack cuts off what a failed write left.
func (f *exportFile) takeBack() error {
	if err := f.file.Truncate(f.size); err != nil {
		return err
	}
	_, err := f.file.Seek(f.size, 0)
	return err
}

// create makes the file, readable for its owner only, since it names targets.
func (f *exportFile) create() error {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return err
	}
	name := fmt.Sprintf("tasks-%s-%d.%s", f.at.Format("20060102T150405.000Z"), os.Getpid(), f.format)
	file, err := os.OpenFile(filepath.Join(f.dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	f.file = file
	dir, err := os.Open(f.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync() // or a power cut might take the file's name
}

func (f *exportFile) close() error {
	if f == nil || f.file == nil {
		return nil
	}
	return f.file.Close()
}

func (f *exportFile) encode(tasks []store.Pruned) ([]byte, error) {
	if f.format == "csv" {
		return encodeCSV(tasks, f.size == 0)
	}
	return encodeNDJSON(tasks)
}

// encodeNDJSON writes one object a line, its keys in the order of the columns.
func encodeNDJSON(tasks []store.Pruned) ([]byte, error) {
	var b bytes.Buffer
	for _, task := range tasks {
		separator := byte('{')
		for i, c := range store.PrunedColumns {
			b.WriteByte(separator)
			separator = ','
			fmt.Fprintf(&b, "%q:", c.Name)
			switch v := task[i]; {
			case v == nil:
				b.WriteString("null")
			case c.JSON:
				if err := json.Compact(&b, []byte(*v)); err != nil {
					return nil, err
				}
			default:
				text, err := json.Marshal(*v)
				if err != nil {
					return nil, err
				}
				b.Write(text)
			}
		}
		b.WriteString("}\n")
	}
	return b.Bytes(), nil
}

// encodeCSV writes what RFC 4180 describes; no value is an empty field. A text that
// a spreadsheet would run as a formula has an apostrophe in front.
func encodeCSV(tasks []store.Pruned, header bool) ([]byte, error) {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	record := make([]string, len(store.PrunedColumns))
	if header {
		for i, c := range store.PrunedColumns {
			record[i] = c.Name
		}
		if err := w.Write(record); err != nil {
			return nil, err
		}
	}
	for _, task := range tasks {
		for i, v := range task {
			record[i] = ""
			if v != nil {
				record[i] = *v
				if !store.PrunedColumns[i].JSON {
					record[i] = plain.Cell(*v)
				}
			}
		}
		if err := w.Write(record); err != nil {
			return nil, err
		}
	}
	w.Flush()
	return b.Bytes(), w.Error()
}
