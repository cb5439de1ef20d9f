package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// version is set by the linker for releases; other builds have what the Go tool
// knows.
var version string

// A build says what this binary was made from.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Time     string `json:"time"`
	Modified bool   `json:"modified"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func readBuild() build {
	b := build{Version: "devel", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		b.Version = v
	}
	if version != "" {
		b.Version = version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// String writes the build on one line.
func (b build) String() string {
	parts := []string{"scheduler " + b.Version}
	if b.Revision != "" {
		parts = append(parts, "revision "+b.Revision)
	}
	if b.Time != "" {
		parts = append(parts, "of "+b.Time)
	}
	if b.Modified {
		parts = append(parts, "with local changes")
	}
	return strings.Join(append(parts, fmt.Sprintf("(%s, %s)", b.Go, b.Platform)), " ")
}

func newVersionCommand(p *program) *cobra.Command {
	c := &cobra.Command{
		Use:     "version",
		Short:   "Print what this binary was built from",
		Example: "  scheduler version --output json",
		Args:    cobra.NoArgs,
	}
	output := addOutputFlag(c)
	c.RunE = func(*cobra.Command, []string) error {
		if output.json() {
			return p.writeJSON(readBuild())
		}
		return p.print(readBuild().String() + "\n")
	}
	return c
}
