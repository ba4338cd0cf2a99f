package receiver

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

func newTestUndelivered(t *testing.T, store storage.Client) (*undelivered, *fakeGaps) {
	t.Helper()
	opened := &fakeGaps{}
	r := newUndelivered(store, zap.NewNop(), retryDeadline, opened)
	r.load(t.Context())
	return r, opened
}

// interactionAt returns an interaction whose id has the timestamp of a time.
func interactionAt(at time.Time) interaction.Received {
	return interaction.Received{Interaction: interaction.Interaction{ID: strconv.FormatInt(at.UnixMilli(), 10), SessionID: "s"}}
}

var noon = time.Date(2026, 11, 24, 12, 0, 30, 0, time.UTC)

func minuteGap(at time.Time) backfill.Gap {
	from := time.Unix(at.Unix()/60*60, 0).UTC()
	return backfill.Gap{Reason: backfill.Undelivered, From: from, To: from.Add(time.Minute)}
}

func TestUndelivered_OpensGapAfterRetryDeadline(t *testing.T) {
	t.Parallel()
	r, opened := newTestUndelivered(t, newStore(t))
	lost, late := interactionAt(noon.Add(-time.Hour)), interactionAt(noon)
	r.track([]interaction.Received{lost, late}, noon)
	r.track([]interaction.Received{lost}, noon.Add(4*time.Hour))
	r.delivered([]interaction.Received{late})
	r.openExpired(t.Context(), noon.Add(retryDeadline-time.Second))
	assert.Empty(t, opened.gaps, "Graph may still retry it")
	r.openExpired(t.Context(), noon.Add(retryDeadline))
	assert.Equal(t, []backfill.Gap{minuteGap(noon.Add(-time.Hour))}, opened.gaps)
	r.openExpired(t.Context(), noon.Add(2*retryDeadline))
	assert.Len(t, opened.gaps, 1, "once")
}

func TestUndelivered_TracksUnopenedByContentDigest(t *testing.T) {
	t.Parallel()
	r, opened := newTestUndelivered(t, newStore(t))
	encrypted := func(signature string, at time.Time) notification.Item {
		return notification.Item{ResourceID: strconv.FormatInt(at.UnixMilli(), 10), EncryptedContent: &notification.EncryptedContent{DataSignature: signature}}
	}
	lost, late := encrypted("lost", noon.Add(-time.Hour)), encrypted("late", noon)
	r.trackUnopened([]notification.Item{lost, late, {LifecycleEvent: "missed"}}, noon)
	received := interactionAt(noon)
	received.ContentDigest = late.ContentDigest()
	r.delivered([]interaction.Received{received})
	r.openExpired(t.Context(), noon.Add(retryDeadline))
	assert.Equal(t, []backfill.Gap{minuteGap(noon.Add(-time.Hour))}, opened.gaps)
}

func TestUndelivered_ResolveStopsTracking(t *testing.T) {
	t.Parallel()
	encrypted := notification.Item{ResourceID: "x", EncryptedContent: &notification.EncryptedContent{DataSignature: "of both"}}
	for name, fail := range map[string]func(r *undelivered){
		"an item that was opened": func(r *undelivered) {
			one := interactionAt(noon)
			one.ContentDigest = encrypted.ContentDigest()
			r.track([]interaction.Received{one}, noon)
		},
		"an item that could not be opened": func(r *undelivered) {
			r.trackUnopened([]notification.Item{encrypted}, noon)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, opened := newTestUndelivered(t, newStore(t))
			fail(r)
			r.track([]interaction.Received{interactionAt(noon.Add(-time.Hour))}, noon)
			r.resolve(encrypted.ContentDigest())
			r.openExpired(t.Context(), noon.Add(retryDeadline))
			assert.Equal(t, []backfill.Gap{minuteGap(noon.Add(-time.Hour))}, opened.gaps)
		})
	}
}

