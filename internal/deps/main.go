// Command deps prints the modules that the program and its tests import
// themselves: version, date, licence, and whether only tests need it. It asks
// the go command and reads the licence files in the module cache.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "deps:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	modules, err := direct(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MODULE\tVERSION\tDATE\tLICENCE\tFOR")
	for _, m := range modules {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", m.Path, m.Version, m.Time.Format(time.DateOnly), licence(m.Dir), m.purpose())
	}
	return w.Flush()
}

// A module is a direct dependency as the go command describes it.
type module struct {
	Path, Version, Dir string
	Time               time.Time
	production         bool // imported outside of tests
}

func (m module) purpose() string {
	if m.production {
		return "program"
	}
	return "tests"
}

// A listed package is what go list says of one of ours.
type listed struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

// forTests are packages of ours that only tests import.
var forTests = []string{"/internal/pgtest", "/internal/certtest", "/dispatch/dispatchtest", "/strategy/strategytest", "/internal/openid/issuertest", "/internal/chaos"}

// direct returns the modules of every package that ours import, whatever go.mod
// calls direct.
func direct(ctx context.Context) ([]module, error) {
	packages, err := golist[listed](ctx, "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	if err != nil {
		return nil, err
	}
	production := map[string]bool{}
	for _, p := range packages {
		testOnly := slices.ContainsFunc(forTests, func(s string) bool { return strings.Contains(p.ImportPath, s) })
		for _, path := range p.Imports {
			production[path] = production[path] || !testOnly
		}
		for _, path := range slices.Concat(p.TestImports, p.XTestImports) {
			production[path] = production[path] || false
		}
	}
	return modulesOf(ctx, production)
}

// modulesOf groups imported packages by their modules; the standard library and
// our own have none.
func modulesOf(ctx context.Context, production map[string]bool) ([]module, error) {
	var paths []string
	for path := range production {
		if first, _, _ := strings.Cut(path, "/"); strings.Contains(first, ".") {
			paths = append(paths, path)
		}
	}
	type imported struct {
		ImportPath string
		Module     *struct {
			Path, Version, Dir string
			Time               time.Time
			Main               bool
		}
	}
	packages, err := golist[imported](ctx, append([]string{"-json=ImportPath,Module"}, paths...)...)
	if err != nil {
		return nil, err
	}
	byPath := map[string]module{}
	for _, p := range packages {
		if p.Module == nil || p.Module.Main {
			continue
		}
		m := byPath[p.Module.Path]
		byPath[p.Module.Path] = module{
			Path: p.Module.Path, Version: p.Module.Version, Dir: p.Module.Dir, Time: p.Module.Time,
			production: m.production || production[p.ImportPath],
		}
	}
	var all []module
	for _, m := range byPath {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b module) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

// golist runs go list, which prints one JSON object after the other.
func golist[T any](ctx context.Context, args ...string) ([]T, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"list"}, args...)...)
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var all []T
	for decoder := json.NewDecoder(bytes.NewReader(text)); ; {
		var one T
		switch err := decoder.Decode(&one); err {
		case nil:
			all = append(all, one)
		case io.EOF:
			return all, nil
		default:
			return nil, fmt.Errorf("go list: %w", err)
		}
	}
}

// marks are words by which a licence is recognised.
var marks = []struct{ words, name string }{
	{"Apache License", "Apache-2.0"},
	{"Mozilla Public License", "MPL-2.0"},
	{"Permission is hereby granted, free of charge", "MIT"},
	{"Neither the name of", "BSD-3-Clause"},
	{"Redistribution and use in source and binary forms", "BSD-2-Clause"},
}

// licence reads a module's licence file and says which it is; "unknown" asks
// for a person to look.
func licence(dir string) string {
	for _, pattern := range []string{"LICENSE*", "LICENCE*", "COPYING*"} {
		files, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				continue
			}
			plain := strings.Join(strings.Fields(string(text)), " ")
			for _, m := range marks {
				if strings.Contains(plain, m.words) {
					return m.name
				}
			}
		}
	}
	return "unknown"
}
