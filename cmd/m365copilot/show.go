// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
)

const showHelp = `Show what a collector exports: one line for each interaction, and a summary every 10 seconds.

Usage: m365copilot show [flags]

It listens for OTLP over HTTP. The collector's configuration:

  exporters:
    otlp_http:
      endpoint: http://127.0.0.1:4318
      compression: none

A line shows the time of creation, app, user, kind, ingestion delay, length and, where it was captured, the text.
Exit code 1: it could not listen, or with -require-interactions none arrived.

Flags:
`

const (
	summaryInterval = 10 * time.Second
	// maxExport bounds the bytes of one request; exporters split larger batches.
	maxExport = 64 << 20
	// maxShown bounds the characters of a text that are shown.
	maxShown = 100
)

type showOptions struct {
	listen   string
	duration time.Duration
	require  bool
}

func runShow(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseShow(args, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		_, _ = fmt.Fprintf(stderr, "m365copilot show: %v\n", err)
		return exitUsage
	}
	if err := show(ctx, o, stdout); err != nil {
		_, _ = fmt.Fprintf(stderr, "m365copilot show: %v\n", err)
		return exitFailed
	}
	return exitOK
}

func parseShow(args []string, stdout io.Writer) (showOptions, error) {
	var o showOptions
	flags := flag.NewFlagSet("show", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.listen, "listen", "127.0.0.1:4318", "`address` for OTLP over HTTP")
	flags.DurationVar(&o.duration, "duration", 0, "`time` after which the command ends; 0: at SIGINT or SIGTERM")
	flags.BoolVar(&o.require, "require-interactions", false, "exit with 1 when no interaction or no metric arrived")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		_, _ = fmt.Fprint(stdout, showHelp)
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return o, err
	case err != nil:
		return o, fmt.Errorf("%w; -h lists the flags", err)
	case flags.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.duration < 0:
		return o, errors.New("-duration must not be negative")
	}
	return o, nil
}

// show listens until ctx ends or the duration has passed.
func show(ctx context.Context, o showOptions, stdout io.Writer) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.listen)
	if err != nil {
		return fmt.Errorf("-listen: %w", err)
	}
	d := &display{out: stdout, users: map[string]bool{}, apps: map[string]bool{}}
	server := &http.Server{Handler: d.handler(), ReadHeaderTimeout: 5 * time.Second}
	running, cancel := context.WithCancel(ctx)
	if o.duration > 0 {
		running, cancel = context.WithTimeout(ctx, o.duration)
	}
	defer cancel()
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	every(running, summaryInterval, d.summarize)
	_ = server.Close()
	serving.Wait()
	d.summarize()
	if o.require && !d.complete() {
		return errors.New("no interaction or no metric arrived, and both are required; is the collector running?")
	}
	return nil
}

// display prints what arrives. It is safe for concurrent use.
type display struct {
	out io.Writer

	mu sync.Mutex // guards what follows
	// total counts all interactions; prompts, recent, delays, users and apps are of those since the last summary.
	total, prompts, recent int
	delays                 []float64
	users, apps            map[string]bool
	// gauges are the latest values by name, each the sum of its data points.
	gauges map[string]float64
}

func (d *display) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/logs", func(w http.ResponseWriter, r *http.Request) {
		request := plogotlp.NewExportRequest()
		if receive(w, r, request.UnmarshalProto) {
			d.logs(request.Logs())
		}
	})
	mux.HandleFunc("POST /v1/metrics", func(w http.ResponseWriter, r *http.Request) {
		request := pmetricotlp.NewExportRequest()
		if receive(w, r, request.UnmarshalProto) {
			d.metrics(request.Metrics())
		}
	})
	return mux
}

// receive decodes a request and answers it. An empty body is a valid answer:
// https://opentelemetry.io/docs/specs/otlp/#otlphttp-response
func receive(w http.ResponseWriter, r *http.Request, decode func([]byte) error) bool {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxExport))
	if err == nil {
		err = decode(body)
	}
	if err != nil {
		http.Error(w, "not OTLP in protobuf, or compressed: set compression: none", http.StatusBadRequest)
		return false
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	w.WriteHeader(http.StatusOK)
	return true
}

