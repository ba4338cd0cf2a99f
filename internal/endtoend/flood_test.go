// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

const (
	// maxMemory bounds the memory of a collector that is flooded, in bytes.
	maxMemory = 250 << 20
	// maxGenuineAnswer bounds how long a genuine notification waits for its answer during a flood.
	maxGenuineAnswer = time.Second
)

// forgery is a body that anybody can send.
type forgery struct {
	body []byte
	// times is how often it is sent, atOnce how many are sent concurrently.
	times, atOnce int
}

// forgeries are bodies that take much more memory than their bytes if each item is decoded and kept.
func forgeries(t *testing.T, h *collectorHarness) map[string]forgery {
	t.Helper()
	empty := strings.TrimSuffix(strings.Repeat("{},", 19_999), ",")
	return map[string]forgery{
		"19,999 empty items":     {[]byte(`{"value":[` + empty + `]}`), 300, 300},
		"900 items of 1 KiB":     {h.forgedBody(t, 900, 0), 300, 300},
		"900 items of 20 KiB":    {h.forgedBody(t, 900, 20<<10), 300, 300},
		"a few items in 4 KiB":   {h.forgedBody(t, 3, 0), 5000, 500},
		"empty items in 4 KiB":   {[]byte(`{"value":[` + empty[:3*1360-1] + `]}`), 5000, 500},
		"20,000 items too many":  {[]byte(`{"value":[` + empty + "," + empty + `]}`), 300, 300},
		"20,000 tokens, no item": {[]byte(`{"value":[{}],"validationTokens":[` + strings.Repeat(`"",`, 19_000) + `""]}`), 300, 300},
	}
}

// forgedBody is a genuine notification with a guessed clientState, whose item is repeated and has more bytes of content.
func (h *collectorHarness) forgedBody(t *testing.T, items, more int) []byte {
	t.Helper()
	c, err := h.emulator.Collection(prompts(t, 1, 1)...)
	require.NoError(t, err)
	c.Value[0].ClientState = strings.Repeat("x", len(c.Value[0].ClientState))
	c.Value[0].EncryptedContent.Data += strings.Repeat("A", more)
	for range items - 1 {
		c.Value = append(c.Value, c.Value[0])
	}
	body, err := json.Marshal(c)
	require.NoError(t, err)
	return body
}

// It does not run in parallel, since it measures memory, time and processor time.
func TestFlood_OfForgedBodiesIsBounded(t *testing.T) { //nolint:paralleltest // see above
	skipIfShort(t, "it is a test of load")
	h := newCollectorHarness(t, "")
	collector := h.run(t)
	h.awaitSubscribed(t)
	for name, f := range forgeries(t, h) {
		t.Run(name, func(t *testing.T) {
			flood := h.startFlood(t, f)
			ended := make(chan struct{})
			var statuses map[int]int
			var err error
			go func() {
				defer close(ended)
				statuses, err = flood()
			}()
			longest, sent := h.postGenuineUntil(t, ended)
			require.NoError(t, err)
			memory := collector.peakMemory(t)
			t.Logf("%d posts of %d bytes: answers %v; peak memory %d MiB; of %d genuine notifications the slowest took %s",
				f.times, len(f.body), statuses, memory>>20, sent, longest.Round(time.Millisecond))
			assert.Less(t, memory, int64(maxMemory))
			assert.Less(t, longest, maxGenuineAnswer)
		})
	}
	assert.Empty(t, collector.linesWith("history read"), "forged notifications cause no backfill")
}

// startFlood begins to post a forgery over many connections. wait returns the number of answers by status when all were sent; 0
// stands for none. The sender is a process of its own, which is this test binary again, so that it does not delay what is measured
// in this one. For the same reason it has received the forgery when startFlood returns: with the race detector, handling so many
// bytes stops the whole process for up to a second.
func (h *collectorHarness) startFlood(t *testing.T, f forgery) (wait func() (statuses map[int]int, err error)) {
	t.Helper()
	order, err := json.Marshal(floodOrder{"https://" + h.webhook + "/graph/notifications", f.body, f.times, f.atOnce})
	require.NoError(t, err)
	executable, err := os.Executable()
	require.NoError(t, err)
	command := exec.CommandContext(t.Context(), executable)
	command.Env = append(os.Environ(), floodVariable+"=1")
	command.Stderr = t.Output()
	var answers bytes.Buffer
	command.Stdout = &answers
	stdin, err := command.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	wait = sync.OnceValues(func() (statuses map[int]int, err error) {
		if err := command.Wait(); err != nil {
			return nil, fmt.Errorf("send the flood: %w", err)
		}
		if err := json.Unmarshal(answers.Bytes(), &statuses); err != nil {
			return nil, fmt.Errorf("read the answers: %w", err)
		}
		return statuses, nil
	})
	t.Cleanup(func() { _, _ = wait() }) // also if the test has failed before
	_, err = stdin.Write(order)
	require.NoError(t, err)
	require.NoError(t, stdin.Close())
	return wait
}

// floodVariable is the environment variable that makes TestMain send a flood instead of running tests.
const floodVariable = "TEST_SEND_FLOOD"

