package words

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every text of a page or of the Go files has a Chinese one, with the same verbs.
func TestEveryTextIsTranslated(t *testing.T) {
	t.Parallel()
	zh := For("zh", "")
	used := map[string]bool{}
	for _, pattern := range []string{"../*.go", "../pages/*.html"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile(`\bT "((?:[^"\\]|\\.)+)"|\bT\("((?:[^"\\]|\\.)+)"`).FindAllStringSubmatch(string(text), -1) {
				used[m[1]+m[2]] = true
			}
		}
	}
	if len(used) < 50 {
		t.Fatalf("found only %d texts", len(used))
	}
	for key := range used {
		args := make([]any, strings.Count(key, "%s"))
		for i := range args {
			args[i] = "1"
		}
		if got := zh.T(key, args...); !regexp.MustCompile(`\p{Han}`).MatchString(got) || strings.Contains(got, "%!") {
			t.Errorf("no Chinese text for %q: %q", key, got)
		}
	}
	for key := range chinese {
		if lower := key == strings.ToLower(key); !used[key] && !lower { // statuses and deeds come from the database
			t.Errorf("nothing uses the text %q", key)
		}
	}
}

func TestLanguageIsChosen(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ chosen, accepted, want string }{
		{"", "", "en"}, {"", "zh-CN,zh;q=0.9,en;q=0.8", "zh"}, {"", "fr", "en"}, {"en", "zh-CN", "en"}, {"zh", "en", "zh"}, {"nonsense", "zh-TW", "zh"},
	} {
		if got := For(c.chosen, c.accepted).Lang(); got != c.want {
			t.Errorf("%q, %q: %s, want %s", c.chosen, c.accepted, got, c.want)
		}
	}
}
