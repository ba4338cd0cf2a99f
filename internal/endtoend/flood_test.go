package endtoend_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	// maxMemory bounds the memory of a collector that is flooded, in bytes.
	maxMemory = 250 << 20
	// maxHonestAnswer bounds how long a genuine notification waits for its answer meanwhile.
	maxHonestAnswer = time.Second
)

// forgery is a body that anybody can send.
type forgery struct {
	body []byte
	// times is how often it is sent, at once how many times at the same moment.
	times, atOnce int
}

// forgeries are bodies that unfold into much more than their bytes where each item is decoded and kept.
func forgeries(t *testing.T, s *site) map[string]forgery {
	t.Helper()
	empty := strings.TrimSuffix(strings.Repeat("{},", 19_999), ",")
	return map[string]forgery{
		"19,999 empty items":     {[]byte(`{"value":[` + empty + `]}`), 300, 300},
		"900 items of 1 KiB":     {s.forged(t, 900, 0), 300, 300},
		"900 items of 20 KiB":    {s.forged(t, 900, 20<<10), 300, 300},
		"a few items in 4 KiB":   {s.forged(t, 3, 0), 5000, 500},
		"empty items in 4 KiB":   {[]byte(`{"value":[` + empty[:3*1360-1] + `]}`), 5000, 500},
		"20,000 items too many":  {[]byte(`{"value":[` + empty + "," + empty + `]}`), 300, 300},
		"20,000 tokens, no item": {[]byte(`{"value":[{}],"validationTokens":[` + strings.Repeat(`"",`, 19_000) + `""]}`), 300, 300},
	}
}

// forged is a genuine notification with a guessed client state, so many times the same item, with so much more content.
func (s *site) forged(t *testing.T, items, more int) []byte {
	t.Helper()
	c, err := s.emulator.Collection(prompts(t, 1, 1)...)
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

// Nothing else runs beside it, since it measures memory, time and processor time.
func TestCollector_WithstandsFloodOfForgedBodies(t *testing.T) { //nolint:paralleltest // see above
	s := newSite(t, "")
	collector := s.run(t)
	s.subscribed(t)
	for name, f := range forgeries(t, s) {
		t.Run(name, func(t *testing.T) {
			ended := make(chan struct{})
			var statuses map[int]int
			go func() {
				defer close(ended)
				statuses = s.flood(t, f)
			}()
			longest, sent := s.beHonestUntil(t, ended)
			memory := collector.peakMemory(t)
			t.Logf("%d posts of %d bytes: answers %v; peak memory %d MiB; of %d genuine notifications the slowest took %s",
				f.times, len(f.body), statuses, memory>>20, sent, longest.Round(time.Millisecond))
			assert.Less(t, memory, int64(maxMemory))
			assert.Less(t, longest, maxHonestAnswer)
		})
	}
	assert.Empty(t, collector.said("history read"), "nobody's history is read because of a stranger")
}

// flood sends a forgery, each on a connection of its own, and counts the answers; 0 stands for none.
func (s *site) flood(t *testing.T, f forgery) map[int]int {
	t.Helper()
	var mu sync.Mutex
	statuses := map[int]int{}
	begin, left := make(chan struct{}), make(chan struct{}, f.times)
	for range f.times {
		left <- struct{}{}
	}
	close(left)
	var senders, connecting sync.WaitGroup
	connecting.Add(f.atOnce)
	for range f.atOnce {
		senders.Go(func() {
			client, done := stranger()
			defer done()
			s.postAs(t.Context(), client, "?validationToken=x", nil) // which connects
			connecting.Done()
			<-begin
			for range left {
				status := s.postAs(t.Context(), client, "", f.body)
				mu.Lock()
				statuses[status]++
				mu.Unlock()
			}
		})
	}
	connecting.Wait()
	close(begin)
	senders.Wait()
	return statuses
}

// stranger is somebody with a connection to the webhook.
func stranger() (client *http.Client, done func()) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	return &http.Client{Transport: transport, Timeout: time.Minute}, transport.CloseIdleConnections
}

