// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.uber.org/zap/zapcore"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// set changes the configuration as YAML does.
func (h *harness) set(t *testing.T, yaml string, values ...any) {
	t.Helper()
	retrieved, err := confmap.NewRetrievedFromYAML(fmt.Appendf(nil, yaml, values...))
	require.NoError(t, err)
	conf, err := retrieved.AsConf()
	require.NoError(t, err)
	require.NoError(t, conf.Unmarshal(h.config))
}

// reconcile makes the receiver compare every few seconds, for testUser, what is older than the delay.
func (h *harness) reconcile(t *testing.T, interval, delay time.Duration) {
	t.Helper()
	h.set(t, "history: {users: [%s], reconcile: {interval: %s, delay: %s}}", testUser, interval, delay)
}

// confirmed waits until the subscription was confirmed. What was created before is not reconciled.
func (h *harness) confirmed(t *testing.T) {
	t.Helper()
	h.subscribed(t)
	require.NoError(t, h.emulator.WaitRequests(deadline(t), graphtest.OpList, len(h.emulator.Requests(graphtest.OpList))+2))
}

// promptsNow returns n prompts of testUser that were created just now, each with an id of its own.
func (h *harness) promptsNow(t *testing.T, n int) []graphtest.Interaction {
	t.Helper()
	first := max(time.Now().UnixMilli()-int64(n), h.lastID+1)
	h.lastID = first + int64(n) - 1
	all := make([]graphtest.Interaction, n)
	for i := range all {
		all[i] = promptAt(t, time.UnixMilli(first+int64(i)), i)
	}
	return all
}

// reconciliation is a result line.
type reconciliation struct {
	level                          zapcore.Level
	from, to                       time.Time
	users, interactions, recovered int64
	result, text                   string
}

// reconciliations returns the results that the current run has logged.
func (h *harness) reconciliations(t *testing.T) []reconciliation {
	t.Helper()
	var all []reconciliation
	for _, line := range h.lines.FilterMessage("history reconciled").All() {
		r := reconciliation{level: line.Level, text: lineText(t, line)}
		fields := line.ContextMap()
		r.from, _ = fields["from"].(time.Time)
		r.to, _ = fields["to"].(time.Time)
		r.users, _ = fields["users"].(int64)
		r.interactions, _ = fields["interactions"].(int64)
		r.recovered, _ = fields["recovered"].(int64)
		r.result, _ = fields["result"].(string)
		require.NotEmpty(t, r.result, r.text)
		all = append(all, r)
	}
	return all
}

// awaitReconciled waits until everything created before a time was reconciled, and returns the results so far.
func (h *harness) awaitReconciled(t *testing.T, before time.Time) []reconciliation {
	t.Helper()
	var all []reconciliation
	require.Eventually(t, func() bool {
		all = h.reconciliations(t)
		return len(all) > 0 && all[len(all)-1].to.After(before)
	}, time.Minute, 20*time.Millisecond, "no reconciliation ended")
	return all
}

// recoveredBy sums what reconciliations found.
func recoveredBy(all []reconciliation) int {
	n := int64(0)
	for _, r := range all {
		n += r.recovered
	}
	return int(n)
}

// assertComplete asserts that each reconciliation compared everything, and that together they found n interactions that had
// not been delivered. Each begins where the one before ended.
func assertComplete(t *testing.T, n int, all []reconciliation) {
	t.Helper()
	assert.Equal(t, n, recoveredBy(all))
	for i, r := range all {
		assert.Equal(t, "complete", r.result, r.text)
		assert.Equal(t, zapcore.InfoLevel, r.level, r.text)
		if i > 0 {
			assert.WithinDuration(t, all[i-1].to, r.from, 0)
		}
	}
}

// point returns the current value of a metric with an attribute.
func (h *harness) point(t *testing.T, metric, attribute, value string) (number float64, found bool) {
	t.Helper()
	if len(h.metrics.AllMetrics()) == 0 {
		return 0, false
	}
	m, found := h.lastMetrics(t)[metric]
	if !found {
		return 0, false
	}
	points := pmetric.NewNumberDataPointSlice()
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		points = m.Gauge().DataPoints()
	case pmetric.MetricTypeSum:
		points = m.Sum().DataPoints()
	}
	for _, p := range points.All() {
		if got, _ := p.Attributes().Get(attribute); got.AsString() != value {
			continue
		}
		if p.ValueType() == pmetric.NumberDataPointValueTypeInt {
			return float64(p.IntValue()), true
		}
		return p.DoubleValue(), true
	}
	return 0, false
}

