// SPDX-License-Identifier: Apache-2.0

package subscription_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/extension/storage/storagetest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

const (
	tenantWide = "copilot/interactionHistory/getAllEnterpriseInteractions"
	userA      = "copilot/users/0aaaaaaa-0000-4000-8000-00000000000a/interactionHistory/getAllEnterpriseInteractions"
	userB      = "copilot/users/0bbbbbbb-0000-4000-8000-00000000000b/interactionHistory/getAllEnterpriseInteractions"
	ourURL     = "https://copilot.example.com/graph/notifications"
	theirURL   = "https://other.example.com/hook?code=hidden"
	secret     = "state-of-"
)

// harness runs a Manager against a fake Graph and records what it reports.
type harness struct {
	graph   *fakeGraph
	manager *subscription.Manager
	store   *statestore.Store
	logs    *observer.ObservedLogs
	start   time.Time
	// cancel ends the context of Run, and stop also waits until Run has returned.
	cancel, stop func()
	*recorder
}

// recorder implements Observer, Telemetry and Status.
type recorder struct {
	mu             sync.Mutex
	checked        []time.Time
	allInterrupted []time.Time
	adopted        []time.Time
	interruptions  []interruption
	restored       []time.Time
	statuses       []error
	renewals       map[bool]int
	created        map[bool]int
	recreated      []subscription.Reason
}

type interruption struct {
	resource string
	reason   subscription.Reason
	since    time.Time
}

func (r *recorder) Checked() { r.locked(func() { r.checked = append(r.checked, time.Now()) }) }

func (r *recorder) AllInterrupted() {
	r.locked(func() { r.allInterrupted = append(r.allInterrupted, time.Now()) })
}

func (r *recorder) Adopted() { r.locked(func() { r.adopted = append(r.adopted, time.Now()) }) }

func (r *recorder) Interrupted(resource string, reason subscription.Reason, since time.Time) {
	r.locked(func() { r.interruptions = append(r.interruptions, interruption{resource, reason, since}) })
}

func (r *recorder) Restored(string) {
	r.locked(func() { r.restored = append(r.restored, time.Now()) })
}

func (r *recorder) Renewal(_ context.Context, err error) {
	r.locked(func() { r.renewals[err == nil]++ })
}

func (r *recorder) Created(_ context.Context, reason subscription.Reason, err error) {
	switch {
	case reason == subscription.ReasonAbsent:
		r.locked(func() { r.created[err == nil]++ })
	case err == nil:
		r.locked(func() { r.recreated = append(r.recreated, reason) })
	}
}

func (r *recorder) Status(err error) {
	r.locked(func() { r.statuses = append(r.statuses, failure.Explain(err)) })
}

func (r *recorder) locked(do func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	do()
}

func settings() subscription.Settings {
	return subscription.Settings{
		Resources: []string{tenantWide}, ChangeTypes: []string{"created", "updated", "deleted"}, NotificationURL: ourURL,
		Lifetime: 71 * time.Hour, CheckInterval: 5 * time.Minute, Keys: keys("new", "old"),
	}
}

// keys returns the keys of certificates with these ids.
func keys(first string, others ...string) subscription.Keys {
	return subscription.Keys{
		CertificateID: first, Certificate: []byte("der"), HeldCertificateIDs: append(others, first),
		ClientState: func(resource string) string { return secret + resource },
	}
}

// newHarness starts a Manager inside a synctest bubble, which checks that it returns.
func newHarness(t *testing.T, g *fakeGraph, changes ...func(*subscription.Settings)) *harness {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	r := &recorder{renewals: map[bool]int{}, created: map[bool]int{}}
	s := settings()
	s.Graph, s.Logger, s.Observer, s.Telemetry, s.Status = g, zap.New(core), r, r, r.Status
	s.Store = statestore.New(newStorage())
	for _, change := range changes {
		change(&s)
	}
	h := &harness{graph: g, manager: subscription.New(s), store: s.Store, logs: logs, start: time.Now(), recorder: r}
	require.NoError(t, h.manager.Load(t.Context()))
	var ctx context.Context
	ctx, h.cancel = context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.manager.Run(ctx)
	}()
	h.stop = sync.OnceFunc(func() {
		h.cancel()
		<-ended
	})
	t.Cleanup(h.stop)
	synctest.Wait()
	return h
}

