// SPDX-License-Identifier: Apache-2.0

package backfill_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/directory"
	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap/gapstore"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// request is one request for a page of history.
type request struct {
	user, next string
	from, to   time.Time
	at         time.Time
}

// fakeGraph has interactions of users, and a directory.
type fakeGraph struct {
	mu           sync.Mutex
	silent       bool                   // until the first response
	interactions map[string][]time.Time // by user; ids are derived from the times
	licensed     []string
	requests     []request
	listed       []time.Time
	// fail may fail a request for history, failList one for the directory.
	fail     func(r request) error
	failList func() error
	// latency is how long a response takes, pageSize how many interactions a page holds.
	latency  time.Duration
	pageSize int
	// rewrite may change a page of history.
	rewrite func(page *graph.HistoryPage)
	// rewriteList may change a page of the directory.
	rewriteList func(page *graph.UserPage)
}

func (g *fakeGraph) History(ctx context.Context, user string, from, to time.Time, next string) (graph.HistoryPage, error) {
	if g.latency > 0 {
		select {
		case <-ctx.Done():
			return graph.HistoryPage{}, ctx.Err()
		case <-time.After(g.latency):
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	r := request{user, next, from, to, time.Now()}
	g.requests = append(g.requests, r)
	if g.fail != nil {
		if err := g.fail(r); err != nil {
			_, refused := errors.AsType[*graph.Error](err)
			g.silent = g.silent && !refused
			return graph.HistoryPage{}, err
		}
	}
	g.silent = false
	return g.page(r), nil
}

func (g *fakeGraph) page(r request) graph.HistoryPage {
	var found []json.RawMessage
	for _, at := range g.interactions[r.user] {
		if at.After(r.from) && at.Before(r.to) {
			found = append(found, json.RawMessage(fmt.Sprintf(`{"id":"%d","sessionId":"s-%s"}`, at.UnixMilli(), r.user)))
		}
	}
	size := g.pageSize
	if size == 0 {
		size = 100
	}
	skip, _ := strconv.Atoi(r.next)
	page := graph.HistoryPage{Items: found[min(skip, len(found)):min(skip+size, len(found))]}
	if skip+size < len(found) {
		page.Next = strconv.Itoa(skip + size)
	}
	if g.rewrite != nil {
		g.rewrite(&page)
	}
	return page
}

func (g *fakeGraph) User(context.Context, string, []string) (interaction.Person, error) {
	return interaction.Person{}, errors.ErrUnsupported
}

func (g *fakeGraph) LicensedUsers(_ context.Context, next string, _ []string) (graph.UserPage, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.listed, g.silent = append(g.listed, time.Now()), false
	if g.failList != nil {
		if err := g.failList(); err != nil {
			if e, ok := errors.AsType[*graph.Error](err); ok {
				e.Operation = "list users"
			}
			return graph.UserPage{}, err
		}
	}
	const size = 999
	skip, _ := strconv.Atoi(next)
	page := graph.UserPage{}
	for _, id := range g.licensed[min(skip, len(g.licensed)):min(skip+size, len(g.licensed))] {
		page.Items = append(page.Items, interaction.Person{ID: id})
	}
	if skip+size < len(g.licensed) {
		page.Next = strconv.Itoa(skip + size)
	}
	if g.rewriteList != nil {
		g.rewriteList(&page)
	}
	return page, nil
}

func (g *fakeGraph) Answered() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.silent
}

func (g *fakeGraph) historyRequests() []request {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.requests)
}

func (g *fakeGraph) directoryRequests() []time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.listed)
}

func (g *fakeGraph) set(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
}

func graphError(status int, message string, wait time.Duration) error {
	return &graph.Error{Operation: "read history", Status: status, Code: "Code", Message: message, RetryAfter: wait}
}

func forbidden() error { return graphError(http.StatusForbidden, "Insufficient privileges.", 0) }

func noLicense() error {
	return graphError(http.StatusForbidden, "User 'x' does not have a valid Copilot license.", 0)
}

// harness is the environment of a Backfiller.
type harness struct {
	graph     *fakeGraph
	pipeline  *fakePipeline
	cache     *fakeCache
	client    *fakeClient
	telemetry *fakeTelemetry
	logs      *observer.ObservedLogs
	rules     gap.Rules
	now       func() time.Time // the time of gaps
	throttle  graph.ThrottleSettings
	settings  backfill.Settings // without what each run has of its own
	users     []string          // whose history is read; none means those of the directory
	gaps      *gapstore.Store   // of the last run
	directory *directory.Directory

	mu     sync.Mutex
	status []error
}

const tenant = "6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10"

