package listen_test

import (
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/campaign-scheduler/scheduler"

// elsewhere are the places of the program that bind a port without this package,
// with the reason.
var elsewhere = map[string]string{
	"internal/embedpg/embedpg.go": "it looks whether a port is free, accepts nothing, and closes it at once",
}

// TestEveryListenerIsOfThisPackage reads the source of all that the program is made
// of: nothing else listens, and nothing else serves HTTP.
func TestEveryListenerIsOfThisPackage(t *testing.T) {
	t.Parallel()
	listening := map[string][]string{
		"net":      {"Listen", "ListenTCP", "ListenUnix", "ListenPacket", "ListenConfig", "FileListener"},
		"net/http": {"Server", "Serve", "ServeTLS", "ListenAndServe", "ListenAndServeTLS"}, "crypto/tls": {"Listen", "NewListener"},
		"net/http/httptest": {"NewServer", "NewTLSServer", "NewUnstartedServer"}, "net/rpc": {"Accept", "ServeConn"}, "net/http/fcgi": {"Serve"},
	}
	var found []string
	for _, dir := range ofTheProgram(t, "cmd/scheduler") {
		if dir == "internal/listen" {
			continue
		}
		files := token.NewFileSet()
		names, err := filepath.Glob(filepath.Join("../..", dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(files, name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				use, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if of, ok := use.X.(*ast.Ident); ok && slices.Contains(listening[imported(file, of.Name)], use.Sel.Name) {
					found = append(found, filepath.ToSlash(filepath.Join(dir, filepath.Base(name))))
				}
				return true
			})
		}
	}
	for _, file := range found {
		if elsewhere[file] == "" {
			t.Errorf("%s listens by itself; use package listen", file)
		}
	}
	for file := range elsewhere {
		if !slices.Contains(found, file) {
			t.Errorf("%s does not listen any more; take it off the list", file)
		}
	}
}

// imported is the path of the package that a file calls by a name.
func imported(file *ast.File, name string) string {
	for _, i := range file.Imports {
		path := strings.Trim(i.Path.Value, `"`)
		if i.Name != nil && i.Name.Name == name || i.Name == nil && path[strings.LastIndexByte(path, '/')+1:] == name {
			return path
		}
	}
	return ""
}

// ofTheProgram lists the module's packages that a program is made of.
func ofTheProgram(t *testing.T, main string) []string {
	t.Helper()
	dirs := []string{main}
	for i := 0; i < len(dirs); i++ {
		p, err := build.ImportDir(filepath.Join("../..", dirs[i]), 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range p.Imports {
			if dir, ok := strings.CutPrefix(path, module+"/"); ok && !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs
}
