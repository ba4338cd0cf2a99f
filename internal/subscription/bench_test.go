package subscription_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
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

// bench is a keeper on its fake Graph, with all that it says written down.
type bench struct {
	graph  *fakeGraph
	keeper *subscription.Manager
	logs   *observer.ObservedLogs
	start  time.Time
	stop   func()
	*witness
}

// witness is Observer, Telemetry and Status at once.
type witness struct {
	mu            sync.Mutex
	checked       []time.Time
	interruptions []interruption
	restored      []time.Time
	known         []subscription.Known
	statuses      []error
	renewals      map[bool]int
	created       map[bool]int
	recreated     []subscription.Reason
}

type interruption struct {
	resource string
	reason   subscription.Reason
	since    time.Time
}

func (w *witness) Checked(at time.Time) { w.locked(func() { w.checked = append(w.checked, at) }) }

func (w *witness) Interrupted(resource string, reason subscription.Reason, since time.Time) {
	w.locked(func() { w.interruptions = append(w.interruptions, interruption{resource, reason, since}) })
}

func (w *witness) Restored(_ string, at time.Time) {
	w.locked(func() { w.restored = append(w.restored, at) })
}
func (w *witness) Known(known []subscription.Known) { w.locked(func() { w.known = known }) }
func (w *witness) Renewal(_ context.Context, err error) {
	w.locked(func() { w.renewals[err == nil]++ })
}

func (w *witness) Created(_ context.Context, err error) { w.locked(func() { w.created[err == nil]++ }) }

func (w *witness) Status(err error) { w.locked(func() { w.statuses = append(w.statuses, err) }) }

func (w *witness) Recreated(_ context.Context, reason subscription.Reason, err error) {
	if err == nil {
		w.locked(func() { w.recreated = append(w.recreated, reason) })
	}
}

func (w *witness) locked(do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do()
}

func settings() subscription.Settings {
	return subscription.Settings{
		Resources: []string{tenantWide}, ChangeTypes: []string{"created", "updated", "deleted"}, NotificationURL: ourURL,
		Certificate: subscription.Certificate{ID: "new", DER: []byte("der")}, HeldCertificateIDs: []string{"new", "old"},
		ClientState: func(resource string) string { return secret + resource },
	}
}

// begin starts a keeper inside a synctest bubble. The bubble checks that it ends.
func begin(t *testing.T, g *fakeGraph, changes ...func(*subscription.Settings)) *bench {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	w := &witness{renewals: map[bool]int{}, created: map[bool]int{}}
	s := settings()
	s.Graph, s.Logger, s.Observer, s.Telemetry, s.Status = g, zap.New(core), w, w, w.Status
	for _, change := range changes {
		change(&s)
	}
	b := &bench{graph: g, keeper: subscription.New(s), logs: logs, start: time.Now(), witness: w}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.keeper.Run(ctx)
	}()
	b.stop = sync.OnceFunc(func() {
		cancel()
		<-ended
	})
	t.Cleanup(b.stop)
	synctest.Wait()
	return b
}

// pass lets fake time go by.
func (b *bench) pass(d time.Duration) {
	b.locked(func() {}) // What the test has read so far happened before what the keeper writes now.
	time.Sleep(d)
	synctest.Wait()
}

// wake hands an event over and waits until it was looked at.
func (b *bench) wake(kind, id string) {
	b.locked(func() {})
	b.keeper.Wake(subscription.Event{Kind: kind, SubscriptionID: id})
	synctest.Wait()
}

// lines returns the log lines with this message.
func (b *bench) lines(message string) []observer.LoggedEntry {
	return b.logs.FilterMessage(message).All()
}

// existing is a subscription as an earlier run left it, with so much time left.
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

func foreign(s *graph.Subscription) { s.NotificationURL = theirURL }

// requireOps checks which calls were made, in order.
func requireOps(t *testing.T, b *bench, ops ...string) {
	t.Helper()
	var made []string
	for _, c := range b.graph.callsOf() {
		made = append(made, c.op)
	}
	require.True(t, slices.Equal(ops, made), "calls made: %v", made)
}

// assertHourlyFailures tells whether the failures were logged at once and then again each hour for as long as they lasted.
func assertHourlyFailures(t *testing.T, b *bench, lasted time.Duration) {
	t.Helper()
	lines := b.lines("subscription fails, will be tried again")
	hours := int(lasted / time.Hour)
	assert.LessOrEqual(t, len(lines), hours+1)
	assert.Greater(t, len(lines), hours*9/10, "the first try after an hour is at most 5 minutes later")
	for i := 1; i < len(lines); i++ {
		assert.GreaterOrEqual(t, lines[i].Time.Sub(lines[i-1].Time), time.Hour)
	}
}
