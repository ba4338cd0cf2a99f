// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// withPeople gives the receiver a directory in which there are these people.
func (h *harness) withPeople(t *testing.T, people ...graphtest.Person) {
	t.Helper()
	h.emulator.SetRoles(graphtest.RoleReadAll, graphtest.RoleUsersReadAll)
	h.emulator.SetDirectory(people...)
	h.set(t, "identity: {directory: true, cache_ttl: 1s}")
}

// nextRecord delivers a prompt of a user, and returns its record.
func (h *harness) nextRecord(t *testing.T, user string) plog.LogRecord {
	t.Helper()
	before := len(h.interactionRecords())
	h.lastID++
	h.deliver(t, prompt(t, int(h.lastID), user, time.Now()))
	records := h.interactionRecords()
	require.Len(t, records, before+1)
	return records[before]
}

// interactionRecords returns the records without those of licensed users, which the inventory sends at times of its own.
func (h *harness) interactionRecords() []plog.LogRecord {
	return slices.DeleteFunc(h.records(), func(r plog.LogRecord) bool { return r.EventName() == "microsoft.copilot.user" })
}

// awaitRecord delivers prompts of a user until the record of one is accepted.
func (h *harness) awaitRecord(t *testing.T, user string, accept func(plog.LogRecord) bool) (record plog.LogRecord) {
	t.Helper()
	deadline := time.After(waitTimeout)
	for {
		if record = h.nextRecord(t, user); accept(record) {
			return record
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			require.FailNow(t, "no record was accepted", "%v", record.Attributes().AsRaw())
		}
	}
}

func licensedIs(value string) func(plog.LogRecord) bool {
	return func(r plog.LogRecord) bool { return valueOf(r, "microsoft.copilot.user.licensed") == value }
}

// assertNoProperties asserts that a record has its user and nothing of the directory.
func assertNoProperties(t *testing.T, record plog.LogRecord, user string) {
	t.Helper()
	assert.Equal(t, user, valueOf(record, "user.id"))
	for name := range record.Attributes().All() {
		assert.NotContains(t, name, "microsoft.user.")
		assert.NotContains(t, []string{"user.name", "user.full_name", "microsoft.copilot.user.licensed"}, name)
	}
}

// misses returns how many interactions went out without the properties of their user.
func (h *harness) misses(t *testing.T) int64 {
	t.Helper()
	metric, err := h.telemetry.GetMetric("otelcol_receiver_m365_copilot_directory_misses")
	require.NoError(t, err)
	sum, ok := metric.Data.(metricdata.Sum[int64])
	require.True(t, ok)
	return sum.DataPoints[0].Value
}

var (
	mara = graphtest.Person{
		ID: user(1), UserPrincipalName: "mara@contoso.example", DisplayName: "Mara Ito", Department: "Sales", Country: "Japan", Licensed: true,
	}
	noah = graphtest.Person{ID: user(2), UserPrincipalName: "noah@contoso.example", DisplayName: "Noah Weber", Department: "Finance"}
)

// What the directory says is not waited for. The record goes out, is counted, and a later one has the properties.
func TestDirectory_FirstRecordDoesNotWait(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		slow     graphtest.Operation
		person   graphtest.Person
		licensed string
	}{
		"of a licensed user who is not listed yet":             {graphtest.OpUsers, mara, "true"},
		"of a user whom the list of licensed users leaves out": {graphtest.OpUser, noah, "false"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			h.withPeople(t, mara, noah)
			h.emulator.Fail(test.slow, graphtest.Fault{Delay: 10 * time.Second, Times: 1}) // longer than a busy machine takes for what follows
			h.run(t)
			first := h.nextRecord(t, test.person.ID)
			assert.Empty(t, h.emulator.Requests(test.slow), "the directory has not answered")
			assertNoProperties(t, first, test.person.ID)
			assert.EqualValues(t, 1, h.misses(t))

			require.NoError(t, h.emulator.WaitRequests(deadline(t), test.slow, 1))
			known := h.awaitRecord(t, test.person.ID, licensedIs(test.licensed))
			assert.Equal(t, test.person.UserPrincipalName, valueOf(known, "user.name"))
			assert.Equal(t, test.person.DisplayName, valueOf(known, "user.full_name"))
			assert.Equal(t, test.person.Department, valueOf(known, "microsoft.user.department"))
			assert.Equal(t, test.person.Country, valueOf(known, "microsoft.user.country"))
			without := slices.DeleteFunc(h.records(), func(r plog.LogRecord) bool { return !licensedIs("")(r) })
			assert.Len(t, without, int(h.misses(t)), "each record without properties is counted")
		})
	}
}

