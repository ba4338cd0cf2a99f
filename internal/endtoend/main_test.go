// Package endtoend_test runs the real collector process, built by ocb, between an emulated tenant and a backend.
package endtoend_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// root is the module's directory.
var root = filepath.Join("..", "..")

// collector is the path of the collector: $COLLECTOR, else what `make build` makes.
var collector = os.Getenv("COLLECTOR")

// parallel is how many tests run at once, whatever the number of processors: most of them wait.
const parallel = "8"

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", parallel); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if collector == "" {
		made := filepath.Join("_build", "otelcol-copilot", "otelcol-copilot")
		build := exec.Command("make", "-C", root, made) //nolint:noctx // a build of minutes, before any test
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the collector: %v\n%s", err, out)
			os.Exit(1)
		}
		collector = filepath.Join(root, made)
	}
	os.Exit(m.Run())
}