// recovered returns microsoft.copilot.history.recovered for a reason, 0 where it has no value.
func (h *harness) recovered(t *testing.T, reason string) int {
	t.Helper()
	n, _ := h.point(t, "microsoft.copilot.history.recovered", "microsoft.copilot.reason", reason)
	return int(n)
}

// awaitRecovered waits until the metric says that reconciliations recovered n interactions.
func (h *harness) awaitRecovered(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return h.recovered(t, "reconcile") == n }, waitTimeout, 20*time.Millisecond)
}

// awaitResult waits until the gauge has the result, and returns the age of the end of the last reconciliation.
func (h *harness) awaitResult(t *testing.T, result string) time.Duration {
	t.Helper()
	var age float64
	require.Eventually(t, func() bool {
		seconds, found := h.point(t, "microsoft.copilot.history.reconciled", "microsoft.copilot.result", result)
		age = seconds
		return found
	}, waitTimeout, 20*time.Millisecond, "the gauge does not have the result %s", result)
	return time.Duration(age * float64(time.Second))
}

// sources counts the records by source.
func (h *harness) sources() map[string]int {
	sources := map[string]int{}
	for _, record := range h.records() {
		sources[valueOf(record, "microsoft.copilot.source")]++
	}
	return sources
}

func TestReconciliation_DeliversWhatOnlyHistoryHas(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.withStorage(t)
	const delay = 5 * time.Second
	h.reconcile(t, 3*time.Second, delay)
	h.start(t)
	h.confirmed(t)
	in := h.promptsNow(t, 12)
	h.deliver(t, in[:8]...)
	require.NoError(t, h.emulator.AddHistory(in[8:]...)) // they are in the history without being sent
	results := h.awaitReconciled(t, time.Now())
	h.awaitRecords(t, len(in))
	assert.Equal(t, interactionIDs(t, in...), h.deliveredIDs())
	assert.Equal(t, map[string]int{"notification": 8, "history": 4}, h.sources())
	assertComplete(t, 4, results)
	compared := int64(0)
	for _, r := range results {
		assert.EqualValues(t, 1, r.users)
		compared += r.interactions
	}
	assert.EqualValues(t, len(in), compared)
	h.awaitRecovered(t, 4)
	age := h.awaitResult(t, "complete")
	assert.Greater(t, age, delay, "the end is as old as the delay, at least")
	assert.Less(t, age, waitTimeout)
	_, found := h.point(t, "microsoft.copilot.history.gap", "microsoft.copilot.reason", "reconcile")
	assert.False(t, found, "nothing of it is known to be missing")
}

// A tenant where nobody prompts costs one request for each user and reconciliation, and nothing is reported.
func TestReconciliation_OfQuietTenantIsComplete(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.reconcile(t, time.Second, time.Second)
	h.start(t)
	h.confirmed(t)
	require.Eventually(t, func() bool { return len(h.reconciliations(t)) >= 3 }, waitTimeout, 20*time.Millisecond)
	requests, results := len(h.emulator.Requests(graphtest.OpHistory)), h.reconciliations(t)
	assertComplete(t, 0, results)
	assert.LessOrEqual(t, requests, len(results)+1, "one more may have begun")
	assert.Empty(t, h.records())
}

func TestReconciliation_IsOffByZeroInterval(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.set(t, "history: {users: [%s], reconcile: {interval: 0s, delay: 1s}}", testUser)
	h.start(t)
	h.confirmed(t)
	require.NoError(t, h.emulator.AddHistory(h.promptsNow(t, 1)...))
	require.NoError(t, h.emulator.WaitRequests(deadline(t), graphtest.OpList, len(h.emulator.Requests(graphtest.OpList))+5))
	assert.Empty(t, h.emulator.Requests(graphtest.OpHistory))
	assert.Empty(t, h.records())
}