// Without User.Read.All one line says so, data goes on, and the receiver counts as healthy, since nothing is missing that it must have.
func TestDirectory_MissingPermissionIsOneLine(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.withPeople(t, mara, noah)
	h.emulator.SetRoles(graphtest.RoleReadAll)
	h.set(t, "identity: {inventory: 1s}")
	h.withStorage(t)
	h.run(t)
	require.NoError(t, h.emulator.WaitRequests(deadline(t), graphtest.OpUsers, 1))
	for range 3 { // longer than cache_ttl
		assertNoProperties(t, h.nextRecord(t, mara.ID), mara.ID)
		assertNoProperties(t, h.nextRecord(t, noah.ID), noah.ID)
		<-time.After(500 * time.Millisecond)
	}
	warnings := h.lines.Filter(func(e observer.LoggedEntry) bool { return e.Level >= zapcore.WarnLevel }).All()
	require.Len(t, warnings, 1)
	line := lineText(t, warnings[0])
	assert.Contains(t, line, `"code":"COP302"`)
	assert.Regexp(t, `"hint":"[^"]*User\.Read\.All`, line)
	assert.Len(t, h.emulator.Requests(graphtest.OpUsers, graphtest.OpUser), 1, "an administrator has to act: it is not tried again soon")
	assert.NotContains(t, h.statuses(), componentstatus.StatusRecoverableError)
	assert.EqualValues(t, 6, h.misses(t))

	h.emulator.SetRoles(graphtest.RoleReadAll, graphtest.RoleUsersReadAll)
	h.restart(t)
	h.confirmed(t)
	h.awaitRecord(t, mara.ID, licensedIs("true"))
	h.awaitRecord(t, noah.ID, licensedIs("false"))
	assert.Empty(t, h.warnings())
}

// statuses returns all reported ones.
func (h *harness) statuses() (all []componentstatus.Status) {
	h.host.mu.Lock()
	defer h.host.mu.Unlock()
	for _, event := range h.host.events {
		all = append(all, event.Status())
	}
	return all
}

func TestDirectory_LicenseEnds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		end func(*graphtest.Emulator)
		// then is what records say once the user alone was read.
		then string
	}{
		"as the user loses it": {func(e *graphtest.Emulator) {
			unlicensed := mara
			unlicensed.Licensed = false
			e.Join(unlicensed)
		}, "false"},
		"as the user leaves the directory, which has nothing to say then": {func(e *graphtest.Emulator) { e.Leave(mara.ID) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			h.withPeople(t, mara, noah)
			h.run(t)
			h.awaitRecord(t, mara.ID, licensedIs("true"))
			h.awaitRecord(t, noah.ID, licensedIs("false"))
			test.end(h.emulator)
			h.awaitRecord(t, mara.ID, func(r plog.LogRecord) bool {
				return h.emulator.UserRequests()[mara.ID] > 0 && licensedIs(test.then)(r)
			})
		})
	}
}

