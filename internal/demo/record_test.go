// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// databaseFake answers queries of logs with the answer for their time, and keeps the lines that are imported.
type databaseFake struct {
	answers map[string]string
	mu      sync.Mutex // guards what follows
	lines   []series
	paths   []string
}

func (d *databaseFake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.paths = append(d.paths, r.URL.Path)
	switch r.URL.Path {
	case "/select/logsql/stats_query":
		answer, known := d.answers[r.FormValue("time")]
		if !known || r.FormValue("query") != "_time:1d | stats by (app) count() as n" {
			w.WriteHeader(http.StatusUnprocessableEntity)
		}
		_, _ = io.WriteString(w, answer)
	case "/api/v1/import":
		decoder := json.NewDecoder(r.Body)
		for decoder.More() {
			var one series
			if decoder.Decode(&one) != nil {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			d.lines = append(d.lines, one)
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

// newRecorder returns a recorder whose databases are both the fake.
func newRecorder(t *testing.T, answers map[string]string) (*recorder, *databaseFake) {
	t.Helper()
	fake := &databaseFake{answers: answers}
	server := httptest.NewServer(fake)
	t.Cleanup(server.Close)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	address := strings.TrimPrefix(server.URL, "http://")
	return &recorder{logs: logDatabase{address}, metrics: address}, fake
}

var (
	firstDay  = time.Date(2026, time.November, 1, 0, 0, 0, 0, time.UTC)
	secondDay = firstDay.Add(day)
	byApp     = rule{"copilot:prompts", "_time:1d | stats by (app) count() as n", map[string]string{"window": "1d"}}
)

func TestRecorder_WritesResultsWithTheirTimes(t *testing.T) {
	t.Parallel()
	r, fake := newRecorder(t, map[string]string{
		"2026-11-01T00:00:00Z": `{"data":{"result":[
			{"metric":{"__name__":"n","app":"Word"},"value":[1,"7"]},{"metric":{"__name__":"n","app":""},"value":[1,"2.5"]}]}}`,
		"2026-11-02T00:00:00Z": `{"data":{"result":[{"metric":{"__name__":"n","app":"Word"},"value":[1,"8"]},
			{"metric":{"__name__":"n","app":"Excel"},"value":[1,"NaN"]}]}}`,
	})
	require.NoError(t, r.record(t.Context(), []evaluation{{byApp, firstDay}, {byApp, secondDay}}))
	for i := range fake.lines {
		if one := &fake.lines[i]; len(one.Values) == 2 && one.Values[0] == 8 { // they are evaluated at once
			one.Values[0], one.Values[1] = one.Values[1], one.Values[0]
			one.Timestamps[0], one.Timestamps[1] = one.Timestamps[1], one.Timestamps[0]
		}
	}
	assert.ElementsMatch(t, []series{
		{
			map[string]string{"__name__": "copilot:prompts", "stats_result": "n", "app": "Word", "window": "1d"},
			[]float64{7, 8},
			[]int64{firstDay.UnixMilli(), secondDay.UnixMilli()},
		},
		{map[string]string{"__name__": "copilot:prompts", "stats_result": "n", "window": "1d"}, []float64{2.5}, []int64{firstDay.UnixMilli()}},
	}, fake.lines)
	assert.Equal(t, "/internal/force_flush", fake.paths[len(fake.paths)-1], "so that it can be queried")
}

func TestRecorder_ReportsWhatFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ answer, want string }{
		"a query that is refused":      {"", "422 Unprocessable Entity"},
		"an answer that is no JSON":    {"<html>", "invalid character"},
		"a result that is no number":   {`{"data":{"result":[{"metric":{},"value":[1,"Word"]}]}}`, `parsing "Word"`},
		"a result that has no samples": {`{"data":{"result":[{"metric":{}}]}}`, `parsing "<nil>"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answers := map[string]string{}
			if c.answer != "" {
				answers["2026-11-01T00:00:00Z"] = c.answer
			}
			r, _ := newRecorder(t, answers)
			err := r.record(t.Context(), []evaluation{{byApp, firstDay}})
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestRecorder_ReportsDatabaseThatIsDown(t *testing.T) {
	t.Parallel()
	r, _ := newRecorder(t, map[string]string{"2026-11-01T00:00:00Z": `{"data":{"result":[]}}`})
	r.metrics = "127.0.0.1:1"
	require.ErrorContains(t, r.record(t.Context(), []evaluation{{byApp, firstDay}}), "connection refused")
}
