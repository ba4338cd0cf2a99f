// SPDX-License-Identifier: Apache-2.0

// Package endtoend_test tests the whole: the receiver in this process (receiver_*_test.go, harness), and the real collector process,
// built by ocb (all other files, collectorHarness), between an emulated tenant and a backend.
package endtoend_test

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"go.uber.org/goleak"
)

// root is the module's directory.
var root = filepath.Join("..", "..")

// collector is the path of the collector: $COLLECTOR, or else the output of `make build`.
var collector = os.Getenv("COLLECTOR")

// collectorTarget is where `make build` writes the collector, next to the source that ocb generated.
var collectorTarget = filepath.Join("_build", "otelcol-copilot", "otelcol-copilot")

// tool is the path of the operator's tool.
var tool = filepath.Join(root, toolTarget)

var toolTarget = filepath.Join("_build", "m365copilot")

// tempDir is a directory for files that tests share.
var tempDir string

// parallel is how many tests run at once, whatever the number of processors: most of them wait.
const parallel = "12"

// skipIfShort skips a test that `make test` leaves to `make test-all`.
func skipIfShort(t *testing.T, reason string) {
	t.Helper()
	if testing.Short() {
		t.Skip("left out with -short: " + reason)
	}
}

func TestMain(m *testing.M) {
	if os.Getenv(floodVariable) != "" {
		if err := sendFlood(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	code, err := testAll(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

func testAll(m *testing.M) (code int, err error) {
	if err := flag.Set("test.parallel", parallel); err != nil {
		return 1, err
	}
	if collector == "" {
		if err := build(collectorTarget); err != nil {
			return 1, err
		}
		collector = filepath.Join(root, collectorTarget)
	}
	if err := build(toolTarget); err != nil {
		return 1, err
	}
	examples, err := filepath.Glob(filepath.Join(root, "examples", "*.yaml"))
	if err != nil {
		return 1, err
	}
	backendExamples, err := filepath.Glob(filepath.Join(root, "examples", "backends", "*.yaml"))
	if err != nil {
		return 1, err
	}
	for _, input := range slices.Concat(examples, backendExamples, []string{collector, tool}) {
		if _, err := os.Stat(input); err != nil { // with which `go test` also learns what its cached results depend on
			return 1, err
		}
	}
	if tempDir, err = os.MkdirTemp("", "endtoend"); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tempDir)) }()
	if code = m.Run(); code != 0 {
		return code, nil
	}
	http.DefaultClient.CloseIdleConnections()
	if err := goleak.Find(); err != nil {
		return 1, err
	}
	return 0, nil
}

// build makes a target of the Makefile.
func build(target string) error {
	command := exec.Command("make", "-C", root, target) //nolint:noctx // a build of minutes, for all tests
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", target, err, out)
	}
	return nil
}
