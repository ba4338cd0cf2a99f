// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
)

func newDisplay() (*display, *bytes.Buffer) {
	out := &bytes.Buffer{}
	return &display{out: out, users: map[string]bool{}, apps: map[string]bool{}}, out
}

// newRecord returns one record as the receiver makes it, after a change.
func newRecord(change func(plog.LogRecord)) plog.Logs {
	logs := plog.NewLogs()
	record := logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	record.SetEventName("microsoft.copilot.interaction")
	record.SetTimestamp(pcommon.NewTimestampFromTime(time.Date(2026, 5, 1, 9, 30, 12, 0, time.Local)))
	record.Body().SetStr("first line\nsecond line")
	for name, value := range map[string]string{
		"microsoft.copilot.app.name": "Word", "microsoft.copilot.interaction.type": "userPrompt",
		"microsoft.copilot.change.type": "created", "user.id": "b2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f00",
	} {
		record.Attributes().PutStr(name, value)
	}
	record.Attributes().PutDouble("microsoft.copilot.ingestion.delay", 4.26)
	record.Attributes().PutInt("microsoft.copilot.content.length", 22)
	record.Attributes().PutBool("microsoft.copilot.content.captured", true)
	if change != nil {
		change(record)
	}
	return logs
}

func TestDisplay_PrintsOneLinePerInteraction(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(plog.LogRecord)
		want   string
	}{
		"with its text if it was captured": {
			want: "09:30:12  Word                  b2a7c9e4  userPrompt    4.3 s     22 characters  first line second line",
		},
		"without the summary of a body without text": {
			change: func(r plog.LogRecord) { r.Attributes().PutBool("microsoft.copilot.content.captured", false) },
			want:   "09:30:12  Word                  b2a7c9e4  userPrompt    4.3 s     22 characters",
		},
		"with the change if it is not a creation": {
			change: func(r plog.LogRecord) { r.Attributes().PutStr("microsoft.copilot.change.type", "deleted") },
			want:   "09:30:12  Word                  b2a7c9e4  deleted userPrompt    4.3 s     22 characters  first line second line",
		},
		"without terminal control characters": {
			change: func(r plog.LogRecord) { r.Body().SetStr("a\x1b[2Jb") },
			want:   "09:30:12  Word                  b2a7c9e4  userPrompt    4.3 s     22 characters  a\ufffd[2Jb",
		},
		"truncated if it is long": {
			change: func(r plog.LogRecord) { r.Body().SetStr(strings.Repeat("é", 101)) },
			want:   "09:30:12  Word                  b2a7c9e4  userPrompt    4.3 s     22 characters  " + strings.Repeat("é", 99) + "…",
		},
		"with defaults if nothing is known": {
			change: func(r plog.LogRecord) {
				r.Attributes().Clear()
				r.Attributes().PutStr("microsoft.copilot.change.type", "created")
			},
			want: "09:30:12                        -         interaction               0 characters",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, out := newDisplay()
			d.logs(newRecord(test.change))
			assert.Equal(t, test.want+"\n", out.String())
		})
	}
}

func TestDisplay_SummarizesSinceLastSummary(t *testing.T) {
	t.Parallel()
	d, out := newDisplay()
	d.logs(newRecord(nil))
	d.logs(newRecord(func(r plog.LogRecord) {
		r.Attributes().PutStr("microsoft.copilot.interaction.type", "aiResponse")
		r.Attributes().PutDouble("microsoft.copilot.ingestion.delay", 2)
	}))
	out.Reset()
	d.metrics(gauges(map[string][]float64{
		"microsoft.copilot.subscription.time_left": {3600}, "microsoft.copilot.history.gap": {60, 0, 30},
	}))
	d.summarize()
	d.summarize()
	assert.Equal(t, "-- last 10s: 2 interactions, 1 of them prompts, of 1 users in 1 apps; delay p50 2.0 s, p95 4.3 s; 2 in total; "+
		"subscription expires in 1h0m0s; 1m30s missing\n"+
		"-- last 10s: 0 interactions, 0 of them prompts, of 0 users in 0 apps; 2 in total; subscription expires in 1h0m0s; 1m30s missing\n",
		out.String())
}

func gauges(values map[string][]float64) pmetric.Metrics {
	metrics := pmetric.NewMetrics()
	all := metrics.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics()
	for name, points := range values {
		metric := all.AppendEmpty()
		metric.SetName(name)
		gauge := metric.SetEmptyGauge()
		for _, value := range points {
			gauge.DataPoints().AppendEmpty().SetDoubleValue(value)
		}
	}
	return metrics
}

func TestDisplay_ReceivesOTLPOverHTTP(t *testing.T) {
	t.Parallel()
	logs, err := plogotlp.NewExportRequestFromLogs(newRecord(nil)).MarshalProto()
	require.NoError(t, err)
	metrics, err := pmetricotlp.NewExportRequestFromMetrics(gauges(map[string][]float64{"a": {1}})).MarshalProto()
	require.NoError(t, err)
	tests := map[string]struct {
		path     string
		body     []byte
		status   int
		complete bool
	}{
		"logs are shown":              {path: "/v1/logs", body: logs, status: http.StatusOK},
		"metrics are kept":            {path: "/v1/metrics", body: metrics, status: http.StatusOK, complete: true},
		"what is not OTLP is refused": {path: "/v1/logs", body: []byte("\x1f\x8b not protobuf"), status: http.StatusBadRequest, complete: true},
		"another path is not there":   {path: "/v1/traces", body: logs, status: http.StatusNotFound, complete: true},
	}
	d, out := newDisplay()
	for _, name := range []string{"logs are shown", "metrics are kept", "what is not OTLP is refused", "another path is not there"} {
		test := tests[name]
		answer := httptest.NewRecorder()
		d.handler().ServeHTTP(answer, httptest.NewRequest(http.MethodPost, test.path, bytes.NewReader(test.body)))
		assert.Equal(t, test.status, answer.Code, name)
		assert.Equal(t, test.complete, d.complete(), name)
	}
	assert.Equal(t, 1, strings.Count(out.String(), "\n"))
}

func TestShow_FailsWithoutRequiredData(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	code := runShow(t.Context(), []string{"-listen", "127.0.0.1:0", "-duration", "1ms", "-require-interactions"}, io.Discard, &stderr)
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stderr.String(), "is the collector running?")

	assert.Equal(t, exitOK, runShow(t.Context(), []string{"-listen", "127.0.0.1:0", "-duration", "1ms"}, io.Discard, &stderr))
}

func TestShow_RejectsInvalidUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-unknown"}, {"argument"}, {"-duration", "-1s"}} {
		var stderr bytes.Buffer
		assert.Equal(t, exitUsage, runShow(t.Context(), args, io.Discard, &stderr), args)
		assert.NotEmpty(t, stderr.String(), args)
	}
	var stdout bytes.Buffer
	assert.Equal(t, exitOK, runShow(t.Context(), []string{"-h"}, &stdout, io.Discard))
	assert.Contains(t, stdout.String(), "-require-interactions")
	assert.Equal(t, exitFailed, runShow(context.Background(), []string{"-listen", "127.0.0.1:-1"}, io.Discard, io.Discard))
}
