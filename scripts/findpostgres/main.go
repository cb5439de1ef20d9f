// Command findpostgres prints the directory of the PostgreSQL binaries that
// the daemon and the tests would use. When there are none, it says what to
// install, and its exit status is 1.
package main

import (
	"fmt"
	"os"

	"github.com/campaign-scheduler/scheduler/internal/embedpg"
)

func main() {
	dir, _, err := embedpg.Find()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stdout, dir)
}