// What is younger than the delay may still come as a notification, and then the history does not bring it.
func TestReconciliation_LeavesWhatMayStillCome(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.reconcile(t, time.Second, 10*time.Second)
	h.start(t)
	h.confirmed(t)
	h.awaitReconciled(t, time.Time{})
	in := h.promptsNow(t, 5)
	created := time.Now()
	require.NoError(t, h.emulator.AddHistory(in...))
	late, err := h.emulator.Collection(in...)
	require.NoError(t, err)
	before := len(h.reconciliations(t))
	require.Eventually(t, func() bool { return len(h.reconciliations(t)) > before }, waitTimeout, 20*time.Millisecond, "while Graph is late")
	assert.Empty(t, h.records())
	status, err := h.emulator.Post(t.Context(), late)
	require.NoError(t, err)
	assert.Equal(t, http.StatusAccepted, status)
	assertComplete(t, 0, h.awaitReconciled(t, created))
	assert.Equal(t, map[string]int{"notification": len(in)}, h.sources())
}

// What the pipeline refused and took later is delivered once.
func TestReconciliation_LeavesWhatWasRetried(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.panicOnce(t, "so that the first attempt is answered with 503")
	h.reconcile(t, 2*time.Second, 6*time.Second)
	h.start(t)
	h.confirmed(t)
	in := h.promptsNow(t, 5)
	h.deliver(t, in...)
	assert.Positive(t, h.emulator.Stats().Refused)
	assertComplete(t, 0, h.awaitReconciled(t, time.Now()))
	assert.Equal(t, interactionIDs(t, in...), h.deliveredIDs())
}

// An interaction that is older than the subscription and arrives late, or again, is no sign of an outage.
func TestReconciliation_IgnoresOldArrivals(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.reconcile(t, 2*time.Second, time.Second)
	h.start(t)
	h.confirmed(t)
	old, change := promptAt(t, time.Now().Add(-3*time.Hour), 0), promptAt(t, time.Now().Add(-4*time.Hour), 1)
	change.Change = "updated"
	h.deliver(t, old, change)
	assertComplete(t, 0, h.awaitReconciled(t, time.Now()))
	assert.Equal(t, map[string]int{"notification": 2}, h.sources())
	assert.Empty(t, h.lines.FilterLevelExact(zapcore.WarnLevel).FilterMessageSnippet("late").All())
}

// A lost subscription is a gap, which is read at once; the reconciliation of that time finds nothing more.
func TestReconciliation_FindsNothingWhereGapWasRead(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.reconcile(t, 8*time.Second, 6*time.Second)
	h.start(t)
	h.confirmed(t)
	in := h.promptsNow(t, 9)
	h.deliver(t, in[:2]...)
	require.NoError(t, h.emulator.AddHistory(in[2:]...))
	require.NoError(t, h.emulator.RemoveSubscription(t.Context(), h.emulator.Subscriptions()[0].ID, false))
	h.awaitRecords(t, len(in))
	assert.Empty(t, h.reconciliations(t), "the gap was read first")
	assertComplete(t, 0, h.awaitReconciled(t, time.Now()))
	assert.Equal(t, interactionIDs(t, in...), h.deliveredIDs())
	require.Eventually(t, func() bool { return h.recovered(t, "subscription") == 7 }, waitTimeout, 20*time.Millisecond)
	assert.Zero(t, h.recovered(t, "reconcile"))
}

// Where the permission to list users is missing, the users seen are compared, and the line says so.
func TestReconciliation_WithoutDirectoryComparesSeenUsers(t *testing.T) {
	t.Parallel()
	h := newHarness(t) // whose application may not list users
	h.set(t, "history: {reconcile: {interval: 3s, delay: 6s}}")
	h.start(t)
	h.confirmed(t)
	in := h.promptsNow(t, 6)
	h.deliver(t, in[:2]...)
	require.NoError(t, h.emulator.AddHistory(in[2:]...))
	unseen := promptAt(t, time.Now(), 0)
	unseen.UserID = "0d9c8b7a-6f5e-4d3c-8b2a-190807060504"
	require.NoError(t, h.emulator.AddHistory(unseen))
	results := h.awaitReconciled(t, time.Now())
	assertComplete(t, 4, results)
	assert.Equal(t, interactionIDs(t, in...), h.deliveredIDs())
	last := results[len(results)-1]
	assert.EqualValues(t, 1, last.users)
	assert.Contains(t, last.text, `"all_users_known":false`)
	assert.Zero(t, h.emulator.HistoryRequests()[unseen.UserID])
}