// Each licensed user comes once in each interval, also if the collector restarts in the middle of one.
func TestInventory_OncePerIntervalAcrossRestart(t *testing.T) {
	skipIfShort(t, "it takes three intervals")
	t.Parallel()
	const interval = 20 * time.Second
	h := newCollectorHarness(t, fmt.Sprintf("receivers: {m365_copilot: {identity: {inventory: %s}}}", interval), withDirectory)
	people := graphtest.Company(2, 80)
	h.emulator.SetDirectory(people...)
	collector := h.run(t)
	h.backend.awaitInventory(t, func(entries map[string][]inventoryEntry) bool { return len(entries) >= 30 })
	collector.terminate(t)
	h.run(t)
	entries := h.backend.awaitInventory(t, func(entries map[string][]inventoryEntry) bool {
		fewest := 0
		for _, of := range entries {
			if fewest == 0 || len(of) < fewest {
				fewest = len(of)
			}
		}
		return len(entries) == 60 && fewest >= 3
	})
	for _, person := range people {
		of := entries[person.ID]
		if !person.Licensed {
			assert.Empty(t, of)
			continue
		}
		assert.LessOrEqual(t, len(of), 4)
		uids := map[string]bool{}
		for n, entry := range of {
			uids[entry.uid] = true
			if n > 0 { // neither in the same interval nor one later
				assert.InDelta(t, interval.Seconds(), entry.at.Sub(of[n-1].at).Seconds(), interval.Seconds()/2)
			}
		}
		assert.Len(t, uids, len(of), "each interval has a uid of its own")
	}
}

// loadedTenant is a tenant with a running collector, and 16 connections to it.
type loadedTenant struct {
	*collectorHarness
	clients []*http.Client
	// p99s holds that of each round.
	p99s []time.Duration
}

const bigCompany = `
receivers:
  m365_copilot:
    subscription: {check_interval: 1m}
    history: {enabled: false, requests_per_second: 2}
    identity: {directory: %t}
    storage: null
exporters:
  debug: {verbosity: basic, sampling_initial: 1, sampling_thereafter: 1000000}
service:
  telemetry: {logs: {level: warn}}
  pipelines:
    logs: {exporters: [debug]}
    metrics: {exporters: [debug]}
`

func newLoadedTenant(t *testing.T, people []graphtest.Person, directory bool) *loadedTenant {
	t.Helper()
	l := &loadedTenant{collectorHarness: newCollectorHarness(t, "", withDirectory, func(s *graphtest.Settings) { s.DirectoryLimit = 1 })}
	l.configure(t, fmt.Sprintf(bigCompany, directory))
	l.emulator.SetDirectory(people...)
	l.run(t)
	l.awaitSubscribed(t)
	for range 16 {
		client, done := newHTTPClient()
		t.Cleanup(done)
		l.clients = append(l.clients, client)
	}
	return l
}

// pace is the time from one notification of a connection to its next. It leaves processors idle, since otherwise a notification
// would wait for all of the others.
const pace = 100 * time.Millisecond

// bodiesOf returns 20 notifications for each connection.
func (l *loadedTenant) bodiesOf(t *testing.T, users []string) <-chan []byte {
	t.Helper()
	bodies := make(chan []byte, 20*len(l.clients))
	for n := range cap(bodies) {
		l.published++
		c, err := l.emulator.Collection(prompt(t, l.published, users[n%len(users)], time.Now()))
		require.NoError(t, err)
		body, err := json.Marshal(c)
		require.NoError(t, err)
		bodies <- body
	}
	close(bodies)
	return bodies
}

// round posts notifications over all connections, and notes the p99 of the time to the answer.
func (l *loadedTenant) round(t *testing.T, bodies <-chan []byte) {
	t.Helper()
	var (
		mu   sync.Mutex
		took []time.Duration
		all  sync.WaitGroup
	)
	for n, client := range l.clients {
		all.Go(func() {
			<-time.After(pace * time.Duration(n) / time.Duration(len(l.clients)))
			next := time.NewTicker(pace)
			defer next.Stop()
			for body := range bodies {
				begun := time.Now()
				status := l.postAs(t.Context(), client, body)
				passed := time.Since(begun)
				assert.Equal(t, http.StatusAccepted, status)
				mu.Lock()
				took = append(took, passed)
				mu.Unlock()
				<-next.C
			}
		})
	}
	all.Wait()
	slices.Sort(took)
	l.p99s = append(l.p99s, took[len(took)*99/100])
}

