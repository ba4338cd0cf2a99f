// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// demoHarness is the demonstration of `make demo` that runs.
type demoHarness struct {
	*databases
	*process
	// temporary is where it has its directory, which is the only entry.
	temporary string
	// directory is that of its files, addresses where its programs listen, host:port by the names of addresses.json.
	directory string
	addresses map[string]string
}

// publishedInteraction is an interaction that the tenant of the demonstration has published.
type publishedInteraction struct {
	ID         string    `json:"id"`
	Session    string    `json:"session"`
	Request    string    `json:"request"`
	User       string    `json:"user"`
	Department string    `json:"department"`
	Country    string    `json:"country"`
	App        string    `json:"app"`
	Type       string    `json:"type"`
	Created    time.Time `json:"created"`
	Agents     []string  `json:"agents"`
	Characters int       `json:"characters"`
	// History is true for what there was before the demonstration began.
	History bool `json:"history"`
}

// demoTimeout is far longer than a demonstration needs until it is ready.
const demoTimeout = 10 * time.Minute

// startDemo runs the demonstration with further flags until it is ready. It ends with the test.
func startDemo(t *testing.T, flags ...string) *demoHarness {
	t.Helper()
	d := &demoHarness{temporary: t.TempDir()}
	all := []string{
		"-collector", collector, "-m365copilot", tool, "-dashboards", filepath.Join(root, "examples", "dashboards"),
		"-config", filepath.Join(root, "examples", "demo.yaml"),
	}
	for _, name := range []string{"victoria-logs", "victoria-metrics", "vmalert"} {
		all = append(all, "-"+name, built(t, "_tools/"+name))
	}
	d.process = run(t, built(t, "_build/demo"), append(all, flags...), []string{"TMPDIR=" + d.temporary})
	t.Cleanup(func() { d.end(t) })
	d.awaitLine(t, "Ready after", demoTimeout)
	entries, err := os.ReadDir(d.temporary)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	d.directory = filepath.Join(d.temporary, entries[0].Name())
	require.NoError(t, json.Unmarshal(d.file(t, "addresses.json"), &d.addresses))
	d.databases = &databases{logs: d.addresses["logs"], metrics: d.addresses["metrics"]}
	return d
}

// end stops it as Ctrl-C does, unless it has ended. Of a test that failed it shows what the programs said last.
func (d *demoHarness) end(t *testing.T) {
	t.Helper()
	if t.Failed() {
		d.logLastLines(t)
	}
	_ = d.command.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-d.ended:
	case <-time.After(2 * time.Minute): // each of its programs has 10 seconds
		assert.Fail(t, "the demonstration did not end")
	}
}

func (d *demoHarness) logLastLines(t *testing.T) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(d.temporary, "*", "*.log"))
	require.NoError(t, err)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		t.Log(filepath.Base(path), strings.Join(lines[max(0, len(lines)-20):], "\n"))
	}
}

// file returns the content of a file of the demonstration.
func (d *demoHarness) file(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(d.directory, name))
	require.NoError(t, err)
	return text
}

// published returns what the tenant has published so far, the oldest first.
func (d *demoHarness) published(t *testing.T) (all []publishedInteraction) {
	t.Helper()
	text := d.file(t, "published.jsonl")
	text = text[:bytes.LastIndexByte(text, '\n')+1] // the last line may be incomplete
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var one publishedInteraction
		require.NoError(t, json.Unmarshal(lines.Bytes(), &one))
		all = append(all, one)
	}
	require.NoError(t, lines.Err())
	return all
}