// testStorage is a storage in memory. Writes fail with fail, unless that is nil.
type testStorage struct {
	storage.Client
	fail error
}

func newStorage() *testStorage {
	return &testStorage{Client: storagetest.NewInMemoryClient(component.KindReceiver, component.MustNewID("m365_copilot"), "")}
}

func (s *testStorage) Batch(ctx context.Context, operations ...*storage.Operation) error {
	if s.fail != nil {
		return s.fail
	}
	return s.Client.Batch(ctx, operations...)
}

// storedIn returns the value of subscriptions in a store.
func storedIn(store *statestore.Store) *statestore.Value[[]subscription.Known] {
	return statestore.NewValue[[]subscription.Known](statestore.ValueSettings{
		Store: store, Key: "subscriptions", Version: 1, Name: "subscriptions", Logger: zap.NewNop(),
	})
}

// known returns the subscriptions that the next run will know.
func (h *harness) known() []subscription.Known {
	known, _, err := storedIn(h.store).Load(context.Background())
	if err != nil {
		panic(err)
	}
	return known
}

// after continues with the storage of an earlier run.
func after(earlier *harness) func(*subscription.Settings) {
	return func(s *subscription.Settings) { s.Store = earlier.store }
}

// knowing sets what earlier runs stored.
func knowing(t *testing.T, known ...subscription.Known) func(*subscription.Settings) {
	t.Helper()
	return func(s *subscription.Settings) {
		value := storedIn(s.Store)
		value.Changed()
		require.NoError(t, value.Save(t.Context(), func() []subscription.Known { return known }))
	}
}

// advance lets fake time pass.
func (h *harness) advance(d time.Duration) {
	h.locked(func() {}) // Orders the reads of the test before the next writes of the Manager.
	time.Sleep(d)
	synctest.Wait()
}

// sendEvent sends an event and waits until it was processed.
func (h *harness) sendEvent(kind, id string) {
	h.locked(func() {})
	h.manager.Wake(subscription.Event{Kind: kind, SubscriptionID: id})
	synctest.Wait()
}

// lines returns the log lines with this message.
func (h *harness) lines(message string) []observer.LoggedEntry {
	return h.logs.FilterMessage(message).All()
}

// existing returns a subscription of an earlier run that expires after left.
func existing(id string, left time.Duration, changes ...func(*graph.Subscription)) graph.Subscription {
	s := graph.Subscription{
		ID: id, Resource: tenantWide, ChangeTypes: []string{"created", "updated", "deleted"}, NotificationURL: ourURL,
		EncryptionCertificateID: "new", Expiration: time.Now().Add(left),
	}
	for _, change := range changes {
		change(&s)
	}
	return s
}

func atTheirURL(s *graph.Subscription) { s.NotificationURL = theirURL }

// requireOps checks the operations of all calls, in order.
func requireOps(t *testing.T, h *harness, ops ...string) {
	t.Helper()
	var made []string
	for _, c := range h.graph.callsOf() {
		made = append(made, c.op)
	}
	require.True(t, slices.Equal(ops, made), "calls made: %v", made)
}

// assertHourlyFailures checks that the failure was logged immediately and then once an hour.
func assertHourlyFailures(t *testing.T, h *harness, lasted time.Duration) {
	t.Helper()
	lines := h.lines("subscription fails, will be tried again")
	hours := int(lasted / time.Hour)
	assert.LessOrEqual(t, len(lines), hours+1)
	assert.Greater(t, len(lines), hours*9/10, "the first attempt after an hour is at most 5 minutes later")
	for i := 1; i < len(lines); i++ {
		assert.GreaterOrEqual(t, lines[i].Time.Sub(lines[i-1].Time), time.Hour)
	}
}