// newHarness advances the bubble's clock to a time at which Copilot exists.
func newHarness() *harness {
	time.Sleep(time.Until(time.Date(2026, 11, 24, 9, 30, 0, 0, time.UTC)))
	h := &harness{
		graph:     &fakeGraph{interactions: map[string][]time.Time{}},
		pipeline:  &fakePipeline{times: map[string]int{}, notified: map[string]bool{}},
		cache:     &fakeCache{},
		client:    &fakeClient{values: map[string][]byte{}},
		telemetry: &fakeTelemetry{opened: map[gap.Reason]int{}, closed: map[gap.Reason]int{}, lost: map[gap.Reason]time.Duration{}, recovered: map[gap.Reason]int{}},
		rules:     gap.Rules{MaxGap: 168 * time.Hour},
		now:       time.Now,
	}
	core, logs := observer.New(zapcore.DebugLevel)
	h.logs = logs
	h.settings = backfill.Settings{
		TenantID: tenant, Concurrency: 4, Deliver: h.pipeline.Deliver, Cache: h.cache,
		Learn: func([]interaction.Received) {}, Telemetry: h.telemetry, Logger: zap.New(core),
	}
	h.throttle = graph.ThrottleSettings{
		Graph: h.graph, RequestsPerSecond: 25, Logger: h.settings.Logger,
		Status: func(err error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.status = append(h.status, failure.Explain(err))
		},
	}
	return h
}

// run starts a Backfiller with its gaps and its directory. The returned function stops them and waits for their end.
func (h *harness) run(t *testing.T) (b *backfill.Backfiller, stop func()) {
	t.Helper()
	store := statestore.New(h.client)
	h.gaps = gapstore.New(gapstore.Settings{Rules: h.rules, Store: store, Now: h.now, Logger: h.settings.Logger, Telemetry: h.telemetry})
	require.NoError(t, h.gaps.Load(t.Context(), time.Time{}))
	throttle := graph.NewThrottle(h.throttle)
	h.settings.Gaps, h.settings.Users, h.settings.Graph = h.gaps, users(h.users), throttle
	h.directory = directory.New(directory.Settings{Graph: h.graph, Store: store, Logger: h.settings.Logger})
	require.NoError(t, h.directory.Load(t.Context()))
	h.settings.Directory = h.directory
	b = backfill.New(h.settings)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, loop := range []func(context.Context){b.Run, h.gaps.Run, h.directory.Run} {
		running.Go(func() { loop(ctx) })
	}
	return b, func() {
		cancel()
		running.Wait()
	}
}

// users converts ids, in order.
func users(ids []string) []gap.User {
	var users []gap.User
	for _, id := range ids {
		user, _ := gap.ParseUser(id)
		users = append(users, user)
	}
	return gap.SortUsers(users)
}

// save stores what a shutdown stores.
func (h *harness) save(t *testing.T) {
	t.Helper()
	require.NoError(t, h.gaps.Flush(t.Context()))
	require.NoError(t, h.directory.Save(t.Context()))
}

// open opens gaps.
func (h *harness) open(gaps ...gap.Gap) {
	h.gaps.Update(context.Background(), func(s *gap.State, _ time.Time) { s.Gaps = append(s.Gaps, gaps...) })
}

// missing returns the missing time of the reasons that have some.
func (h *harness) missing() map[gap.Reason]time.Duration {
	missing := map[gap.Reason]time.Duration{}
	h.gaps.View(func(s *gap.State, now time.Time) { maps.Copy(missing, s.Missing(h.rules, now)) })
	maps.DeleteFunc(missing, func(_ gap.Reason, length time.Duration) bool { return length == 0 })
	return missing
}

// state returns the present state, which is not changed any more.
func (h *harness) state() (state gap.State) {
	h.gaps.View(func(s *gap.State, _ time.Time) { state = s.Clone() })
	return state
}

func (h *harness) logged(message string) int { return h.logs.FilterMessageSnippet(message).Len() }

func (h *harness) health() []error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.status)
}

func guid(n int) string { return fmt.Sprintf("%08x-0000-4000-8000-%012x", uint32(n)*2654435761, n) }

func guids(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = guid(i)
	}
	return ids
}

// configure configures n users, each with an interaction at each of the times.
func (h *harness) configure(n int, at ...time.Time) {
	h.users = guids(n)
	for _, id := range h.users {
		h.graph.interactions[id] = at
	}
}

// between returns a gap of all users.
func between(reason gap.Reason, from, to time.Time) gap.Gap {
	return gap.Gap{Reasons: []gap.Reason{reason}, From: from.UTC(), To: to.UTC()}
}

