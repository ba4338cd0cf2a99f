// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// stopTimeout is how long a program may take to end before it is killed.
const stopTimeout = 10 * time.Second

// group is the programs that run.
type group struct {
	directory string      // of their output
	fail      func(error) // called with an endedError if one ends
	reserved  reserved    // addresses of programs that were not started yet
	running   map[string]*process
}

// command is how a program is started.
type command struct {
	name, path  string
	listens     []string // addresses
	arguments   []string
	environment []string // beside that of this process
}

// process is a program that was started.
type process struct {
	command *exec.Cmd
	ended   chan struct{} // closed when its output is no longer read
}

// endedError reports that a program has ended by itself.
type endedError struct{ name, state, output string }

func (e *endedError) Error() string {
	return fmt.Sprintf("%s ended (%s), its last lines were:\n%s", e.name, e.state, e.output)
}

// logFile returns the path of a program's output.
func (g *group) logFile(name string) string { return filepath.Join(g.directory, name+".log") }

// start starts a program.
func (g *group) start(c command) error {
	file, err := os.Create(g.logFile(c.name))
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // the process has a handle of its own

	p := &process{command: exec.Command(c.path), ended: make(chan struct{})} //nolint:gosec // whoever runs it names the programs
	p.command.Args = append(p.command.Args, c.arguments...)
	p.command.Stdout, p.command.Stderr = file, file
	p.command.Env = append(os.Environ(), c.environment...)
	p.command.SysProcAttr = ownGroup()
	g.reserved.release(c.listens...)
	if err := p.command.Start(); err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	if g.running == nil {
		g.running = map[string]*process{}
	}
	g.running[c.name] = p
	go func() {
		defer close(p.ended)
		_ = p.command.Wait()
		g.fail(&endedError{c.name, p.command.ProcessState.String(), lastLines(g.logFile(c.name), 10)})
	}()
	return nil
}

// stop ends the programs of these names one after the other, as far as they run.
func (g *group) stop(names ...string) {
	g.fail(nil) // that they end is no failure from now on
	for _, name := range names {
		p, started := g.running[name]
		if !started {
			continue
		}
		_ = p.command.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-p.ended:
		case <-time.After(stopTimeout):
			_ = p.command.Process.Kill()
			<-p.ended
		}
	}
}

// lastLines returns the last n lines of a file, indented.
func lastLines(path string, n int) string {
	text, err := os.ReadFile(path) //nolint:gosec // a file of this program's directory
	if err != nil {
		return "  " + err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return "  " + strings.Join(lines[max(0, len(lines)-n):], "\n  ")
}
