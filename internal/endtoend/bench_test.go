// SPDX-License-Identifier: Apache-2.0

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
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
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
	h := newCollectorHarness(b, "")
	h.configure(b, fmt.Sprintf(withoutBackend, storage))
	collector := h.run(b)
	h.awaitSubscribed(b)
	const connections, rounds, parts = 16, 250, 10
	clients := make([]*http.Client, connections)
	for i := range clients {
		client, done := newHTTPClient()
		defer done()
		clients[i] = client
	}
	h.post(b, clients, h.bodies(b, 200/items, items)) // which connects
	bodies := h.bodies(b, connections*rounds/items, items)
	key := newRSAKey(b)
	var spent, floor time.Duration
	b.ResetTimer()
	for part := range slices.Chunk(bodies, len(bodies)/parts) { // both are measured in turn, since the processors' speed changes
		floor += key.time(b)
		before := collector.processorTime(b)
		h.post(b, clients, part)
		spent += collector.processorTime(b) - before
	}
	spent, floor = spent/time.Duration(len(bodies)*items), floor/parts
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(spent.Microseconds()), "cpu-µs/interaction")
	b.ReportMetric(float64(spent)/float64(floor), "cpu/rsa")
}

// bodies returns notifications of new interactions.
func (h *collectorHarness) bodies(b *testing.B, n, items int) [][]byte {
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
func (h *collectorHarness) post(b *testing.B, clients []*http.Client, bodies [][]byte) {
	b.Helper()
	left := make(chan []byte, len(bodies))
	for _, body := range bodies {
		left <- body
	}
	close(left)
	var senders sync.WaitGroup
	failed := make(chan error, len(clients))
	for _, client := range clients {
		senders.Go(func() {
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

// rsaKey measures the operation that each interaction needs.
type rsaKey struct {
	private   *rsa.PrivateKey
	encrypted []byte
}

func newRSAKey(b *testing.B) rsaKey {
	b.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(b, err)
	encrypted, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, &private.PublicKey, make([]byte, 32), nil)
	require.NoError(b, err)
	return rsaKey{private, encrypted}
}

// time returns the processor time of one decryption while all processors are busy, as they are under load.
func (k rsaKey) time(b *testing.B) time.Duration {
	b.Helper()
	const times = 100
	before := ownProcessorTime(b)
	var busy sync.WaitGroup
	for range runtime.NumCPU() {
		busy.Go(func() {
			for range times {
				_, err := rsa.DecryptOAEP(sha1.New(), nil, k.private, k.encrypted, nil)
				assert.NoError(b, err)
			}
		})
	}
	busy.Wait()
	return (ownProcessorTime(b) - before) / time.Duration(times*runtime.NumCPU())
}

func ownProcessorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