var maxEntriesHint = regexp.MustCompile(`max_entries\D+(\d+)`)

// A cache that is too small for the interval is reported with the number to set, and what it has forgotten is not delivered
// again.
func TestReconciliation_WithTooFewEntriesIsIncomplete(t *testing.T) {
	t.Parallel()
	const entries, perSecond, inFlight = 150, 40, 80
	h := newHarness(t)
	h.withStorage(t)
	h.config.Dedupe.MaxEntries = entries
	h.reconcile(t, 8*time.Second, 6*time.Second)
	h.start(t)
	h.confirmed(t)
	var in []graphtest.Interaction
	for begun := time.Now(); len(h.reconciliations(t)) == 0 && time.Since(begun) < waitTimeout; <-time.After(100 * time.Millisecond) {
		next := h.promptsNow(t, max(1, int(perSecond*time.Since(begun).Seconds())-len(in)))
		_, err := h.emulator.Publish(t.Context(), next...)
		require.NoError(t, err)
		in = append(in, next...)
		require.NoError(t, h.emulator.WaitDelivered(deadline(t), len(in)-inFlight))
	}
	results := h.awaitReconciled(t, time.Time{})
	first := results[0]
	assert.Equal(t, "incomplete", first.result, first.text)
	assert.Equal(t, zapcore.WarnLevel, first.level)
	h.awaitResult(t, "incomplete")
	hint := maxEntriesHint.FindStringSubmatch(first.text)
	require.NotNil(t, hint, first.text)
	number, err := strconv.Atoi(hint[1])
	require.NoError(t, err)
	assert.Greater(t, number, len(in)*3/4, "about that many would have been needed")

	require.NoError(t, h.emulator.WaitDelivered(deadline(t), len(in)))
	more := h.awaitReconciled(t, time.Now().Add(6*time.Second))
	assert.Equal(t, "complete", more[len(more)-1].result, "in a time of which everything is known")
	for i := range more[1:] {
		assert.WithinDuration(t, more[i].to, more[i+1].from, 0, "the comparison advances")
	}
	assert.Zero(t, recoveredBy(more))
	assert.Equal(t, interactionIDs(t, in...), h.deliveredIDs(), "each once")
}

// A history with much less than the notifications brought proves nothing. The same interval is compared once more with the
// next one, and not for ever.
func TestReconciliation_WithEmptyHistoryIsInconclusive(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		// late is true if the history has everything before the second comparison.
		late bool
		want []string
	}{
		"the history answers again":     {true, []string{"inconclusive", "complete"}},
		"the history still has nothing": {false, []string{"inconclusive", "inconclusive", "complete"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			h.reconcile(t, 10*time.Second, 3*time.Second)
			h.start(t)
			h.confirmed(t)
			in := h.promptsNow(t, 11)
			created := time.Now()
			sent, err := h.emulator.Collection(in[:10]...) // and the history does not have it
			require.NoError(t, err)
			status, err := h.emulator.Post(t.Context(), sent)
			require.NoError(t, err)
			require.Equal(t, http.StatusAccepted, status)
			results := h.awaitReconciled(t, created)
			first := results[0]
			require.Len(t, results, 1, "all of it belongs to one interval")
			assert.Equal(t, zapcore.WarnLevel, first.level)
			assert.Contains(t, first.text, `"hint"`)
			h.awaitResult(t, "inconclusive")

			found := 0
			if test.late {
				found = 1
				require.NoError(t, h.emulator.AddHistory(in...)) // of which one was never sent
			}
			require.Eventually(t, func() bool { return len(h.reconciliations(t)) >= len(test.want) }, time.Minute, 20*time.Millisecond)
			all := h.reconciliations(t)[:len(test.want)]
			got := []string{}
			for _, r := range all {
				got = append(got, r.result)
			}
			assert.Equal(t, test.want, got)
			assert.WithinDuration(t, first.from, all[1].from, 0, "compared once more")
			if len(all) > 2 {
				assert.WithinDuration(t, first.to, all[2].from, 0, "only what was new in the second is compared once more")
			}
			assert.Equal(t, found, recoveredBy(all))
			assert.Equal(t, interactionIDs(t, in[:10+found]...), h.deliveredIDs())
		})
	}
}

