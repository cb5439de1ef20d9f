package engine

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/plain"
	"github.com/campaign-scheduler/scheduler/store"
)

// An exportFile receives tasks before they are removed. It is made with the
// first of them, and each write is on the disk when it returns, since the
// removal commits then. A daemon killed in between exports the same tasks again,
// into another file: every task is in some file at least once, and may be in
// two. A last line without its end was torn by such a kill.
type exportFile struct {
	dir, format string
	at          time.Time
	file        *os.File // nil: nothing was written yet
	size        int64    // of what is certainly whole
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

// write appends tasks and syncs them to the disk. After an error nothing of
// them is in the file.
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

// create makes the file, for its owner only: it names those who were pushed to.
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
