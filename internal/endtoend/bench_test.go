package endtoend_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// withoutBackend leaves out what an exporter costs.
const withoutBackend = `
receivers:
  m365_copilot:
    subscription: {check_interval: 1m}
    history: {enabled: false}
    %s
exporters:
  debug: {verbosity: basic, sampling_initial: 1, sampling_thereafter: 1000000}
service:
  telemetry: {logs: {level: warn}}
  pipelines:
    logs: {exporters: [debug]}
    metrics: {exporters: [debug]}
`

// BenchmarkCollector_ProcessorTime measures the processor time of the collector for each interaction, as a multiple of that of
// the RSA operation that each needs, at 16 connections: cpu/rsa.
func BenchmarkCollector_ProcessorTime(b *testing.B) {
	for _, storage := range []struct{ name, setting string }{{"in memory", "storage: null"}, {"with storage", ""}} {
		for _, items := range []int{10, 1} {
			b.Run(fmt.Sprintf("%s, %d in a notification", storage.name, items), func(b *testing.B) {
				benchmarkCollector(b, storage.setting, items)
			})
		}
	}
}

func benchmarkCollector(b *testing.B, storage string, items int) {
	b.Helper()
	h := newHarness(b, "")
	h.configure(b, fmt.Sprintf(withoutBackend, storage))
	collector := h.run(b)
	h.awaitSubscribed(b)
	const connections, rounds = 16, 250
	h.post(b, connections, h.bodies(b, 200/items, items)) // which warms up
	bodies := h.bodies(b, connections*rounds/items, items)
	b.ResetTimer()
	before := collector.processorTime(b)
	floor := rsaTime(b)
	h.post(b, connections, bodies)
	spent := (collector.processorTime(b) - before) / time.Duration(len(bodies)*items)
	floor = min(floor, rsaTime(b))
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(spent.Microseconds()), "cpu-µs/interaction")
	b.ReportMetric(float64(spent)/float64(floor), "cpu/rsa")
}

// bodies returns notifications of new interactions.
func (h *harness) bodies(b *testing.B, n, items int) [][]byte {
	b.Helper()
	all := make([][]byte, n)
	for i := range all {
		in := make([]graphtest.Interaction, items)
		for k := range in {
			h.published++
			in[k] = prompt(b, h.published, user(h.published%100), time.Now())
		}
		c, err := h.emulator.Collection(in...)
		require.NoError(b, err)
		all[i], err = json.Marshal(c)
		require.NoError(b, err)
	}
	return all
}

// post posts all bodies, each of which must be accepted.
func (h *harness) post(b *testing.B, connections int, bodies [][]byte) {
	b.Helper()
	left := make(chan []byte, len(bodies))
	for _, body := range bodies {
		left <- body
	}
	close(left)
	var senders sync.WaitGroup
	failed := make(chan error, connections)
	for range connections {
		senders.Go(func() {
			client, done := newHTTPClient()
			defer done()
			for body := range left {
				response, err := client.Post("https://"+h.webhook+"/graph/notifications", "application/json", bytes.NewReader(body)) //nolint:noctx // ends with its process
				if err != nil {
					failed <- err
					return
				}
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
				if response.StatusCode != http.StatusAccepted {
					failed <- fmt.Errorf("status %d", response.StatusCode)
					return
				}
			}
		})
	}
	senders.Wait()
	close(failed)
	require.NoError(b, <-failed)
}

// rsaTime returns the time of one decryption of a content key.
func rsaTime(b *testing.B) time.Duration {
	b.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(b, err)
	text, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, &key.PublicKey, make([]byte, 32), nil)
	require.NoError(b, err)
	const batches, size = 20, 20
	shortest := time.Hour
	for range batches { // other processes interrupt some of them
		began := time.Now()
		for range size {
			_, err := rsa.DecryptOAEP(sha1.New(), nil, key, text, nil)
			require.NoError(b, err)
		}
		shortest = min(shortest, time.Since(began)/size)
	}
	return shortest
}
