// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/doctor"
)

const (
	// defaultTimeout is the time for all checks, though nothing answers.
	defaultTimeout = 14 * time.Second
	// waitInterval is the time between two attempts with --wait.
	waitInterval = 3 * time.Second
)

// doctorFlags are the flags of the doctor.
type doctorFlags struct {
	configs       listFlag
	output        string
	failOn        string
	timeout, wait time.Duration
	verbose       bool
}

// listFlag is a flag that may be given several times.
type listFlag []string

func (l *listFlag) String() string     { return fmt.Sprint(*l) }
func (l *listFlag) Set(v string) error { *l = append(*l, v); return nil }

func parseDoctorFlags(args []string, stderr io.Writer) (doctorFlags, error) {
	f, set := doctorFlags{}, flag.NewFlagSet("m365copilot doctor", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.Var(&f.configs, "config", "configuration of the collector: a path or URI, as in --config of the collector; may be repeated")
	set.StringVar(&f.output, "output", "text", "text or json")
	set.StringVar(&f.failOn, "fail-on", "fail", "the mark from which on the exit code is 1: warn, fail, or never")
	set.DurationVar(&f.timeout, "timeout", defaultTimeout, "time for all checks; what is not checked by then is skipped, and the doctor fails")
	set.DurationVar(&f.wait, "wait", 0, "repeat the checks until none has the mark of --fail-on, for at most this time")
	set.BoolVar(&f.verbose, "verbose", false, "show every check")
	set.Usage = func() {
		_, _ = fmt.Fprint(stderr, "Check whether a collector with the m365_copilot receiver can do its work. Nothing is changed.\n\n"+
			"Usage: m365copilot doctor --config collector.yaml [flags]\n\n"+
			"Exit code: 0 all is well, 1 a check failed (see --fail-on), 2 wrong usage.\n\nFlags:\n")
		set.PrintDefaults()
	}
	if err := set.Parse(args); err != nil {
		return f, err
	}
	for _, wrong := range []struct {
		is   bool
		text string
	}{
		{set.NArg() > 0, fmt.Sprintf("unexpected argument %q", set.Arg(0))},
		{len(f.configs) == 0, "--config is missing: name the configuration of the collector"},
		{f.output != "text" && f.output != "json", "--output: write text or json"},
		{f.failOn != "warn" && f.failOn != "fail" && f.failOn != "never", "--fail-on: write warn, fail or never"},
		{f.timeout <= 0, "--timeout: write a duration above 0, such as 14s"},
		{f.wait < 0, "--wait: write a duration such as 2m"},
	} {
		if wrong.is {
			_, _ = fmt.Fprintf(stderr, "m365copilot doctor: %s\n", wrong.text)
			return f, errors.New(wrong.text)
		}
	}
	return f, nil
}

func runDoctor(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f, err := parseDoctorFlags(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage
	}
	limit := doctor.Fail
	if f.failOn == "warn" {
		limit = doctor.Warn
	}
	report := untilPassed(ctx, f, limit, stderr)
	if f.output == "json" {
		err = report.WriteJSON(stdout)
	} else {
		err = report.WriteText(stdout, f.verbose)
	}
	if err != nil || report.Mark() >= limit && f.failOn != "never" {
		return exitFailed
	}
	return exitOK
}

// untilPassed makes the checks, and repeats them until none has the limit or --wait is over.
func untilPassed(ctx context.Context, f doctorFlags, limit doctor.Mark, stderr io.Writer) doctor.Report {
	end := time.Now().Add(f.wait)
	for {
		report := doctor.Run(ctx, doctor.Settings{URIs: f.configs, Timeout: f.timeout})
		if report.Mark() < limit || time.Now().Add(waitInterval).After(end) {
			return report
		}
		_, _ = fmt.Fprintf(stderr, "not well yet, checking again in %s\n", waitInterval)
		select {
		case <-ctx.Done():
			return report
		case <-time.After(waitInterval):
		}
	}
}