// occupyBudget lets connections begin requests that never end, until all bytes in flight are used up. It returns a function
// that closes them.
func (h *harness) occupyBudget(t *testing.T) (release func()) {
	t.Helper()
	var connections []net.Conn
	release = func() {
		for _, connection := range connections {
			_ = connection.Close()
		}
	}
	t.Cleanup(release)
	address := h.config.Webhook.ServerConfig.NetAddr.Endpoint
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
	occupy := func() {
		connection, err := dialer.DialContext(t.Context(), "tcp", address)
		require.NoError(t, err)
		connections = append(connections, connection)
		_, err = fmt.Fprintf(connection, "POST /graph/notifications HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{", address)
		require.NoError(t, err)
	}
	for range h.config.Webhook.MaxInFlightBytes/(4<<10) + 1 { // each request reserves 4 KiB
		occupy()
	}
	require.Eventually(t, func() bool {
		status, err := h.emulator.PostRaw(t.Context(), []byte("{"), nil)
		if err == nil && status == http.StatusServiceUnavailable {
			return true
		}
		occupy() // since connections that came while the probe had its bytes may have been refused
		return false
	}, waitTimeout, 20*time.Millisecond)
	return release
}

// withSmallBudget lets few bytes be in flight.
func (h *harness) withSmallBudget() {
	h.config.Webhook.ServerConfig.MaxRequestBodySize = 48 << 10
	h.config.Webhook.MaxInFlightBytes = 64 << 10
	h.config.Webhook.ServerConfig.ReadTimeout = time.Minute
}

// giveUp publishes interactions, and waits until Graph has stopped retrying them.
func (h *harness) giveUp(t *testing.T, interactions ...graphtest.Interaction) {
	t.Helper()
	lost := h.emulator.Stats().Lost + len(interactions)
	_, err := h.emulator.Publish(t.Context(), interactions...)
	require.NoError(t, err)
	require.NoError(t, h.emulator.Wait(deadline(t), func(s graphtest.Stats) bool { return s.Lost == lost }))
}

// assertRefused asserts that some of the published notifications were answered with 503, and the others accepted.
func (h *harness) assertRefused(t *testing.T) {
	t.Helper()
	refused := 0
	for _, a := range h.emulator.Acknowledgements() {
		switch {
		case a.Items == 0 || a.Status == http.StatusAccepted:
		case assert.Equal(t, http.StatusServiceUnavailable, a.Status, a.Err):
			refused++
		}
	}
	assert.Positive(t, refused)
}

// What was refused unread because max_in_flight_bytes was used up, until Graph gave up, is found by the next reconciliation.
func TestReconciliation_FindsWhatOverloadLost(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		retryFor time.Duration
		// overload publishes interactions while requests are refused, and returns how many Graph gave up.
		overload func(t *testing.T, h *harness, in []graphtest.Interaction) (lost int)
	}{
		"for longer than Graph retries": {2 * time.Second, func(t *testing.T, h *harness, in []graphtest.Interaction) int {
			t.Helper()
			release := h.occupyBudget(t)
			h.giveUp(t, in...)
			release()
			return len(in)
		}},
		"for a moment": {time.Minute, func(t *testing.T, h *harness, in []graphtest.Interaction) int {
			t.Helper()
			release := h.occupyBudget(t)
			refused := h.emulator.Stats().Refused
			_, err := h.emulator.Publish(t.Context(), in...)
			require.NoError(t, err)
			require.NoError(t, h.emulator.Wait(deadline(t), func(s graphtest.Stats) bool { return s.Refused > refused }))
			release()
			require.NoError(t, h.emulator.WaitDelivered(deadline(t), len(in)))
			return 0
		}},
		"twice, with a time between that was healthy": {2 * time.Second, func(t *testing.T, h *harness, in []graphtest.Interaction) int {
			t.Helper()
			release := h.occupyBudget(t)
			h.giveUp(t, in[:2]...)
			release()
			require.Eventually(t, func() bool {
				c, err := h.emulator.Collection(in[2])
				require.NoError(t, err)
				status, err := h.emulator.Post(t.Context(), c)
				return err == nil && status == http.StatusAccepted
			}, waitTimeout, 20*time.Millisecond)
			require.NoError(t, h.emulator.AddHistory(in[2]))
			release = h.occupyBudget(t)
			h.giveUp(t, in[3:]...)
			release()
			return len(in) - 1
		}},
		"until the collector restarted": {2 * time.Second, func(t *testing.T, h *harness, in []graphtest.Interaction) int {
			t.Helper()
			release := h.occupyBudget(t)
			h.giveUp(t, in...)
			release()
			h.restart(t)
			return len(in)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, func(s *graphtest.Settings) { s.RetryFor, s.MaxRetryDelay = test.retryFor, 200*time.Millisecond })
			h.withStorage(t)
			h.withSmallBudget()
			h.reconcile(t, 10*time.Second, 8*time.Second)
			h.start(t)
			h.confirmed(t)
			in := h.promptsNow(t, 10)
			lost := test.overload(t, h, in)
			h.assertRefused(t)
			results := h.awaitReconciled(t, time.Now())
			h.awaitRecords(t, len(in))
			assert.Equal(t, interactionIDs(t, in...), h.deliveredIDs())
			assert.Equal(t, lost, h.sources()["history"])
			assertComplete(t, lost, results)
			h.awaitRecovered(t, lost)
			assert.NotContains(t, h.readReasons(t), "undelivered", "it is not known that Graph gave up")
		})
	}
}

