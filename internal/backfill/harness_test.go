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
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// request is one request for a page of history.
type request struct {
	user, next string
	from, to   time.Time
	at         time.Time
}

// fakeGraph has interactions of users, and a directory.
type fakeGraph struct {
	mu           sync.Mutex
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
			return graph.HistoryPage{}, err
		}
	}
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

func (g *fakeGraph) LicensedUsers(_ context.Context, next string) (graph.UserPage, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.listed = append(g.listed, time.Now())
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
	page := graph.UserPage{IDs: g.licensed[min(skip, len(g.licensed)):min(skip+size, len(g.licensed))]}
	if skip+size < len(g.licensed) {
		page.Next = strconv.Itoa(skip + size)
	}
	if g.rewriteList != nil {
		g.rewriteList(&page)
	}
	return page, nil
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
	intake    *fakeIntake
	store     *fakeStore
	telemetry *fakeTelemetry
	logs      *observer.ObservedLogs
	settings  backfill.Settings

	mu     sync.Mutex
	status []error
}

const tenant = "6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10"

// newHarness advances the bubble's clock to a time at which Copilot exists.
func newHarness() *harness {
	time.Sleep(time.Until(time.Date(2026, 11, 24, 9, 30, 0, 0, time.UTC)))
	h := &harness{
		graph:     &fakeGraph{interactions: map[string][]time.Time{}},
		intake:    &fakeIntake{times: map[string]int{}},
		store:     &fakeStore{values: map[string][]byte{}},
		telemetry: &fakeTelemetry{opened: map[backfill.Reason]int{}, closed: map[backfill.Reason]int{}, lost: map[backfill.Reason]time.Duration{}},
	}
	core, logs := observer.New(zapcore.DebugLevel)
	h.logs = logs
	h.settings = backfill.Settings{
		TenantID: tenant, Graph: h.graph, Intake: h.intake, Store: h.store, Telemetry: h.telemetry, Logger: zap.New(core),
		Status: func(err error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.status = append(h.status, err)
		},
	}
	return h
}

// run starts a Backfiller. The returned function stops it and waits for its end.
func (h *harness) run(t *testing.T) (b *backfill.Backfiller, stop func()) {
	t.Helper()
	b = backfill.New(h.settings)
	require.NoError(t, b.Load(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { b.Run(ctx) })
	return b, func() {
		cancel()
		running.Wait()
	}
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

// users configures n users, each with an interaction at each of the times.
func (h *harness) users(n int, at ...time.Time) {
	h.settings.Users = guids(n)
	for _, id := range h.settings.Users {
		h.graph.interactions[id] = at
	}
}

// gap returns a gap of an hour that ended long enough ago to be read only once.
func gap(reason backfill.Reason) backfill.Gap {
	return backfill.Gap{Reason: reason, From: time.Now().Add(-3 * time.Hour), To: time.Now().Add(-2 * time.Hour)}
}

// fakeIntake counts how often each interaction was delivered.
type fakeIntake struct {
	mu     sync.Mutex
	times  map[string]int
	last   interaction.Received
	refuse func() error
	tries  int
	// slow is how long each call takes.
	slow time.Duration
}

func (i *fakeIntake) Deliver(ctx context.Context, received []interaction.Received) (delivered int, _ error) {
	select {
	case <-time.After(i.slow):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.tries++
	if i.refuse != nil {
		if err := i.refuse(); err != nil {
			return 0, err
		}
	}
	for _, r := range received {
		key := r.UserID + " " + r.ID
		if i.times[key] == 0 {
			delivered++
		}
		i.times[key]++
		i.last = r
	}
	return delivered, nil
}

// snapshot returns the current state.
func (i *fakeIntake) snapshot() *fakeIntake {
	i.mu.Lock()
	defer i.mu.Unlock()
	return &fakeIntake{last: i.last, tries: i.tries}
}

func (i *fakeIntake) distinct() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.times)
}

type fakeTelemetry struct {
	mu             sync.Mutex
	opened, closed map[backfill.Reason]int
	lost           map[backfill.Reason]time.Duration
	found          int
}

func (f *fakeTelemetry) copy() *fakeTelemetry {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &fakeTelemetry{opened: maps.Clone(f.opened), closed: maps.Clone(f.closed), lost: maps.Clone(f.lost), found: f.found}
}

func (f *fakeTelemetry) GapOpened(_ context.Context, r backfill.Reason) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opened[r]++
}

func (f *fakeTelemetry) GapClosed(_ context.Context, r backfill.Reason) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed[r]++
}

func (f *fakeTelemetry) GapLost(_ context.Context, r backfill.Reason, lost time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost[r] += lost
}

func (f *fakeTelemetry) HistoryInteractions(_ context.Context, found int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.found += found
}

// fakeStore is a store that can fail.
type fakeStore struct {
	mu     sync.Mutex
	values map[string][]byte
	broken bool
	writes int
}

var errStore = errors.New("disk full")

func (s *fakeStore) Get(_ context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return nil, errStore
	}
	return s.values[key], nil
}

func (s *fakeStore) Set(_ context.Context, key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return errStore
	}
	s.writes++
	s.values[key] = slices.Clone(value)
	return nil
}

func (s *fakeStore) Delete(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return errStore
	}
	delete(s.values, key)
	return nil
}

// copy returns what a killed process leaves behind.
func (s *fakeStore) copy() *fakeStore {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &fakeStore{values: maps.Clone(s.values), writes: s.writes}
}

func (s *fakeStore) setBroken(broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = broken
}

// advance lets time pass, and everything happen that is due by then.
func advance(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