func median(values []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(values))[len(values)/2]
}

// compareLoads loads two tenants for ten rounds. The p99 of the time to the answer may be at most 20 % or 20 ms longer with the directory,
// by the median of the rounds. Both run at once, so that what else the machine does delays both.
func compareLoads(t *testing.T, without, with *loadedTenant, users []string) {
	t.Helper()
	without.p99s, with.p99s = nil, nil
	var longer []time.Duration
	for n := range 10 {
		var both sync.WaitGroup
		for _, tenant := range []*loadedTenant{without, with} {
			bodies := tenant.bodiesOf(t, users)
			both.Go(func() { tenant.round(t, bodies) })
		}
		both.Wait()
		longer = append(longer, with.p99s[n]-without.p99s[n])
	}
	t.Logf("p99 of the acknowledgement: without the directory %s, with it %s longer; rounds %v and %v",
		median(without.p99s), median(longer), without.p99s, with.p99s)
	assert.LessOrEqual(t, median(longer), max(median(without.p99s)/5, 20*time.Millisecond))
}

// The directory of a large tenant, which Graph throttles, costs no notification its answer, and few requests.
func TestDirectory_Of50000UsersDelaysNoAnswer(t *testing.T) { //nolint:paralleltest // it measures time
	skipIfShort(t, "it is a test of load")
	people := graphtest.Company(3, 50_000)
	var licensed, others []string
	for _, p := range people {
		if p.Licensed {
			licensed = append(licensed, p.ID)
		} else if len(others) < 45 {
			others = append(others, p.ID)
		}
	}
	users := slices.Concat(others, licensed[:275])
	pages := (len(licensed) + 998) / 999
	without, with := newLoadedTenant(t, people, false), newLoadedTenant(t, people, true)
	t.Run("while it is listed", func(t *testing.T) {
		compareLoads(t, without, with, users)
		require.Less(t, with.answered(graphtest.OpUsers), pages, "the list has not ended")
	})
	with.awaitAnswered(t, graphtest.OpUser, 1)
	t.Run("while users are looked up", func(t *testing.T) {
		compareLoads(t, without, with, users)
		require.Less(t, with.answered(graphtest.OpUser), len(others), "not all are read")
	})
	with.awaitAnswered(t, graphtest.OpUser, len(others))
	with.round(t, with.bodiesOf(t, users)) // all of whom are known
	assert.Equal(t, pages, with.answered(graphtest.OpUsers))
	assert.Equal(t, len(others), with.answered(graphtest.OpUser))
	stats := with.emulator.Stats()
	assert.Positive(t, stats.DirectoryThrottled)
	assert.Equal(t, pages+len(others)+stats.DirectoryThrottled, stats.Requests[graphtest.OpUsers]+stats.Requests[graphtest.OpUser])
	assert.Empty(t, without.emulator.Requests(graphtest.OpUsers, graphtest.OpUser))
}

// awaitAnswered waits until n requests of an operation were not refused.
func (l *loadedTenant) awaitAnswered(t *testing.T, operation graphtest.Operation, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	require.NoError(t, l.emulator.Wait(ctx, func(graphtest.Stats) bool { return l.answered(operation) >= n }))
}

// answered counts the requests of an operation that were not refused.
func (l *loadedTenant) answered(operation graphtest.Operation) (n int) {
	for _, request := range l.emulator.Requests(operation) {
		if request.Status == http.StatusOK {
			n++
		}
	}
	return n
}
