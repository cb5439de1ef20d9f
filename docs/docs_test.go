// Package docs_test holds the documents to the program: their SQL runs, their
// commands, metrics and settings exist, and the Chinese README says what the
// English one does.
//
// In the documents, a block marked sql is run, in order, in a database of the
// document's own that has the sandbox's apps. A text block right after it that
// begins with ERROR or NOTICE is what psql then says. Anything that must not be
// run is marked otherwise.
package docs_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// documents are all that people read, by their paths from this folder.
func documents(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"../*.md", "*.md", "*/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	if len(all) < 3 {
		t.Fatalf("found only %q", all)
	}
	return all
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")))
}

// A block is a fenced block of a document.
type block struct {
	language string
	text     string
	line     int  // of its first line
	adjacent bool // nothing but empty lines between it and the block before
}

// blocks returns a document's fenced blocks.
func blocks(markdown string) []block {
	var all []block
	var open *block
	between := true
	for i, line := range strings.Split(markdown, "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case open == nil && isFence:
			open = &block{language: strings.TrimSpace(fence), line: i + 2, adjacent: !between}
		case isFence:
			all = append(all, *open)
			open, between = nil, false
		case open != nil:
			open.text += line + "\n"
		case strings.TrimSpace(line) != "":
			between = true
		}
	}
	return all
}