func TestUndelivered_UsesLocalTimeForImplausibleID(t *testing.T) {
	t.Parallel()
	r, opened := newTestUndelivered(t, newStore(t))
	r.track([]interaction.Received{{Interaction: interaction.Interaction{ID: "x"}}, interactionAt(noon.Add(25 * time.Hour))}, noon)
	r.openExpired(t.Context(), noon.Add(retryDeadline))
	assert.Equal(t, []backfill.Gap{minuteGap(noon)}, opened.gaps)
}

// The clock may be behind, so the timestamp of an id is used although it is ahead.
func TestUndelivered_UsesTimestampOfIDAheadOfClock(t *testing.T) {
	t.Parallel()
	r, opened := newTestUndelivered(t, newStore(t))
	r.track([]interaction.Received{interactionAt(noon.Add(4 * time.Minute))}, noon)
	r.openExpired(t.Context(), noon.Add(retryDeadline))
	assert.Equal(t, []backfill.Gap{minuteGap(noon.Add(4 * time.Minute))}, opened.gaps)
}

func TestUndelivered_SurvivesRestart(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	r, opened := newTestUndelivered(t, store)
	r.track([]interaction.Received{interactionAt(noon)}, noon)
	r.trackUnopened([]notification.Item{{ResourceID: "x", EncryptedContent: &notification.EncryptedContent{DataSignature: "s"}}}, noon.Add(time.Minute))
	r.openExpired(t.Context(), noon.Add(2*time.Minute))
	require.Empty(t, opened.gaps)

	for range 2 {
		r, opened = newTestUndelivered(t, store)
		opened.failFlush = true
		r.openExpired(t.Context(), noon.Add(retryDeadline))
		require.Equal(t, []backfill.Gap{minuteGap(noon)}, opened.gaps, "as long as the gap is not stored")
	}
	opened.failFlush = false
	r.openExpired(t.Context(), noon.Add(retryDeadline+time.Second))
	r, opened = newTestUndelivered(t, store)
	r.openExpired(t.Context(), noon.Add(retryDeadline+time.Minute))
	require.Equal(t, []backfill.Gap{minuteGap(noon.Add(time.Minute))}, opened.gaps)
	r, opened = newTestUndelivered(t, store)
	r.openExpired(t.Context(), noon.Add(3*retryDeadline))
	assert.Empty(t, opened.gaps, "no gap is opened twice")
}

func TestUndelivered_RetriesFailingStorage(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	r, _ := newTestUndelivered(t, store)
	r.track([]interaction.Received{interactionAt(noon)}, noon)
	r.openExpired(t.Context(), noon)

	core, lines := observer.New(zap.InfoLevel)
	opened := &fakeGaps{}
	r = newUndelivered(failingStore{store}, zap.New(core), retryDeadline, opened)
	r.load(t.Context())
	r.track([]interaction.Received{interactionAt(noon.Add(time.Minute))}, noon.Add(time.Minute))
	r.openExpired(t.Context(), noon.Add(time.Minute))
	r.store = store
	r.openExpired(t.Context(), noon.Add(time.Minute))
	assert.Equal(t, 2, lines.Len(), "one line when it begins and one when it is over")
	r, opened = newTestUndelivered(t, store)
	r.openExpired(t.Context(), noon.Add(retryDeadline+time.Minute))
	assert.ElementsMatch(t, []backfill.Gap{minuteGap(noon), minuteGap(noon.Add(time.Minute))}, opened.gaps)
}

func TestUndelivered_DistinguishesItemsWithoutContent(t *testing.T) {
	t.Parallel()
	r, opened := newTestUndelivered(t, newStore(t))
	bare := func(at time.Time) notification.Item {
		return notification.Item{SubscriptionID: "s", ResourceID: strconv.FormatInt(at.UnixMilli(), 10), ChangeType: "deleted"}
	}
	r.trackUnopened([]notification.Item{bare(noon), bare(noon.Add(-time.Hour)), bare(noon.Add(-2 * time.Hour)), {LifecycleEvent: "missed"}}, noon)
	late := interactionAt(noon.Add(-time.Hour))
	late.SubscriptionID, late.WithoutContent = "s", true
	r.delivered([]interaction.Received{late})
	r.openExpired(t.Context(), noon.Add(retryDeadline))
	assert.ElementsMatch(t, []backfill.Gap{minuteGap(noon), minuteGap(noon.Add(-2 * time.Hour))}, opened.gaps)
}

