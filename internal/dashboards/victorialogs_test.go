// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// victoriaLogs is a log store in a process of its own. Each test case is a tenant of it.
type victoriaLogs struct{ address string }

// startVictoriaLogs starts it, or skips the test with -short. It ends with the test.
func startVictoriaLogs(t *testing.T) victoriaLogs {
	t.Helper()
	if testing.Short() {
		t.Skip("left out with -short: it starts a database")
	}
	program := filepath.Join("..", "..", "_tools", "victoria-logs")
	require.FileExists(t, program, "`make _tools/victoria-logs` builds it")
	store := victoriaLogs{address: freeAddress(t)}
	// The records are in the past, at fixed times.
	command := exec.CommandContext(t.Context(), program, "-httpListenAddr="+store.address, "-storageDataPath="+t.TempDir(),
		"-memory.allowedBytes=64MB", "-retentionPeriod=100y")
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 10 * time.Second
	lines, err := command.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	t.Cleanup(func() { _ = command.Wait() })
	giveUp := time.AfterFunc(time.Minute, func() { _ = command.Process.Kill() })
	defer giveUp.Stop()
	scanner := bufio.NewScanner(lines)
	for scanner.Scan() {
		if strings.Contains(scanner.Text(), "started server at") {
			go func() { _, _ = io.Copy(io.Discard, lines) }()
			return store
		}
	}
	require.Fail(t, "VictoriaLogs did not start")
	return store
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// insert stores records, and waits until they can be queried:
// https://docs.victoriametrics.com/victorialogs/data-ingestion/#json-stream-api
func (v victoriaLogs) insert(t *testing.T, tenant string, records []record) {
	t.Helper()
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	for _, r := range records {
		require.NoError(t, encoder.Encode(r))
	}
	v.request(t, tenant, "/insert/jsonline?_stream_fields=event_name,service.name&_msg_field=_msg&_time_field=_time", body.Bytes())
	v.request(t, tenant, "/internal/force_flush", nil)
}

// evaluate returns the value of a recording at the moment by the value of its label. The result has no other labels:
// https://docs.victoriametrics.com/victorialogs/querying/#querying-log-stats
func (v victoriaLogs) evaluate(t *testing.T, tenant string, r recording) map[string]float64 {
	t.Helper()
	arguments := url.Values{"query": {r.victoria}, "time": {moment.Format(time.RFC3339)}}
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any // time and value
			}
		}
	}
	require.NoError(t, json.Unmarshal(v.request(t, tenant, "/select/logsql/stats_query?"+arguments.Encode(), nil), &answer))
	values := map[string]float64{}
	for _, result := range answer.Data.Result {
		value, err := strconv.ParseFloat(result.Value[1].(string), 64)
		require.NoError(t, err)
		key := result.Metric[r.by]
		require.NotContains(t, values, key, "two series")
		values[key] = value
		delete(result.Metric, "__name__") // of the result, which the name of the rule replaces
		delete(result.Metric, r.by)
		require.Empty(t, result.Metric)
	}
	return values
}

func (v victoriaLogs) request(t *testing.T, tenant, path string, body []byte) []byte {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+v.address+path, bytes.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("AccountID", tenant)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, "%s: %s", path, content)
	return content
}