// yielding lets others run after each piece: the senders of a flood must not keep this process from noticing answers.
type yielding struct{ io.Reader }

func (y yielding) Read(p []byte) (int, error) {
	defer runtime.Gosched()
	return y.Reader.Read(p)
}

func (s *site) postAs(ctx context.Context, client *http.Client, query string, body []byte) int {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+s.webhook+"/graph/notifications"+query, yielding{bytes.NewReader(body)})
	if err != nil {
		return 0
	}
	request.ContentLength = int64(len(body))
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return 0 // a request that is refused unread may lose its answer
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// beHonestUntil posts genuine notifications one after another, each of which must be accepted, until ended is closed, and
// returns how long the slowest answer took, from the end of the request: what came before was this process, which is busy
// with the flood. At least one is sent.
func (s *site) beHonestUntil(t *testing.T, ended <-chan struct{}) (longest time.Duration, sent int) {
	t.Helper()
	client, done := stranger()
	defer done()
	var written, answered atomic.Pointer[time.Time]
	note := func(at *atomic.Pointer[time.Time]) { now := time.Now(); at.Store(&now) }
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		WroteRequest:         func(httptrace.WroteRequestInfo) { note(&written) },
		GotFirstResponseByte: func() { note(&answered) },
	})
	for {
		c, err := s.emulator.Collection(prompts(t, 1, 1)...)
		require.NoError(t, err)
		body, err := json.Marshal(c)
		require.NoError(t, err)
		sent++
		assert.Equal(t, http.StatusAccepted, s.postAs(ctx, client, "", body))
		// The answer may be here before this process has noticed that the request is sent.
		if from, to := written.Load(), answered.Load(); from != nil && to != nil {
			longest = max(longest, to.Sub(*from))
		}
		select {
		case <-ended:
			return longest, sent
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// The bars are relative to each other, as absolute times say more of the machine.
func TestCollector_SpendsLessOnForgedBytesThanOnGenuine(t *testing.T) { //nolint:paralleltest // it measures processor time
	s := newSite(t, "")
	collector := s.run(t)
	s.subscribed(t)
	genuine := make(chan []byte, 400)
	for i := range cap(genuine) {
		c, err := s.emulator.Collection(prompt(t, i, user(1), time.Now()))
		require.NoError(t, err)
		body, err := json.Marshal(c)
		require.NoError(t, err)
		genuine <- body
	}
	close(genuine)
	client, done := stranger()
	defer done()
	// cost is the processor time for each byte of bodies that are all accepted.
	cost := func(t *testing.T, bodies <-chan []byte) time.Duration {
		t.Helper()
		before, sent := collector.processorTime(t), 0
		for body := range bodies {
			require.Equal(t, http.StatusAccepted, s.postAs(t.Context(), client, "", body))
			sent += len(body)
		}
		return (collector.processorTime(t) - before) * 1000 / time.Duration(sent)
	}
	honest := cost(t, genuine)
	for name, f := range forgeries(t, s) {
		if strings.Contains(name, "too many") {
			continue // it is refused
		}
		t.Run(name, func(t *testing.T) {
			// As many bytes as take a measurable time.
			times := min(max(16<<20/len(f.body), 3), 2000)
			bodies := make(chan []byte, times)
			for range times {
				bodies <- f.body
			}
			close(bodies)
			forged := cost(t, bodies)
			t.Logf("1,000 forged bytes cost %s, 1,000 genuine ones %s", forged, honest)
			assert.Less(t, forged, honest)
		})
	}
}

// processorTime is what the collector has used so far.
func (p *process) processorTime(t *testing.T) time.Duration {
	t.Helper()
	const tick = 10 * time.Millisecond // USER_HZ, the same on every Linux
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.command.Process.Pid))
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(stat), ") ") // the name of the program may hold anything
	require.True(t, found)
	fields := strings.Fields(rest)
	var ticks time.Duration
	for _, field := range fields[11:13] { // utime and stime
		n, err := strconv.ParseInt(field, 10, 64)
		require.NoError(t, err)
		ticks += time.Duration(n)
	}
	return ticks * tick
}
