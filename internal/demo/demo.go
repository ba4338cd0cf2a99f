// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

const (
	// incidentDuration is how long the outage lasts.
	incidentDuration = time.Minute
	// startTimeout bounds each step until everything is ready. It is far longer than any takes, so that one that hangs is noticed.
	startTimeout = 10 * time.Minute
	// answerInterval and countInterval are the times between two tries: a count takes processor time from what it waits for.
	answerInterval, countInterval = 50 * time.Millisecond, 500 * time.Millisecond
)

// demo is a demonstration that runs.
type demo struct {
	options   options
	directory string // of all data
	addresses addresses
	group     group
	out       io.Writer
	began     time.Time
	// outage is when the outage begins, zero for none.
	outage time.Time
}

// start starts the programs, imports the history, and returns once all pages have their data.
func (d *demo) start(ctx context.Context) error {
	d.say("Starting. Data and logs of the programs are in %s", d.directory)
	if err := d.startTenantAndDatabases(ctx); err != nil {
		return err
	}
	if err := d.group.start(d.collectorCommand()); err != nil {
		return err
	}
	past, err := readPublished(d.path(publishedFile))
	if err != nil {
		return err
	}
	d.say("Importing %d interactions of the last 12 weeks", past.count)
	logs := logDatabase{d.addresses.Logs}
	// That many records come first, which is cheaper to ask for; then that none of them is a repetition.
	for _, function := range []string{"count()", "count_uniq(log.record.uid)"} {
		if err := d.awaitCount(ctx, "imported interactions", past.count, past.query(function), logs); err != nil {
			return err
		}
	}
	if err := d.record(ctx, logs, time.Now()); err != nil {
		return err
	}
	if err := d.startRules(ctx); err != nil {
		return err
	}
	if err := d.addresses.write(d.directory); err != nil {
		return err
	}
	_, err = io.WriteString(d.out, d.ready(time.Now(), past.count))
	return err
}

// record evaluates the recording rules for the past, and for now.
func (d *demo) record(ctx context.Context, logs logDatabase, imported time.Time) error {
	rules, err := readRules(d.options.recordingRules())
	if err != nil {
		return err
	}
	d.say("Evaluating %d recording rules for the time before", len(rules))
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	r := recorder{logs: logs, metrics: d.addresses.Metrics}
	if err := r.record(ctx, pastEvaluations(rules, imported)); err != nil {
		return err
	}
	if err := r.write(ctx, []*series{licensedBefore(imported)}); err != nil {
		return err
	}
	// What the inventory said before the import was over had not seen all prompts.
	if err := d.awaitCount(ctx, "licensed users", licensed, inventoryQuery(imported), logs); err != nil {
		return err
	}
	return r.record(ctx, evaluationsAt(rules, time.Now()))
}

// startTenantAndDatabases starts what the collector connects to. The tenant listens once its history is made.
func (d *demo) startTenantAndDatabases(ctx context.Context) error {
	if err := os.WriteFile(d.path(scrapeFile), []byte(d.addresses.scrapeConfig()), 0o600); err != nil {
		return err
	}
	for _, c := range []command{d.logsCommand(), d.metricsCommand(), d.tenantCommand()} {
		if err := d.group.start(c); err != nil {
			return err
		}
	}
	for _, url := range []string{d.addresses.Logs + "/health", d.addresses.Metrics + "/health", d.addresses.Graph} {
		if err := d.awaitAnswer(ctx, "http://"+url); err != nil {
			return err
		}
	}
	if d.options.incident > 0 {
		d.outage = time.Now().Add(d.options.incident)
	}
	return nil
}

// startRules starts what evaluates rules from now on: not earlier, since the values of an import that is not over would be wrong.
func (d *demo) startRules(ctx context.Context) error {
	for _, c := range []command{d.recordingCommand(), d.alertsCommand()} {
		if err := d.group.start(c); err != nil {
			return err
		}
	}
	for _, address := range []string{d.addresses.Recording, d.addresses.Alerts} {
		if err := d.awaitAnswer(ctx, "http://"+address+"/health"); err != nil {
			return err
		}
	}
	return nil
}

// say prints a line about the progress.
func (d *demo) say(format string, args ...any) {
	_, _ = fmt.Fprintf(d.out, format+"\n", args...)
}

// awaitAnswer waits for any answer of an HTTP server.
func (d *demo) awaitAnswer(ctx context.Context, url string) error {
	return await(ctx, "no answer of "+url, answerInterval, func(ctx context.Context) (bool, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return false, err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return false, nil //nolint:nilerr // it does not listen yet
		}
		return true, response.Body.Close()
	})
}

// awaitCount waits until a query returns a number, or more.
func (d *demo) awaitCount(ctx context.Context, what string, want int, query string, logs logDatabase) error {
	got := 0
	err := await(ctx, "too few "+what, countInterval, func(ctx context.Context) (bool, error) {
		n, err := logs.count(ctx, query)
		got = n
		return n >= want, err
	})
	if err != nil {
		return fmt.Errorf("%w: %d of %d are in VictoriaLogs; %s may say why", err, got, want, filepath.Base(d.group.logFile(nameCollector)))
	}
	return nil
}

// await calls done at each interval until it returns true or an error. The context of done ends with startTimeout, so that a call that
// hangs ends too.
func await(ctx context.Context, problem string, interval time.Duration, done func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if ok, err := done(ctx); ok || err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", problem, ctx.Err())
		}
	}
}
