package words

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// inChinese reports a text of an adapter that has no Chinese, or one that is
// English in part. What stands in quotes is somebody's own.
func inChinese(t *testing.T, zh Printer, text string) {
	t.Helper()
	got := zh.Judged(text)
	bare := regexp.MustCompile(`"(?:[^"\\]|\\.)*"`).ReplaceAllString(got, "")
	if !regexp.MustCompile(`\p{Han}`).MatchString(got) || english.MatchString(bare) {
		t.Errorf("no Chinese for %q: %q", text, got)
	}
}

// Every problem in the adapters' golden files has its Chinese.
func TestTheAdaptersProblemsAreTranslated(t *testing.T) {
	t.Parallel()
	zh, seen := For("zh", ""), 0
	for adapter, separator := range map[string]string{"mpaas": ": ", "alipay": " "} {
		archive, err := txtar.ParseFile(filepath.Join("../../../dispatch", adapter, "testdata/compile.txtar"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			lines := strings.Split(strings.TrimSpace(string(f.Data)), "\n")
			switch {
			case adapter == "alipay":
				lines = lines[1:] // behind the request
			case !strings.HasSuffix(f.Name, ".want"):
				continue
			}
			if slices.Contains(lines, "good") {
				continue
			}
			for _, line := range lines {
				field, text, ok := strings.Cut(line, separator)
				if ok && field != "sends" {
					seen++
					inChinese(t, zh, text)
				}
			}
		}
	}
	if seen < 100 {
		t.Errorf("only %d problems were tried", seen)
	}
}

// made are formats that hold no words of their own: what they are made of stands
// in the golden files.
var made = []string{"%v", "%s", "%s, not %q%s"}

// Every text with which an adapter's source reports a problem has its Chinese,
// whether a golden file has it or not.
func TestTheAdaptersSourceIsTranslated(t *testing.T) {
	t.Parallel()
	zh, seen := For("zh", ""), 0
	verbs := regexp.MustCompile(`%[.0-9]*[a-z]`)
	for _, pattern := range []string{"../../../dispatch/*.go", "../../../dispatch/mpaas/*.go", "../../../dispatch/alipay/*.go", "../../../dispatch/webhook/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			for _, format := range reported(t, name) {
				if slices.Contains(made, format) {
					continue
				}
				seen++
				// The nested sentence of a format that ends with one is any other.
				text := strings.NewReplacer("which %s", "which is missing", "that %v", "that is missing").Replace(format)
				inChinese(t, zh, verbs.ReplaceAllString(text, "7"))
			}
		}
	}
	if seen < 70 {
		t.Errorf("only %d texts were found", seen)
	}
}

// reported returns the formats that a file's calls of a report get, as the second
// argument or behind the texts in front of it, and the texts of the problems that
// it makes itself.
func reported(t *testing.T, name string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if reports(n.Fun) && len(n.Args) > 1 {
				if text, ok := literal(n.Args[1]); ok {
					out = append(out, text)
				}
			}
		case *ast.KeyValueExpr:
			if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Text" {
				if text, ok := literal(n.Value); ok {
					out = append(out, text)
				}
			}
		}
		return true
	})
	return out
}

// reports says whether a call's function notes a problem.
func reports(fun ast.Expr) bool {
	switch f := fun.(type) {
	case *ast.Ident:
		return f.Name == "report"
	case *ast.SelectorExpr:
		return f.Sel.Name == "report" || f.Sel.Name == "problem"
	}
	return false
}

// literal returns the text of a constant, joined where it is written in parts.
func literal(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, err == nil && e.Kind == token.STRING
	case *ast.BinaryExpr:
		a, ok := literal(e.X)
		b, also := literal(e.Y)
		return a + b, ok && also
	}
	return "", false
}
