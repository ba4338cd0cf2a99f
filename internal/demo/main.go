// SPDX-License-Identifier: Apache-2.0

// Command demo shows an invented company's use of Copilot in a browser: it runs the emulated tenant of `m365copilot simulate`, the
// collector, databases for logs and metrics, and what evaluates the recording rules and alerts of examples/dashboards. `make demo` runs it.
// Everything listens on loopback, and keeps its data in one directory.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// options are the values of the flags.
type options struct {
	programs   programs
	dashboards string // directory of dashboards and rules
	config     string // configuration of the collector
	capture    string
	incident   time.Duration
	duration   time.Duration
	directory  string
	seed       uint64
}

// programs are the paths of the programs that are started.
type programs struct {
	collector, m365copilot, victoriaLogs, victoriaMetrics, vmalert string
}

func main() {
	runtime.LockOSThread() // the other programs end with the thread that has started them
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process immediately
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	default:
		_, _ = fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		os.Exit(1)
	}
}

// run runs the demonstration until ctx ends or the duration has passed, and stops everything that it has started.
func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args, out)
	if err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return err
	}
	directory, remove, err := o.makeDirectory()
	if err != nil {
		return err
	}
	defer remove()
	a, r, err := chooseAddresses()
	if err != nil {
		return err
	}
	defer r.release(slices.Collect(maps.Keys(r))...)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d := &demo{
		options: o, directory: directory, addresses: a, out: out, began: time.Now(),
		group: group{directory: directory, fail: cancel, reserved: r},
	}
	defer d.group.stop(stopOrder...)
	err = d.start(ctx)
	if err == nil {
		err = wait(ctx, o.duration)
	}
	if died, ok := errors.AsType[*endedError](context.Cause(ctx)); ok {
		return died // and not what failed because of it
	}
	if ctx.Err() != nil {
		return nil // a signal
	}
	return err
}

// wait waits for a duration, 0 for until ctx ends.
func wait(ctx context.Context, duration time.Duration) error {
	var over <-chan time.Time
	if duration > 0 {
		over = time.After(duration)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-over:
		return nil
	}
}

func parse(args []string, out io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.StringVar(&o.programs.collector, "collector", "_build/otelcol-copilot/otelcol-copilot", "`path` of the collector")
	flags.StringVar(&o.programs.m365copilot, "m365copilot", "_build/m365copilot", "`path` of the operator's tool, which emulates the tenant")
	flags.StringVar(&o.programs.victoriaLogs, "victoria-logs", "_tools/victoria-logs", "`path` of the database of logs")
	flags.StringVar(&o.programs.victoriaMetrics, "victoria-metrics", "_tools/victoria-metrics", "`path` of the database of metrics")
	flags.StringVar(&o.programs.vmalert, "vmalert", "_tools/vmalert", "`path` of the program that evaluates rules")
	flags.StringVar(&o.dashboards, "dashboards", "examples/dashboards", "`directory` of dashboards and rules")
	flags.StringVar(&o.config, "config", "examples/demo.yaml", "configuration `file` of the collector")
	flags.StringVar(&o.capture, "capture", "none", "none, or text: the text of prompts and answers becomes the body of records")
	flags.DurationVar(&o.incident, "incident", 0, "`time` after which an outage of a minute is played; 0: none")
	flags.DurationVar(&o.duration, "duration", 0, "`time` after which everything ends; 0: at SIGINT or SIGTERM")
	flags.StringVar(&o.directory, "directory", "", "empty `directory` for the data, which is kept (without it: a new one, deleted at the end)")
	flags.Uint64Var(&o.seed, "seed", 1, "`number`: the same seed gives the same company")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	return o, nil
}

// check reports every invalid flag, and what was not built.
func (o *options) check() error {
	var problems []error
	if o.capture != "none" && o.capture != "text" {
		problems = append(problems, fmt.Errorf("-capture must be none or text, not %q", o.capture))
	}
	if o.incident < 0 || o.duration < 0 {
		problems = append(problems, errors.New("-incident and -duration must not be negative"))
	}
	p := o.programs
	for _, path := range []string{
		p.collector, p.m365copilot, p.victoriaLogs, p.victoriaMetrics, p.vmalert,
		o.config, o.vmuiDashboards(), o.recordingRules(), o.alertRules(),
	} {
		if _, err := os.Stat(path); err != nil { //nolint:gosec // whoever runs it names the paths
			problems = append(problems, fmt.Errorf("%w; `make demo` builds all programs", err))
		}
	}
	return errors.Join(problems...)
}

// What of the directory of dashboards is used.

func (o *options) vmuiDashboards() string { return filepath.Join(o.dashboards, "vmui") }

func (o *options) recordingRules() string {
	return filepath.Join(o.dashboards, "rules", "recording-victorialogs.yaml")
}

func (o *options) alertRules() string { return filepath.Join(o.dashboards, "rules", "alerts.yaml") }

// makeDirectory returns the absolute path of the directory for the data, and what removes it if it is a temporary one.
func (o *options) makeDirectory() (path string, remove func(), err error) {
	if o.directory == "" {
		path, err = os.MkdirTemp("", "m365copilot-demo-")
		return path, func() { _ = os.RemoveAll(path) }, err //nolint:gosec // it was made here
	}
	if path, err = filepath.Abs(o.directory); err != nil {
		return "", nil, err
	}
	if err := os.MkdirAll(path, 0o750); err != nil { //nolint:gosec // whoever runs it names the directory
		return "", nil, err
	}
	entries, err := os.ReadDir(path)
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("-directory %s is not empty", path)
	}
	return path, func() {}, err
}
