package docs_test

import (
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/internal/config"
)

// TestEveryMetricIsExplained compares the metrics that operations.md names with
// those that the engine's and the API's source make.
func TestEveryMetricIsExplained(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../internal/engine/*.go")
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, "../internal/api/server.go")
	made := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, m := range regexp.MustCompile(`"(scheduler_[a-z_]+)"`).FindAllStringSubmatch(read(t, file), -1) {
			made[m[1]] = true
		}
	}
	watch, _, _ := strings.Cut(after(t, read(t, "operations.md"), "\n## Watch\n"), "\n## ")
	told := map[string]bool{}
	for line := range strings.Lines(watch) {
		if cell, ok := strings.CutPrefix(line, "| `scheduler_"); ok {
			names, _, _ := strings.Cut("`scheduler_"+cell, "|")
			for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(names, -1) {
				told[m[1]] = true
			}
		}
	}
	if diff := cmp.Diff(sorted(made), sorted(told)); diff != "" {
		t.Errorf("metrics of the program and of operations.md (-program +documents):\n%s", diff)
	}
	for _, name := range regexp.MustCompile(`\bscheduler_[a-z_]+(?:_total|_seconds|_tasks|_limit|_used|_up|_flight)\b`).FindAllString(read(t, "operations.md"), -1) {
		if !made[name] {
			t.Errorf("operations.md speaks of %s, which is no metric", name)
		}
	}
}

func sorted(set map[string]bool) []string { return slices.Sorted(maps.Keys(set)) }

func after(t *testing.T, text, mark string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, mark)
	if !ok {
		t.Fatalf("there is no %q", mark)
	}
	return rest
}

// TestEverySettingIsExplained looks for each setting in operations.md and in
// config.example.yaml.
func TestEverySettingIsExplained(t *testing.T) {
	t.Parallel()
	operations, example := read(t, "operations.md"), read(t, "../config.example.yaml")
	for _, path := range settings("", reflect.TypeFor[config.Config]()) {
		name := path[strings.LastIndex(path, ".")+1:]
		if !strings.Contains(operations, "`"+path+"`") && !strings.Contains(operations, "`"+name+"`") {
			t.Errorf("operations.md does not tell of %s", path)
		}
		if !regexp.MustCompile(`(?m)^[ #-]*` + name + `:`).MatchString(example) {
			t.Errorf("config.example.yaml does not have %s", path)
		}
	}
}

// settings are the paths of all settings below a struct.
func settings(prefix string, of reflect.Type) []string {
	var all []string
	for field := range of.Fields() {
		tag := field.Tag.Get("yaml")
		if tag == "" || tag == "-" {
			continue
		}
		path := prefix + strings.TrimSuffix(tag, ",inline")
		switch {
		case field.Type.Kind() == reflect.Struct:
			all = append(all, settings(path+".", field.Type)...)
		case field.Type.Kind() == reflect.Slice && field.Type.Elem().Kind() == reflect.Struct:
			all = append(all, settings(path+"[].", field.Type.Elem())...)
		default:
			all = append(all, path)
		}
	}
	return all
}

// TestEveryColumnIsExplained looks for each column of the two tables that
// authors write.
func TestEveryColumnIsExplained(t *testing.T) {
	t.Parallel()
	guide := read(t, "sql-guide.md")
	files, err := filepath.Glob("../migrations/*.up.sql")
	if err != nil {
		t.Fatal(err)
	}
	schema := ""
	for _, file := range files {
		schema += read(t, file)
	}
	for _, table := range []string{"campaigns", "campaign_targets"} {
		columns := regexp.MustCompile(`COMMENT ON COLUMN scheduler\.`+table+`\.(\w+)`).FindAllStringSubmatch(schema, -1)
		if len(columns) < 5 {
			t.Fatalf("found only %q", columns)
		}
		for _, m := range columns {
			if !regexp.MustCompile("(?m)^\\| [^|]*`" + m[1] + "`").MatchString(guide) {
				t.Errorf("sql-guide.md does not tell of %s.%s", table, m[1])
			}
		}
	}
}

// TestCommandsExist looks each command of the documents' sh blocks up among the
// files of cmd/scheduler and its flags, and each make target in the Makefile.
func TestCommandsExist(t *testing.T) {
	t.Parallel()
	source := ""
	files, err := filepath.Glob("../cmd/scheduler/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		source += read(t, file)
	}
	makefile := read(t, "../Makefile")
	for _, path := range documents(t) {
		for _, b := range blocks(read(t, path)) {
			if b.language != "sh" {
				continue
			}
			for _, m := range regexp.MustCompile(`(?m)^(?:\s*)(?:bin/)?scheduler( .*)$`).FindAllStringSubmatch(b.text, -1) {
				checkCommand(t, path, m[1], source)
			}
			for _, m := range regexp.MustCompile(`(?m)^make ([a-z-]+)`).FindAllStringSubmatch(b.text, -1) {
				if !strings.Contains(makefile, "\n"+m[1]+":") {
					t.Errorf("%s: there is no make %s", path, m[1])
				}
			}
		}
	}
}

// checkCommand looks for the words before the first flag as names of commands,
// and for every flag.
func checkCommand(t *testing.T, path, line, source string) {
	t.Helper()
	line, _, _ = strings.Cut(line, " #")
	words := strings.Fields(line)
	for i, word := range words {
		if i == 0 || i == 1 && (words[0] == "migrate" || words[0] == "tasks" || words[0] == "campaigns") {
			if !regexp.MustCompile(`Use: +"` + regexp.QuoteMeta(word) + `[ "]|"` + regexp.QuoteMeta(word) + `[ "]`).MatchString(source) {
				t.Errorf("%s: there is no command %q in %q", path, word, line)
			}
		}
		flag, ok := strings.CutPrefix(word, "--")
		flag, _, _ = strings.Cut(flag, "=")
		if ok && flag != "help" && !strings.Contains(source, `"`+flag+`"`) {
			t.Errorf("%s: there is no flag --%s in %q", path, flag, line)
		}
	}
}
