// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
)

// backend receives logs and metrics by OTLP over HTTP, counts the logs and keeps the latest values of the metrics.
type backend struct {
	address string
	// delay is how long each request takes, status the answer unless 0. They are set before a collector runs.
	delay  time.Duration
	status int

	mu sync.Mutex // guards what follows
	// arrived counts records by session and interaction id.
	arrived map[string]int
	// uids counts them by log.record.uid.
	uids map[string]int
	// inventory holds the entries of each user in the order of their arrival.
	inventory map[string][]inventoryEntry
	// sources counts records by source: notification or history.
	sources map[string]int
	// metrics holds the latest value of each sum and gauge, by name and attributes.
	metrics map[string]float64
	changed chan struct{}
	server  *http.Server
}

// inventoryEntry is an event of a licensed user.
type inventoryEntry struct {
	uid string
	at  time.Time
}

func newBackend(tb testing.TB) *backend {
	tb.Helper()
	b := &backend{
		address: freeAddress(tb), arrived: map[string]int{}, uids: map[string]int{}, inventory: map[string][]inventoryEntry{},
		sources: map[string]int{}, metrics: map[string]float64{}, changed: make(chan struct{}),
	}
	b.start(tb)
	tb.Cleanup(b.stop)
	return b
}

// start listens, always at the same address.
func (b *backend) start(tb testing.TB) {
	tb.Helper()
	listener, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", b.address)
	require.NoError(tb, err)
	server := &http.Server{Handler: http.HandlerFunc(b.take), ReadHeaderTimeout: time.Minute}
	b.mu.Lock()
	b.server = server
	b.mu.Unlock()
	go func() { _ = server.Serve(listener) }()
}

// stop closes the listener and all connections. Answers under way are sent first: what was counted and not answered would come again.
func (b *backend) stop() {
	b.mu.Lock()
	server := b.server
	b.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = server.Shutdown(ctx) // Close ends the requests that outlast it
	_ = server.Close()
}

func (b *backend) take(w http.ResponseWriter, r *http.Request) {
	data, err := read(r)
	logs, metrics := plogotlp.NewExportRequest(), pmetricotlp.NewExportRequest()
	switch {
	case err != nil:
	case r.URL.Path == "/v1/logs":
		err = logs.UnmarshalProto(data)
	default:
		err = metrics.UnmarshalProto(data)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if r.URL.Path != "/v1/logs" {
		b.keep(metrics.Metrics())
		w.Header().Set("Content-Type", "application/x-protobuf")
		return
	}
	select {
	case <-time.After(b.delay):
	case <-r.Context().Done():
		return
	}
	if b.status != 0 {
		http.Error(w, "", b.status)
		return
	}
	b.count(logs.Logs())
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func read(r *http.Request) ([]byte, error) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unpacked, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, err
		}
		body = unpacked
	}
	return io.ReadAll(body)
}

// keep keeps the values of sums and gauges.
func (b *backend) keep(metrics pmetric.Metrics) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, resource := range metrics.ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				switch metric.Type() {
				case pmetric.MetricTypeSum:
					b.keepPoints(metric.Name(), metric.Sum().DataPoints())
				case pmetric.MetricTypeGauge:
					b.keepPoints(metric.Name(), metric.Gauge().DataPoints())
				}
			}
		}
	}
	close(b.changed)
	b.changed = make(chan struct{})
}

// keepPoints is called with mu held.
func (b *backend) keepPoints(name string, points pmetric.NumberDataPointSlice) {
	for _, point := range points.All() {
		var attributes []string
		for key, value := range point.Attributes().All() {
			attributes = append(attributes, fmt.Sprintf("%s=%q", key, value.AsString()))
		}
		slices.Sort(attributes)
		value := point.DoubleValue()
		if point.ValueType() == pmetric.NumberDataPointValueTypeInt {
			value = float64(point.IntValue())
		}
		b.metrics[name+"{"+strings.Join(attributes, ",")+"}"] = value
	}
}

// metric returns the latest value of a metric, written as name{attribute="value"}.
func (b *backend) metric(name string) (value float64, found bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	value, found = b.metrics[name]
	return value, found
}

// awaitMetric waits until a metric, written as name{attribute="value"}, has a value that is accepted.
func (b *backend) awaitMetric(t *testing.T, name string, accept func(value float64) bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		value, found := b.metric(name)
		return found && accept(value)
	}, waitTimeout, 50*time.Millisecond, name)
}

func (b *backend) count(logs plog.Logs) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				if record.EventName() == "microsoft.copilot.user" {
					id := value(record, "user.id")
					b.inventory[id] = append(b.inventory[id], inventoryEntry{value(record, "log.record.uid"), record.Timestamp().AsTime()})
					continue
				}
				b.arrived[value(record, "gen_ai.conversation.id")+" "+value(record, "microsoft.copilot.interaction.id")]++
				b.uids[value(record, "log.record.uid")]++
				b.sources[value(record, "microsoft.copilot.source")]++
			}
		}
	}
	close(b.changed)
	b.changed = make(chan struct{})
}

func value(record plog.LogRecord, attribute string) string {
	v, _ := record.Attributes().Get(attribute)
	return v.AsString()
}

// await waits until all of these have arrived.
func (b *backend) await(tb testing.TB, want []string, timeout time.Duration) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), timeout)
	defer cancel()
	for {
		b.mu.Lock()
		changed, missing := b.changed, b.missing(want)
		b.mu.Unlock()
		if len(missing) == 0 {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			require.FailNowf(tb, "interactions are missing", "%d of %d, for example %v", len(missing), len(want), missing[:min(3, len(missing))])
		}
	}
}

// missing is called with mu held.
func (b *backend) missing(want []string) []string {
	return slices.DeleteFunc(slices.Clone(want), func(id string) bool { return b.arrived[id] > 0 })
}

// awaitInventory waits until entries of users are accepted, and returns them.
func (b *backend) awaitInventory(tb testing.TB, accept func(entries map[string][]inventoryEntry) bool) map[string][]inventoryEntry {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 2*time.Minute)
	defer cancel()
	for {
		b.mu.Lock()
		changed, entries := b.changed, maps.Clone(b.inventory)
		b.mu.Unlock()
		if accept(entries) {
			return entries
		}
		select {
		case <-changed:
		case <-ctx.Done():
			require.FailNowf(tb, "entries are missing", "%d users have some", len(entries))
		}
	}
}

// recordsBySource returns the number of records of each source.
func (b *backend) recordsBySource() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.sources)
}

// recordsByUID returns the number of records of each log.record.uid.
func (b *backend) recordsByUID() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.uids)
}

// duplicates counts the records beyond the first of each interaction.
func (b *backend) duplicates() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, count := range b.arrived {
		n += count - 1
	}
	return n
}