// hour returns a gap of an hour that ended long enough ago to be read only once.
func hour(reason gap.Reason) gap.Gap {
	return between(reason, time.Now().Add(-3*time.Hour), time.Now().Add(-2*time.Hour))
}

// fakePipeline counts how often each interaction was delivered.
type fakePipeline struct {
	mu       sync.Mutex
	times    map[string]int
	notified map[string]bool // those that notifications have brought
	last     interaction.Received
	reasons  []gap.Reason
	answer   *backfill.Delivered // unless nil, what each call returns
	refuse   func() error
	tries    int
	// slow is how long each call takes.
	slow time.Duration
}

func (p *fakePipeline) Deliver(ctx context.Context, received []interaction.Received, reason gap.Reason) (delivered backfill.Delivered, _ error) {
	select {
	case <-time.After(p.slow):
	case <-ctx.Done():
		return delivered, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tries++
	if p.refuse != nil {
		if err := p.refuse(); err != nil {
			return delivered, err
		}
	}
	p.reasons = append(p.reasons, reason)
	for _, r := range received {
		key := r.UserID + " " + r.ID
		if p.times[key] == 0 && !p.notified[key] {
			delivered.New++
			delivered.Recovered++
		}
		p.times[key]++
		p.last = r
	}
	if p.answer != nil && len(received) > 0 {
		delivered = *p.answer
	}
	return delivered, nil
}

// snapshot returns the current state.
func (p *fakePipeline) snapshot() *fakePipeline {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &fakePipeline{last: p.last, tries: p.tries, reasons: slices.Clone(p.reasons)}
}

func (p *fakePipeline) distinct() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.times)
}

// fakeCache knows everything from a time on.
type fakeCache struct {
	mu           sync.Mutex
	completeFrom time.Time
	entries      int
	tooMany      bool
	notified     func(from, to time.Time, users []gap.User) int
}

func (c *fakeCache) CompleteFrom() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.completeFrom
}

func (c *fakeCache) setCompleteFrom(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.completeFrom = at
}

func (c *fakeCache) EntriesFor(time.Duration) (int, bool) { return c.entries, !c.tooMany }

func (c *fakeCache) Notified(from, to time.Time, users []gap.User) int {
	if c.notified == nil {
		return 0
	}
	return c.notified(from, to, users)
}

type fakeTelemetry struct {
	mu             sync.Mutex
	opened, closed map[gap.Reason]int
	lost           map[gap.Reason]time.Duration
	found          int
	recovered      map[gap.Reason]int
}

func (f *fakeTelemetry) copy() *fakeTelemetry {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &fakeTelemetry{opened: maps.Clone(f.opened), closed: maps.Clone(f.closed), lost: maps.Clone(f.lost), found: f.found, recovered: maps.Clone(f.recovered)}
}

func (f *fakeTelemetry) GapOpened(_ context.Context, r gap.Reason) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opened[r]++
}

func (f *fakeTelemetry) GapClosed(_ context.Context, r gap.Reason) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed[r]++
}

func (f *fakeTelemetry) GapLost(_ context.Context, r gap.Reason, lost time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost[r] += lost
}

func (f *fakeTelemetry) HistoryInteractions(_ context.Context, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.found += n
}

func (f *fakeTelemetry) Recovered(_ context.Context, reason gap.Reason, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.recovered[reason] += n
}

// fakeClient is a storage that can fail.
type fakeClient struct {
	mu     sync.Mutex
	values map[string][]byte
	broken bool
	writes int
}

var errStore = errors.New("disk full")

func (c *fakeClient) Batch(_ context.Context, operations ...*storage.Operation) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken {
		return errStore
	}
	c.writes++
	for _, op := range operations {
		switch op.Type {
		case storage.Get:
			op.Value = c.values[op.Key]
		case storage.Set:
			c.values[op.Key] = slices.Clone(op.Value)
		default:
			delete(c.values, op.Key)
		}
	}
	return nil
}

func (c *fakeClient) Get(ctx context.Context, key string) ([]byte, error) {
	op := storage.GetOperation(key)
	err := c.Batch(ctx, op)
	return op.Value, err
}

func (c *fakeClient) Set(ctx context.Context, key string, value []byte) error {
	return c.Batch(ctx, storage.SetOperation(key, value))
}

func (c *fakeClient) Delete(ctx context.Context, key string) error {
	return c.Batch(ctx, storage.DeleteOperation(key))
}

func (c *fakeClient) Close(context.Context) error { return nil }

// copy returns what a killed process leaves behind.
func (c *fakeClient) copy() *fakeClient {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &fakeClient{values: maps.Clone(c.values), writes: c.writes}
}

func (c *fakeClient) setBroken(broken bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = broken
}

// advance lets time pass, and everything happen that is due by then.
func advance(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
