package docs_test

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestChineseReadmeKeepsStep holds the translation to the original: the same
// blocks, headings of the same depth, the same links, tables of the same shape,
// and every word that is code.
func TestChineseReadmeKeepsStep(t *testing.T) {
	t.Parallel()
	english, chinese := read(t, "../README.md"), read(t, "../README.zh-CN.md")
	for name, extract := range map[string]func(string) []string{
		"blocks": blockTexts, "headings": depths, "links": links, "tables": tableShapes, "code": codeWords, "list entries": entries,
	} {
		if diff := cmp.Diff(extract(english), extract(chinese)); diff != "" {
			t.Errorf("%s of README.md and README.zh-CN.md differ (-en +zh):\n%s", name, diff)
		}
	}
}

func blockTexts(text string) []string {
	var all []string
	for _, b := range blocks(text) {
		all = append(all, b.language+"\n"+b.text)
	}
	return all
}

// prose is a document without its blocks.
func prose(text string) string {
	return regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(text, "")
}

func depths(text string) []string {
	return regexp.MustCompile(`(?m)^#+ `).FindAllString(prose(text), -1)
}

func entries(text string) []string {
	return regexp.MustCompile(`(?m)^- `).FindAllString(prose(text), -1)
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// links are where a document points to, but for the other language.
func links(text string) []string {
	var all []string
	for _, m := range link.FindAllStringSubmatch(prose(text), -1) {
		if !strings.HasPrefix(m[1], "README") {
			all = append(all, m[1])
		}
	}
	return all
}

// tableShapes are the tables' lines with their words taken out.
func tableShapes(text string) []string {
	var all []string
	for line := range strings.Lines(prose(text)) {
		if strings.HasPrefix(line, "|") {
			all = append(all, strings.Repeat("|", strings.Count(line, "|")))
		}
	}
	return all
}

// codeWords are the words in backquotes, each once.
func codeWords(text string) []string {
	seen := map[string]bool{}
	var all []string
	for _, m := range regexp.MustCompile("`[^`\n]+`").FindAllString(prose(text), -1) {
		if !seen[m] {
			seen[m] = true
			all = append(all, m)
		}
	}
	return all
}

// TestLinksLead follows every link to a file of ours, and its heading.
func TestLinksLead(t *testing.T) {
	t.Parallel()
	for _, from := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(prose(read(t, from)), -1) {
			target, heading, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			file := from
			if target != "" {
				file = path.Join(path.Dir(filepath.ToSlash(from)), target)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s: %s leads nowhere", from, m[1])
			} else if heading != "" && !hasHeading(read(t, file), heading) {
				t.Errorf("%s: %s has no such heading", from, m[1])
			}
		}
	}
}

func hasHeading(text, anchor string) bool {
	for line := range strings.Lines(prose(text)) {
		title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " ")
		if !ok || !strings.HasPrefix(line, "#") {
			continue
		}
		plain := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "")
		if strings.ReplaceAll(plain, " ", "-") == anchor {
			return true
		}
	}
	return false
}