func (d *display) logs(logs plog.Logs) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				if record.EventName() == "microsoft.copilot.interaction" {
					d.interaction(record)
				}
			}
		}
	}
}

// interaction prints one line. It is called with mu held.
func (d *display) interaction(record plog.LogRecord) {
	attributes := record.Attributes().AsRaw()
	attribute := func(name string) string {
		value, _ := attributes[name].(string)
		return value
	}
	app, user := attribute("microsoft.copilot.app.name"), attribute("user.id")
	kind := cmp.Or(attribute("microsoft.copilot.interaction.type"), "interaction")
	if change := attribute("microsoft.copilot.change.type"); change != "created" {
		kind = change + " " + kind
	}
	delay := ""
	if seconds, ok := attributes["microsoft.copilot.ingestion.delay"].(float64); ok {
		d.delays = append(d.delays, seconds)
		delay = fmt.Sprintf("%.1f s", seconds)
	}
	length, _ := attributes["microsoft.copilot.content.length"].(int64)
	text := ""
	if captured, _ := attributes["microsoft.copilot.content.captured"].(bool); captured {
		text = oneLine(record.Body().AsString())
	}
	d.total, d.recent = d.total+1, d.recent+1
	if kind == "userPrompt" {
		d.prompts++
	}
	d.users[user], d.apps[app] = true, true
	// The first eight characters of an id are enough to distinguish the users of a demonstration.
	line := fmt.Sprintf("%s  %-20s  %-8.8s  %-10s  %7s  %5d characters  %s", record.Timestamp().AsTime().Local().Format(time.TimeOnly),
		oneLine(app), oneLine(cmp.Or(user, "-")), oneLine(kind), delay, length, text)
	_, _ = fmt.Fprintln(d.out, strings.TrimRight(line, " "))
}

// oneLine returns the beginning of a text, without line breaks and terminal control characters.
func oneLine(text string) string {
	words := []rune(strings.Join(strings.Fields(text), " "))
	for i, r := range words {
		if !unicode.IsPrint(r) {
			words[i] = '\ufffd'
		}
	}
	if len(words) > maxShown {
		words = append(words[:maxShown-1], '…')
	}
	return string(words)
}

func (d *display) metrics(metrics pmetric.Metrics) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gauges = map[string]float64{}
	for _, resource := range metrics.ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				if metric.Type() != pmetric.MetricTypeGauge {
					continue
				}
				for _, point := range metric.Gauge().DataPoints().All() {
					d.gauges[metric.Name()] += point.DoubleValue()
				}
			}
		}
	}
}

// summarize prints what arrived since the last summary.
func (d *display) summarize() {
	d.mu.Lock()
	defer d.mu.Unlock()
	line := fmt.Sprintf("-- last %s: %d interactions, %d of them prompts, of %d users in %d apps", summaryInterval, d.recent, d.prompts, len(d.users), len(d.apps))
	if len(d.delays) > 0 {
		slices.Sort(d.delays)
		line += fmt.Sprintf("; delay p50 %.1f s, p95 %.1f s", quantile(d.delays, 0.5), quantile(d.delays, 0.95))
	}
	line += fmt.Sprintf("; %d in total", d.total)
	if left, ok := d.gauges["microsoft.copilot.subscription.time_left"]; ok {
		line += fmt.Sprintf("; subscription expires in %s", time.Duration(left*float64(time.Second)).Round(time.Minute))
	}
	if missing, ok := d.gauges["microsoft.copilot.history.gap"]; ok {
		line += fmt.Sprintf("; %s missing", time.Duration(missing*float64(time.Second)).Round(time.Second))
	}
	_, _ = fmt.Fprintln(d.out, line)
	d.recent, d.prompts, d.delays = 0, 0, nil
	clear(d.users)
	clear(d.apps)
}

// complete reports whether interactions and metrics arrived.
func (d *display) complete() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.total > 0 && d.gauges != nil
}

// quantile returns the smallest of the sorted values such that at least a fraction q of them is less or equal.
func quantile(sorted []float64, q float64) float64 {
	return sorted[max(int(math.Ceil(q*float64(len(sorted))))-1, 0)]
}
