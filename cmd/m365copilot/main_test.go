// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// commandVariable is the environment variable that makes the test binary run as the command.
const commandVariable = "M365COPILOT_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(commandVariable) != "" {
		main()
	}
	os.Exit(m.Run())
}

// result is the outcome of a run of the command.
type result struct {
	code           int
	stdout, stderr string
}

func runToEnd(t *testing.T, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), args, &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// process is a run in the background.
type process struct {
	t     *testing.T
	lines chan string
	done  chan int
	seen  []string
}

func runInBackground(ctx context.Context, t *testing.T, args ...string) *process {
	t.Helper()
	reader, writer := io.Pipe()
	p := follow(t, reader)
	go func() {
		p.done <- run(ctx, args, io.Discard, writer)
		_ = writer.Close()
	}()
	return p
}

// start runs the command as a process of its own, which is killed at the end of the test.
func start(t *testing.T, args ...string) (*process, *os.Process) {
	t.Helper()
	command := exec.Command(os.Args[0], args...) //nolint:noctx // it is killed below
	command.Env = append(os.Environ(), commandVariable+"=1")
	reader, writer := io.Pipe()
	command.Stderr = writer
	require.NoError(t, command.Start())
	p := follow(t, reader)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = command.Wait() // the exit code is checked instead
		p.done <- command.ProcessState.ExitCode()
		_ = writer.Close()
	}()
	t.Cleanup(func() {
		_ = command.Process.Kill()
		<-ended
	})
	return p, command.Process
}

// follow reads the lines of a run.
func follow(t *testing.T, reader io.Reader) *process {
	t.Helper()
	p := &process{t: t, lines: make(chan string, 10_000), done: make(chan int, 1)}
	go func() {
		defer close(p.lines)
		for scanner := bufio.NewScanner(reader); scanner.Scan(); {
			p.lines <- scanner.Text()
		}
	}()
	return p
}

// expect reads lines until one matches the pattern, and returns its groups.
func (p *process) expect(pattern string) []string {
	p.t.Helper()
	expression := regexp.MustCompile(pattern)
	deadline := time.After(20 * time.Second)
	for {
		select {
		case line, more := <-p.lines:
			if !more {
				require.Failf(p.t, "the command ended", "without %s:\n%s", pattern, strings.Join(p.seen, "\n"))
			}
			p.seen = append(p.seen, line)
			if groups := expression.FindStringSubmatch(line); groups != nil {
				return groups
			}
		case <-deadline:
			require.Failf(p.t, "no such line", "%s:\n%s", pattern, strings.Join(p.seen, "\n"))
		}
	}
}

func TestCommand_UsageAndErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		"without a command":        {nil, 2, ``, `Usage: m365copilot <command>`},
		"with an unknown command":  {[]string{"simulat"}, 2, ``, `unknown command "simulat"`},
		"when help is requested":   {[]string{"help"}, 0, `simulate +emulate Microsoft Graph`, ``},
		"when flags are requested": {[]string{"simulate", "-h"}, 0, `(?s)notification_url: .*-turns-per-minute number\n.*default 60`, ``},
		"with an unknown flag":     {[]string{"simulate", "-x"}, 2, ``, `flag provided but not defined: -x; -h lists the flags`},
		"with an argument":         {[]string{"simulate", "now"}, 2, ``, `unexpected argument "now"`},
		"with a bad rate":          {[]string{"simulate", "-turns-per-minute", "NaN"}, 2, ``, `-turns-per-minute must be above 0`},
		"without users":            {[]string{"simulate", "-users", "0"}, 2, ``, `-users must be between 1 and`},
		"with a negative duration": {[]string{"simulate", "-duration", "-1s"}, 2, ``, `-duration and -reauthorize-every must not be negative`},
		"with a negative history":  {[]string{"simulate", "-history", "-1h"}, 2, ``, `-history must be between 0 and 2400h0m0s`},
		"with too much history":    {[]string{"simulate", "-history", "2401h"}, 2, ``, `-history must be between 0 and 2400h0m0s`},
		"with a history of many":   {[]string{"simulate", "-history", "1h", "-users", "1001"}, 2, ``, `-history needs -users of at most 1000`},
		"with an incident of past": {[]string{"simulate", "-incident", "-1s"}, 2, ``, `-incident must not be negative`},
		"with an incident of 0s":   {[]string{"simulate", "-incident-duration", "0s"}, 2, ``, `-incident-duration must be above 0`},
		"without a secret":         {[]string{"simulate", "-client-secret", ""}, 2, ``, `-client-secret must not be empty`},
		"with an address that has no port": {
			[]string{"simulate", "-listen", "127.0.0.1"}, 2, ``, `-listen must be host:port`,
		},
		"with an unknown fault":        {[]string{"simulate", "-fault", "fire=1"}, 2, ``, `unknown kind "fire", known are drop, duplicate, .*throttle`},
		"with a fault of no chance":    {[]string{"simulate", "-fault", "throttle"}, 2, ``, `must be throttle=chance`},
		"with a fault of chance above": {[]string{"simulate", "-fault", "throttle=1.1"}, 2, ``, `a chance above 0 and up to 1`},
		"with an address in use or not ours": {
			[]string{"simulate", "-listen", "localhost:99999"}, 1, ``, `the simulation failed.*listen on localhost:99999`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := runToEnd(t, c.args...)
			assert.Equal(t, c.code, got.code)
			assert.Regexp(t, c.stdout, got.stdout)
			assert.Regexp(t, c.stderr, got.stderr)
			if c.stdout == "" {
				assert.Empty(t, got.stdout)
			}
		})
	}
}
