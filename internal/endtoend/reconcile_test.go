// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// ingress forwards connections from the public address of the webhook to the collector. It can be down, as with an expired
// certificate or a wrong DNS record: then Graph reaches nothing, while the collector listens and its subscription looks
// healthy.
type ingress struct {
	public, target string

	mu       sync.Mutex   // guards what follows
	listener net.Listener // nil while it is down
	open     map[net.Conn]struct{}
	running  sync.WaitGroup
}

// withIngress puts an ingress in front of collectors that start later.
func (h *collectorHarness) withIngress(t *testing.T) *ingress {
	t.Helper()
	i := &ingress{public: freeAddress(t), target: h.webhook, open: map[net.Conn]struct{}{}}
	h.public = i.public
	i.start(t)
	t.Cleanup(i.stop)
	return i
}

func (i *ingress) start(t *testing.T) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", i.public)
	require.NoError(t, err)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.listener = listener
	i.running.Go(func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			i.forward(connection)
		}
	})
}

// forward copies in both directions until either end closes.
func (i *ingress) forward(from net.Conn) {
	to, err := net.Dial("tcp", i.target) //nolint:noctx // it is refused at once, or succeeds
	if err != nil {
		_ = from.Close()
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.listener == nil {
		_ = from.Close()
		_ = to.Close()
		return
	}
	i.open[from], i.open[to] = struct{}{}, struct{}{}
	for _, direction := range [][2]net.Conn{{from, to}, {to, from}} {
		i.running.Go(func() {
			_, _ = io.Copy(direction[0], direction[1])
			_ = from.Close()
			_ = to.Close()
			i.mu.Lock()
			defer i.mu.Unlock()
			delete(i.open, direction[0])
		})
	}
}

// stop closes the listener and all connections. It may be called twice.
func (i *ingress) stop() {
	i.mu.Lock()
	if i.listener != nil {
		_ = i.listener.Close()
		i.listener = nil
	}
	for connection := range i.open {
		_ = connection.Close()
	}
	i.mu.Unlock()
	i.running.Wait()
}

// loggedReconciliation is what a result line of a collector says.
type loggedReconciliation struct {
	From, To                       string
	Users, Interactions, Recovered int
	Result                         string
}

// end returns the end of the interval.
func (r loggedReconciliation) end(t *testing.T) time.Time {
	t.Helper()
	at, err := time.Parse("2006-01-02T15:04:05.000Z0700", r.To) // as the Collector writes a time to the console
	require.NoError(t, err)
	return at
}

// reconciliations returns the results that a collector has logged.
func (p *process) reconciliations(t *testing.T) []loggedReconciliation {
	t.Helper()
	var all []loggedReconciliation
	for _, line := range p.linesWith("\thistory reconciled\t") {
		var r loggedReconciliation
		_, fields, _ := strings.Cut(line, "{")
		require.NoError(t, json.Unmarshal([]byte("{"+fields), &r), line)
		all = append(all, r)
	}
	return all
}

// awaitReconciled waits until everything created before a time was reconciled, and returns the results so far.
func (p *process) awaitReconciled(t *testing.T, before time.Time, timeout time.Duration) []loggedReconciliation {
	t.Helper()
	var all []loggedReconciliation
	require.Eventually(t, func() bool {
		all = p.reconciliations(t)
		return len(all) > 0 && all[len(all)-1].end(t).After(before)
	}, timeout, 50*time.Millisecond, "no reconciliation ended")
	return all
}

// awaitConfirmed waits until the subscription was confirmed. What was created before is not reconciled.
func (h *collectorHarness) awaitConfirmed(t *testing.T) {
	t.Helper()
	h.awaitSubscribed(t)
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	require.NoError(t, h.emulator.WaitRequests(ctx, graphtest.OpList, len(h.emulator.Requests(graphtest.OpList))+2))
}

// withRetryOfFourSeconds makes Graph stop retrying after four seconds instead of four hours.
func withRetryOfFourSeconds(settings *graphtest.Settings) { settings.RetryFor = 4 * time.Second }

// outage is a tenant whose notifications go through an ingress, and what it published.
type outage struct {
	*collectorHarness

	ingress   *ingress
	collector *process
	published []graphtest.Interaction
	// results are those of collectors that ended.
	results []loggedReconciliation
}

// create returns n prompts that were created just now, by three users.
func (o *outage) create(t *testing.T, n int) []graphtest.Interaction {
	t.Helper()
	var created []graphtest.Interaction
	for range n {
		i := len(o.published)
		created = append(created, prompt(t, i, user(i%3), time.Now()))
		o.published = append(o.published, created[len(created)-1])
	}
	return created
}

// deliver publishes n prompts, which are delivered as notifications.
func (o *outage) deliver(t *testing.T, n int) {
	t.Helper()
	in, before := o.create(t, n), o.emulator.Stats().Acknowledged
	o.publish(t, in...)
	o.backend.await(t, interactionKeys(t, in...), waitTimeout)
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	require.NoError(t, o.emulator.WaitDelivered(ctx, before+n), "what comes next must not cut off the answer")
}

// lose publishes n prompts, and waits until Graph has given them up.
func (o *outage) lose(t *testing.T, n int) {
	t.Helper()
	lost := o.emulator.Stats().Lost + n
	o.publish(t, o.create(t, n)...)
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	require.NoError(t, o.emulator.Wait(ctx, func(stats graphtest.Stats) bool { return stats.Lost == lost }))
}

// attempt publishes n prompts, and waits until Graph has failed to send them. It goes on trying.
func (o *outage) attempt(t *testing.T, n int) []graphtest.Interaction {
	t.Helper()
	in, failed := o.create(t, n), o.emulator.Stats().Refused
	o.publish(t, in...)
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	require.NoError(t, o.emulator.Wait(ctx, func(stats graphtest.Stats) bool { return stats.Refused > failed }))
	return in
}

// restart restarts the collector.
func (o *outage) restart(t *testing.T) {
	t.Helper()
	o.collector.terminate(t)
	o.results = append(o.results, o.collector.reconciliations(t)...)
	o.collector = o.run(t)
	o.collector.awaitLine(t, "subscription adopted", waitTimeout)
}

// While the webhook could not be reached, Graph gave up what it had to say. The next reconciliation delivers it, whether or not
// anything arrives late.
func TestReconciliation_FindsWhatIngressOutageLost(t *testing.T) {
	skipIfShort(t, "it is a test of outages")
	t.Parallel()
	for name, test := range map[string]struct {
		// happens is what happens once the subscription is confirmed. It returns how many interactions Graph gave up.
		happens func(t *testing.T, o *outage) (lost int)
	}{
		"an outage after which nothing arrives late": {func(t *testing.T, o *outage) int {
			t.Helper()
			o.deliver(t, 6)
			o.ingress.stop()
			o.lose(t, 9)
			o.ingress.start(t)
			return 9
		}},
		"an outage before the first notification": {func(t *testing.T, o *outage) int {
			t.Helper()
			o.ingress.stop()
			o.lose(t, 9)
			o.ingress.start(t)
			o.deliver(t, 3)
			return 9
		}},
		"an outage at whose end graph still retries the rest": {func(t *testing.T, o *outage) int {
			t.Helper()
			o.ingress.stop()
			o.lose(t, 9)
			late := o.attempt(t, 6)
			o.ingress.start(t)
			o.backend.await(t, interactionKeys(t, late...), waitTimeout)
			return 9
		}},
		"an outage that graph retries across": {func(t *testing.T, o *outage) int {
			t.Helper()
			o.deliver(t, 3)
			o.ingress.stop()
			late := o.attempt(t, 6)
			o.ingress.start(t)
			o.backend.await(t, interactionKeys(t, late...), waitTimeout)
			return 0
		}},
		"two outages": {func(t *testing.T, o *outage) int {
			t.Helper()
			for range 2 {
				o.ingress.stop()
				o.lose(t, 6)
				o.ingress.start(t)
				o.deliver(t, 3)
			}
			return 12
		}},
		"an outage in which the collector restarts": {func(t *testing.T, o *outage) int {
			t.Helper()
			o.deliver(t, 3)
			o.ingress.stop()
			o.lose(t, 6)
			o.restart(t)
			o.lose(t, 6)
			o.ingress.start(t)
			return 12
		}},
		"an outage before a restart": {func(t *testing.T, o *outage) int {
			t.Helper()
			o.ingress.stop()
			o.lose(t, 6)
			o.ingress.start(t)
			o.restart(t)
			o.deliver(t, 3)
			return 6
		}},
		"a subscription that is healthy all the time": {func(t *testing.T, o *outage) int {
			t.Helper()
			o.deliver(t, 9)
			return 0
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &outage{collectorHarness: newCollectorHarness(t, `
receivers:
  m365_copilot:
    history: {reconcile: {interval: 15s, delay: 6s}}
    metrics: {interval: 1s}
`, withDirectory, withRetryOfFourSeconds)}
			o.ingress = o.withIngress(t)
			o.collector = o.run(t)
			o.awaitConfirmed(t)
			lost := test.happens(t, o)

			results := slices.Concat(o.results, o.collector.awaitReconciled(t, time.Now(), time.Minute))
			o.backend.await(t, interactionKeys(t, o.published...), waitTimeout)
			recovered := 0
			for _, r := range results {
				assert.Equal(t, "complete", r.Result)
				recovered += r.Recovered
			}
			assert.Equal(t, lost, recovered, "the result line says so")
			assert.Equal(t, lost, o.backend.recordsBySource()["history"])
			assert.Zero(t, o.backend.duplicates())
			o.backend.awaitMetric(t, `microsoft.copilot.history.reconciled{microsoft.copilot.result="complete"}`, func(age float64) bool { return age >= 6 })
			if lost > 0 {
				o.backend.awaitMetric(t, recoveredMetric, func(n float64) bool { return n == float64(lost) })
			} else if n, found := o.backend.metric(recoveredMetric); found {
				assert.Zero(t, n)
			}
			o.backend.awaitMetric(t, `microsoft.copilot.history.gap{microsoft.copilot.reason="subscription"}`, func(seconds float64) bool { return seconds == 0 })
			assert.Empty(t, readForOtherReasons(o.collector), "no gap is known")
		})
	}
}

const recoveredMetric = `microsoft.copilot.history.recovered{microsoft.copilot.reason="reconcile"}`

// readForOtherReasons returns the lines about backfill passes that are no reconciliations.
func readForOtherReasons(p *process) []string {
	return slices.DeleteFunc(slices.Concat(p.linesWith("\treading history\t"), p.linesWith("\thistory read\t")), func(line string) bool {
		return strings.Contains(line, `"reasons": ["reconcile"]`)
	})
}

// A reconciliation that a restart interrupts goes on where it stopped, and its result is that of the whole interval.
func TestReconciliation_ResumesAfterRestart(t *testing.T) {
	skipIfShort(t, "it crashes a collector")
	t.Parallel()
	const users = 60
	for name, test := range map[string]struct {
		stop func(*testing.T, *process)
		// repeated is how many interactions may come twice, uncounted how many may be missing in the result.
		repeated, uncounted int
	}{
		"a restart": {stop: func(t *testing.T, p *process) { t.Helper(); p.terminate(t) }},
		// The progress of the last second is not stored. What was created in the last minute before a crash may have been delivered
		// without being recorded, so it does not count as recovered afterwards. The two of the first user, at least, counted before.
		"a crash": {stop: func(_ *testing.T, p *process) { p.kill() }, repeated: 30, uncounted: 2*users - 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newCollectorHarness(t, `
receivers:
  m365_copilot:
    history: {requests_per_second: 5, concurrency: 2, reconcile: {interval: 8s, delay: 3s}}
`, withDirectory)
			var licensed []string
			for n := range users {
				licensed = append(licensed, user(n))
			}
			h.emulator.SetUsers(licensed...)
			first := h.run(t)
			h.awaitConfirmed(t)
			var in []graphtest.Interaction
			for n := range 2 * users {
				in = append(in, prompt(t, n, user(n%users), time.Now()))
			}
			require.NoError(t, h.emulator.AddHistory(in...))
			created := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			require.NoError(t, h.emulator.WaitRequests(ctx, graphtest.OpHistory, users/2))
			test.stop(t, first)
			require.Empty(t, first.reconciliations(t), "it was interrupted")
			before := len(h.emulator.Requests(graphtest.OpHistory))

			second := h.run(t)
			result := second.awaitReconciled(t, created, time.Minute)[0]
			requests := len(h.emulator.Requests(graphtest.OpHistory))
			h.backend.await(t, interactionKeys(t, in...), waitTimeout)
			assert.Equal(t, "complete", result.Result)
			assert.Equal(t, users, result.Users)
			assert.LessOrEqual(t, result.Recovered, len(in))
			assert.GreaterOrEqual(t, result.Recovered, len(in)-test.uncounted)
			assert.LessOrEqual(t, h.backend.duplicates(), test.repeated)
			t.Logf("%d history requests before the restart, %d after it, for %d users; %+v", before, requests-before, users, result)
			assert.Less(t, requests, users+users/2, "it continues where it stopped")
		})
	}
}
