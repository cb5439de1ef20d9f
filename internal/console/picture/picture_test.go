package picture

import (
	"encoding/xml"
	"errors"
	"flag"
	"html/template"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

var now = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// Each picture is as its golden file has it, one element a line. It is well-formed, and
// says in words what it shows.
func TestPictures(t *testing.T) {
	t.Parallel()
	ms := func(n float64) time.Duration { return time.Duration(n * float64(time.Millisecond)) }
	for name, picture := range map[string]template.HTML{
		"lateness": Lateness("by hour", "half & all", []Column{
			{Label: "11-29 01h", P50: ms(1.2), P95: ms(3), P99: ms(12)},
			{Label: "11-29 02h"},
			{Label: "11-29 03h", P50: ms(0.2), P95: ms(0.4), P99: ms(0.9)},
			{Label: "11-29 04h", P50: ms(3), P95: ms(3), P99: ms(3)},
			{Label: "11-29 05h"},
			{Label: "11-29 06h"},
			{Label: "<07h>", P50: time.Second, P95: 2 * time.Second, P99: 90 * time.Second},
		}),
		"lateness-none":  Lateness("by hour", "half", nil),
		"meter":          Meter("pending of a", 30, 100),
		"meter-full":     Meter("pending of a", 100, 100),
		"meter-over":     Meter("pending of a", 300, 100),
		"meter-no-limit": Meter("pending of a", 0, 0),
		"share":          Share("within 3 ms", 100, 100),
		"share-of-none":  Share("within 3 ms", 0, 0),
		"week":           Week("calls of b", "then and then", now, []time.Time{now.AddDate(0, 0, -8), now.AddDate(0, 0, -7), now.AddDate(0, 0, -1), now, now.Add(time.Hour)}),
	} {
		text := strings.ReplaceAll(string(picture), "><", ">\n<") + "\n"
		for d := xml.NewDecoder(strings.NewReader(text)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if !strings.HasPrefix(text, `<svg role="img"`) || !strings.Contains(text, "<title>") || !strings.Contains(text, "<desc>") {
			t.Errorf("%s does not say what it shows", name)
		}
		file := filepath.Join("testdata", name+".svg")
		if *update {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), text); diff != "" {
			t.Errorf("%s: run with -update if this is meant (-want +got):\n%s", name, diff)
		}
	}
}