// A request that was refused unread is lost only if the receiver was overloaded again when Graph retried it.
func TestUndelivered_OpensGapForRepeatedOverload(t *testing.T) {
	t.Parallel()
	hour := func(at time.Time) backfill.Gap {
		until := minuteGap(at).To
		return backfill.Gap{Reason: backfill.Undelivered, From: until.Add(-65 * time.Minute), To: until}
	}
	for name, test := range map[string]struct {
		overloads []time.Duration
		want      []backfill.Gap
	}{
		"a moment":             {[]time.Duration{0, time.Minute, 20 * time.Minute}, nil},
		"two moments":          {[]time.Duration{0, 5 * time.Hour}, nil},
		"for hours":            {[]time.Duration{0, time.Hour}, []backfill.Gap{hour(noon)}},
		"the last one is late": {[]time.Duration{0, 4 * time.Hour}, []backfill.Gap{hour(noon)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := newStore(t)
			r, opened := newTestUndelivered(t, store)
			for _, after := range test.overloads {
				r.overloaded(noon.Add(after))
			}
			r.openExpired(t.Context(), noon.Add(retryDeadline-time.Minute))
			require.Empty(t, opened.gaps)
			r, opened = newTestUndelivered(t, store) // a restart in between
			opened.failFlush = true
			r.openExpired(t.Context(), noon.Add(retryDeadline))
			r, opened = newTestUndelivered(t, store) // and a kill before the gap is stored
			r.openExpired(t.Context(), noon.Add(retryDeadline+time.Hour))
			assert.Equal(t, test.want, opened.gaps)
			r, opened = newTestUndelivered(t, store)
			r.openExpired(t.Context(), noon.Add(3*retryDeadline))
			assert.Empty(t, opened.gaps)
		})
	}
}

func TestUndelivered_NeededCoversTrackedItems(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	r, _ := newTestUndelivered(t, store)
	assert.Zero(t, r.needed())
	r.track([]interaction.Received{interactionAt(noon)}, noon)
	assert.Equal(t, minuteGap(noon).From.Unix(), r.needed().Unix())
	r.overloaded(noon)
	assert.Equal(t, minuteGap(noon).From.Add(-maxNotificationDelay).Unix(), r.needed().Unix())
	r.openExpired(t.Context(), noon)
	r, _ = newTestUndelivered(t, store)
	assert.Equal(t, minuteGap(noon).From.Add(-maxNotificationDelay).Unix(), r.needed().Unix(), "also after a restart")
	r.openExpired(t.Context(), noon.Add(2*retryDeadline))
	assert.Zero(t, r.needed(), "the gap store knows now")
}

func TestUndelivered_ChecksOverloadsHourly(t *testing.T) {
	t.Parallel()
	r, opened := newTestUndelivered(t, newStore(t))
	for n := range 10 * 60 { // ten hours of it
		now := noon.Add(time.Duration(n) * time.Minute)
		r.overloaded(now)
		earlier := len(opened.gaps)
		r.openExpired(t.Context(), now)
		if len(opened.gaps) > earlier && earlier > 0 {
			assert.GreaterOrEqual(t, len(opened.gaps)-earlier, 59)
		}
	}
	assert.NotEmpty(t, opened.gaps)
	assert.Less(t, len(r.overloads.minutes), 7*60)
}

func TestUndelivered_KeepsMinutesBeyondLimit(t *testing.T) {
	t.Parallel()
	r, opened := newTestUndelivered(t, newStore(t))
	many := make([]interaction.Received, maxUndelivered+1)
	for i := range many {
		many[i] = interactionAt(noon.Add(time.Duration(i) * time.Nanosecond))
		many[i].SessionID = strconv.Itoa(i)
	}
	r.track(many, noon)
	r.delivered(many)
	r.openExpired(t.Context(), noon.Add(retryDeadline))
	assert.Equal(t, []backfill.Gap{minuteGap(noon)}, opened.gaps, "it is unknown whether the one beyond the limit was delivered")
}

