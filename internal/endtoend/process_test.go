// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// process is one run of the collector or of a database.
type process struct {
	command *exec.Cmd
	ended   chan struct{}

	mu      sync.Mutex // guards what follows
	lines   []string
	changed chan struct{}
}

// run starts the binary at a path with flags and with configurations, which are merged in this order.
func run(tb testing.TB, binary string, flags, environment []string, configs ...string) *process {
	tb.Helper()
	arguments := slices.Clone(flags)
	for _, config := range configs {
		arguments = append(arguments, "--config", config)
	}
	command := exec.Command(binary, arguments...) //nolint:noctx // start kills it
	command.Env = append(os.Environ(), environment...)
	return start(tb, command)
}

// start starts a command, which is killed at the end of the test.
func start(tb testing.TB, command *exec.Cmd) *process {
	tb.Helper()
	p := &process{command: command, ended: make(chan struct{}), changed: make(chan struct{})}
	out, err := p.command.StderrPipe()
	require.NoError(tb, err)
	require.NoError(tb, p.command.Start())
	go func() {
		defer close(p.ended)
		p.read(out)
		_ = p.command.Wait()
	}()
	tb.Cleanup(func() {
		p.kill()
		assert.Empty(tb, linesWithoutCode(p.linesWith("")), "warnings and errors of the receiver without code or hint")
		if tb.Failed() {
			tb.Logf("log of %s:\n%s", filepath.Base(command.Path), strings.Join(p.linesWith(""), "\n"))
		}
	})
	return p
}

// codePattern matches the codes of failures.
var codePattern = regexp.MustCompile(`^COP\d{3}$`)

// linesWithoutCode returns the warnings and errors of the receiver that lack a code or a hint.
func linesWithoutCode(lines []string) (without []string) {
	for _, line := range lines {
		columns := strings.Split(line, "\t") // time, level, place, message, fields
		if len(columns) < 5 || columns[1] != "warn" && columns[1] != "error" {
			continue
		}
		var fields struct {
			Component string `json:"otelcol.component.id"`
			Code      string `json:"code"`
			Hint      string `json:"hint"`
		}
		if json.Unmarshal([]byte(columns[4]), &fields) != nil {
			continue // a crash may cut a line
		}
		if strings.HasPrefix(fields.Component, "m365_copilot") && (!codePattern.MatchString(fields.Code) || fields.Hint == "") {
			without = append(without, line)
		}
	}
	return without
}

func (p *process) read(out io.Reader) {
	scanner := bufio.NewScanner(out)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		p.mu.Lock()
		p.lines = append(p.lines, scanner.Text())
		close(p.changed)
		p.changed = make(chan struct{})
		p.mu.Unlock()
	}
}

// linesWith returns the lines that contain a text.
func (p *process) linesWith(text string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var lines []string
	for _, line := range p.lines {
		if strings.Contains(line, text) {
			lines = append(lines, line)
		}
	}
	return lines
}

// awaitLine waits for a line that contains a text.
func (p *process) awaitLine(tb testing.TB, text string, timeout time.Duration) string {
	tb.Helper()
	return p.awaitLines(tb, text, 1, timeout)[0]
}

// awaitLines waits for n lines that contain a text.
func (p *process) awaitLines(tb testing.TB, text string, n int, timeout time.Duration) []string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), timeout)
	defer cancel()
	for {
		p.mu.Lock()
		changed := p.changed
		p.mu.Unlock()
		if lines := p.linesWith(text); len(lines) >= n {
			return lines
		}
		select {
		case <-changed:
		case <-p.ended:
			require.FailNow(tb, "the process ended", "before it logged %q", text)
		case <-ctx.Done():
			require.FailNow(tb, "the process did not log", text)
		}
	}
}

// ready is a part of the line that the collector logs when it has started, just before it begins to handle signals.
const ready = "Everything is ready"

// reload makes the collector read its configuration again, and waits until it runs with it.
func (p *process) reload(tb testing.TB) {
	tb.Helper()
	before := len(p.linesWith(ready))
	require.NoError(tb, p.command.Process.Signal(syscall.SIGHUP))
	p.awaitLines(tb, ready, before+1, waitTimeout)
}

// kill ends the collector as a crash does.
func (p *process) kill() {
	_ = p.command.Process.Kill()
	<-p.ended
}

// terminate asks the collector to end, and waits until it has without an error.
func (p *process) terminate(tb testing.TB) {
	tb.Helper()
	p.awaitLine(tb, ready, waitTimeout)
	require.NoError(tb, p.command.Process.Signal(syscall.SIGTERM))
	select {
	case <-p.ended:
	case <-time.After(30 * time.Second):
		require.FailNow(tb, "the collector did not end")
	}
	state, ok := p.command.ProcessState.Sys().(syscall.WaitStatus)
	require.True(tb, ok)
	tooEarly := state.Signaled() && state.Signal() == syscall.SIGTERM // between that line and what handles signals
	assert.True(tb, tooEarly || state.ExitStatus() == 0, "the collector ended with %v", p.command.ProcessState)
}