// floodOrder is what the process that sends a flood reads from its standard input, as JSON.
type floodOrder struct {
	URL           string
	Body          []byte
	Times, AtOnce int
}

// sendFlood executes a floodOrder, and writes the number of answers by status, as JSON.
func sendFlood(in io.Reader, out io.Writer) error {
	var order floodOrder
	if err := json.NewDecoder(in).Decode(&order); err != nil {
		return fmt.Errorf("read the order: %w", err)
	}
	var mu sync.Mutex
	statuses := map[int]int{}
	left := make(chan struct{}, order.Times)
	for range order.Times {
		left <- struct{}{}
	}
	close(left)
	var senders sync.WaitGroup
	for range order.AtOnce {
		senders.Go(func() {
			client, done := newHTTPClient()
			defer done()
			for range left {
				status := postTo(context.Background(), client, order.URL, order.Body)
				mu.Lock()
				statuses[status]++
				mu.Unlock()
			}
		})
	}
	senders.Wait()
	if err := json.NewEncoder(out).Encode(statuses); err != nil {
		return fmt.Errorf("write the answers: %w", err)
	}
	return nil
}

// newHTTPClient returns a client with connections of its own.
func newHTTPClient() (client *http.Client, done func()) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	return &http.Client{Transport: transport, Timeout: time.Minute}, transport.CloseIdleConnections
}

// postTo returns the status of the answer to a notification, or 0 without one.
func postTo(ctx context.Context, client *http.Client, url string, body []byte) int {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return 0 // a request that is refused unread may lose its answer
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// postAs is postTo with the address of the webhook.
func (h *collectorHarness) postAs(ctx context.Context, client *http.Client, body []byte) int {
	return postTo(ctx, client, "https://"+h.webhook+"/graph/notifications", body)
}

// postGenuineUntil posts genuine notifications one after another, each of which must be accepted, until ended is closed. It
// returns how long the slowest answer took, without the pauses of this process. At least one is sent.
func (h *collectorHarness) postGenuineUntil(t *testing.T, ended <-chan struct{}) (longest time.Duration, sent int) {
	t.Helper()
	client, done := newHTTPClient()
	defer done()
	for {
		c, err := h.emulator.Collection(prompts(t, 1, 1)...)
		require.NoError(t, err)
		body, err := json.Marshal(c)
		require.NoError(t, err)
		sent++
		pause, began := graphtest.MeasurePauses(t.Context()), time.Now()
		status := h.postAs(t.Context(), client, body)
		took := time.Since(began)
		longest = max(longest, took-pause())
		assert.Equal(t, http.StatusAccepted, status)
		select {
		case <-ended:
			return longest, sent
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// It compares the two costs, since absolute times depend on the machine.
func TestFlood_ForgedBytesCostLessThanGenuine(t *testing.T) { //nolint:paralleltest // it measures processor time
	skipIfShort(t, "it is a test of load")
	h := newCollectorHarness(t, "")
	collector := h.run(t)
	h.awaitSubscribed(t)
	genuine := make(chan []byte, 400)
	for i := range cap(genuine) {
		c, err := h.emulator.Collection(prompt(t, i, user(1), time.Now()))
		require.NoError(t, err)
		body, err := json.Marshal(c)
		require.NoError(t, err)
		genuine <- body
	}
	close(genuine)
	client, done := newHTTPClient()
	defer done()
	// cost returns the processor time for 1,000 bytes of bodies that are all accepted.
	cost := func(t *testing.T, bodies <-chan []byte) time.Duration {
		t.Helper()
		before, sent := collector.processorTime(t), 0
		for body := range bodies {
			require.Equal(t, http.StatusAccepted, h.postAs(t.Context(), client, body))
			sent += len(body)
		}
		return (collector.processorTime(t) - before) * 1000 / time.Duration(sent)
	}
	genuineCost := cost(t, genuine)
	for name, f := range forgeries(t, h) {
		if strings.Contains(name, "too many") {
			continue // it is rejected
		}
		t.Run(name, func(t *testing.T) {
			// Enough bytes for a measurable time.
			times := min(max(4<<20/len(f.body), 3), 500)
			bodies := make(chan []byte, times)
			for range times {
				bodies <- f.body
			}
			close(bodies)
			forgedCost := cost(t, bodies)
			t.Logf("1,000 forged bytes cost %s, 1,000 genuine ones %s", forgedCost, genuineCost)
			assert.Less(t, forgedCost, genuineCost)
		})
	}
}

// processorTime returns the processor time that the collector has used so far.
func (p *process) processorTime(tb testing.TB) time.Duration {
	tb.Helper()
	const tick = 10 * time.Millisecond // USER_HZ, the same on every Linux
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.command.Process.Pid))
	require.NoError(tb, err)
	_, rest, found := strings.Cut(string(stat), ") ") // the name of the program may hold anything
	require.True(tb, found)
	fields := strings.Fields(rest)
	var ticks time.Duration
	for _, field := range fields[11:13] { // utime and stime
		n, err := strconv.ParseInt(field, 10, 64)
		require.NoError(tb, err)
		ticks += time.Duration(n)
	}
	return ticks * tick
}