func TestUndelivered_ReplacesDamagedState(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{"not JSON": "{", "null": "null", "another form": `{"29434344": "2026-11-24T12:00:00Z"}`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := newStore(t)
			require.NoError(t, store.Set(t.Context(), undeliveredKey, []byte(value)))
			core, lines := observer.New(zap.WarnLevel)
			r := newUndelivered(store, zap.New(core), retryDeadline, &fakeGaps{})
			r.load(t.Context())
			assert.Equal(t, 1, lines.Len())
			r.track([]interaction.Received{interactionAt(noon)}, noon)
			r.openExpired(t.Context(), noon)
			assert.Contains(t, string(storedValue(t, store, undeliveredKey)), "29")
		})
	}
}

// fakeOutput is a pipeline that refuses everything until it is healthy.
type fakeOutput struct {
	mu       sync.Mutex // guards what follows
	healthy  bool
	got      map[string]int
	complete chan struct{}
	want     int
}

func (p *fakeOutput) Deliver(_ context.Context, received []interaction.Received) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.healthy {
		return errors.New("the queue is full")
	}
	for i := range received {
		p.got[received[i].ID]++
	}
	if len(p.got) == p.want {
		close(p.complete)
	}
	return nil
}

func TestUndelivered_BackfillsAfterRetryDeadline(t *testing.T) {
	t.Parallel()
	const (
		tenant, client, secret = "6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10", "1a2b3c4d-5e6f-4a0b-8c1d-2e3f4a5b6c7d", "secret"
		userID                 = "b2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f00"
		n                      = 20
		timeout                = 20 * time.Second
	)
	emulator := graphtest.New(graphtest.Settings{TenantID: tenant, ClientID: client, ClientSecret: secret})
	base, err := emulator.Start("")
	require.NoError(t, err)
	t.Cleanup(emulator.Close)

	out := &fakeOutput{got: map[string]int{}, want: n, complete: make(chan struct{})}
	in, err := dedupe.New(dedupe.Settings{Next: out, MaxOpen: 100, Window: time.Hour, MaxEntries: 1000})
	require.NoError(t, err)
	backfiller := backfill.New(backfill.Settings{
		TenantID: tenant, MaxGap: time.Hour, Users: []string{userID}, RequestsPerSecond: 25, Concurrency: 1,
		Graph: graph.New(graph.Settings{Endpoint: base, Tokens: graph.NewTokens(graph.CredentialSettings{
			TokenURL: graph.TokenURL(base, tenant), ClientID: client, Scope: graph.DefaultScope(base), Secret: secret,
		})}),
		Intake: in, Store: newStore(t), Logger: zap.NewNop(),
	})
	tracker := newUndelivered(newStore(t), zap.NewNop(), 4*time.Hour, backfiller)
	webhook := &trackedIntake{deduplicator: in, undelivered: tracker, silence: &silenceDetector{}}

	var offered []interaction.Received
	now := time.Now()
	for i := range n {
		at := now.Add(-time.Duration(i) * time.Minute)
		r := interactionAt(at)
		r.SessionID, r.TenantID, r.Change = strconv.Itoa(i), tenant, interaction.Created
		offered = append(offered, r)
		require.NoError(t, emulator.AddHistory(graphtest.Interaction{UserID: userID, JSON: []byte(`{"id": "` + r.ID + `", "sessionId": "` + r.SessionID + `"}`)}))
	}
	require.Error(t, webhook.Take(t.Context(), offered), "Graph is asked to retry")
	out.mu.Lock()
	out.healthy = true
	out.mu.Unlock()
	require.NoError(t, webhook.Take(t.Context(), offered[:5]), "some of it is retried in time")

	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	var running sync.WaitGroup
	running.Go(func() { backfiller.Run(ctx) })
	tracker.openExpired(ctx, now.Add(5*time.Hour))
	select {
	case <-out.complete:
	case <-ctx.Done():
		require.FailNow(t, "not everything was found")
	}
	cancel()
	running.Wait()
	for id, count := range out.got {
		assert.Equal(t, 1, count, id)
	}
}
