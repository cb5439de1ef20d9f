// Command scheduler pushes campaigns that are inserted by SQL, each at its
// second, through mPaaS and Alipay.
package main

import (
	"context"
	"os"
	"time"
	_ "time/tzdata" // a machine without zone files knows every zone too
)

func main() {
	p := &program{environ: os.Environ(), stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, now: time.Now}
	os.Exit(p.run(context.Background(), os.Args[1:]))
}