// readReasons returns the reasons of all gaps that the current run has read.
func (h *harness) readReasons(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, line := range h.lines.FilterMessage("history read").All() {
		all.WriteString(lineText(t, line))
	}
	return all.String()
}

// A pipeline that blocks keeps the bytes of its deliveries in flight, so that further notifications are refused unread. What the
// pipeline takes in the end was delivered, and the rest is found by the next reconciliation.
func TestReconciliation_FindsWhatBlockedPipelineKeptOut(t *testing.T) {
	t.Parallel()
	h := newHarness(t, func(s *graphtest.Settings) {
		s.RetryFor, s.MaxRetryDelay, s.BatchSize = 2*time.Second, 200*time.Millisecond, 1
	})
	release := make(chan struct{})
	next, err := consumer.NewLogs(func(ctx context.Context, logs plog.Logs) error {
		<-release
		return h.logs.ConsumeLogs(ctx, logs)
	})
	require.NoError(t, err)
	h.nextLogs = next
	h.config.Webhook.AckTimeout = 500 * time.Millisecond
	h.withSmallBudget()
	h.reconcile(t, 10*time.Second, 3*time.Second)
	h.start(t)
	h.confirmed(t)
	in := h.promptsNow(t, 40)
	h.giveUp(t, in...)
	h.assertRefused(t)
	close(release)
	results := h.awaitReconciled(t, time.Now())
	h.awaitRecords(t, len(in))
	assert.Equal(t, interactionIDs(t, in...), h.deliveredIDs())
	sources := h.sources()
	assert.Positive(t, sources["notification"], "a call that returns late counts")
	assert.Positive(t, sources["history"])
	assertComplete(t, sources["history"], results)
}

// A notification that is larger than the webhook accepts opens no gap, since anybody can send one. What it held is found by the
// next reconciliation, and a line names the limit to raise.
func TestReconciliation_FindsWhatBodyLimitRefused(t *testing.T) {
	t.Parallel()
	h := newHarness(t, func(s *graphtest.Settings) { s.RetryFor, s.MaxRetryDelay = 2*time.Second, 200*time.Millisecond })
	h.config.Webhook.ServerConfig.MaxRequestBodySize = 1 << 10
	h.reconcile(t, 8*time.Second, 3*time.Second)
	h.start(t)
	h.confirmed(t)
	in := h.promptsNow(t, 5)
	h.giveUp(t, in...)
	for _, a := range h.emulator.Acknowledgements() {
		if a.Items > 0 {
			assert.Equal(t, http.StatusRequestEntityTooLarge, a.Status)
		}
	}
	warnings := h.warnings()
	require.Len(t, warnings, 1)
	assert.Contains(t, lineText(t, warnings[0]), "max_request_body_size")
	assert.Empty(t, h.emulator.Requests(graphtest.OpHistory), "it is not known what it held")
	assertComplete(t, len(in), h.awaitReconciled(t, time.Now()))
	h.awaitRecords(t, len(in))
	assert.Equal(t, interactionIDs(t, in...), h.deliveredIDs())
}
