package receiver

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

func TestGapTracker_CheckpointIsLastHealthyCheck(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	first := newGapTracker(store, zap.NewNop(), &fakeGaps{})
	at := time.Unix(1_764_599_405, 0)
	first.load(t.Context(), at)
	first.saveCheckpoint(t.Context(), at, true)
	require.Nil(t, storedValue(t, store, checkpointKey), "no check, no mark")
	first.Checked(at)
	assert.Equal(t, "1764599405", string(storedValue(t, store, checkpointKey)))
	first.saveCheckpoint(t.Context(), at.Add(time.Minute), false)
	assert.Equal(t, "1764599405", string(storedValue(t, store, checkpointKey)), "the subscription did not live at the end")
	first.saveCheckpoint(t.Context(), at.Add(time.Minute), true)
	assert.Equal(t, "1764599465", string(storedValue(t, store, checkpointKey)))
	first.Interrupted(tenantWide, subscription.ReasonLost, at)
	first.saveCheckpoint(t.Context(), at.Add(time.Hour), true)
	assert.Equal(t, "1764599465", string(storedValue(t, store, checkpointKey)), "an interruption is not over with the end")
}

func storedValue(t *testing.T, store storage.Client, key string) []byte {
	t.Helper()
	value, err := store.Get(t.Context(), key)
	require.NoError(t, err)
	return value
}

func TestGapTracker_ReplacesDamagedState(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]string{"the mark": checkpointKey, "what was owed": pendingGapsKey} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, gaps := newStore(t), &fakeGaps{}
			now := time.Unix(1_764_599_400, 0)
			require.NoError(t, store.Set(t.Context(), checkpointKey, []byte("1764599400")))
			require.NoError(t, store.Set(t.Context(), key, []byte("yesterday")))
			core, lines := observer.New(zap.WarnLevel)
			c := newGapTracker(store, zap.New(core), gaps)
			c.lookback = 720 * time.Hour
			c.load(t.Context(), now)
			assert.Equal(t, 1, lines.Len(), "it is reported")
			c.Checked(now)
			assert.Equal(t, normalize([]backfill.Gap{{Reason: backfill.Startup, From: now.Add(-testFallbackLookback), To: now.Add(5 * time.Minute)}}), gaps.gaps,
				"what may be missing is read, and nothing is imported anew")
			assert.Equal(t, "1764599400", string(storedValue(t, store, checkpointKey)), "and it is replaced")
			newGapTracker(store, zap.New(core), gaps).load(t.Context(), now)
			assert.Equal(t, 1, lines.Len())
		})
	}
}

func TestGapTracker_OpensNoGapWithoutSubscription(t *testing.T) {
	t.Parallel()
	gaps := &fakeGaps{}
	c := newGapTracker(newStore(t), zap.NewNop(), gaps)
	c.staleAfter = 0
	c.check(t.Context(), noon)
	c.check(t.Context(), noon.Add(24*time.Hour))
	assert.Empty(t, gaps.gaps, "the next poll begins where the last one ended")
}

func TestGapTracker_StoresOwnSubscriptions(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	core, lines := observer.New(zap.WarnLevel)
	c := newGapTracker(store, zap.New(core), &fakeGaps{})
	assert.Empty(t, c.known(t.Context()))
	c.Known([]subscription.Known{{ID: "a", CertificateID: "b"}})
	assert.Equal(t, []subscription.Known{{ID: "a", CertificateID: "b"}}, c.known(t.Context()))
	require.NoError(t, store.Set(t.Context(), knownKey, []byte("[")))
	assert.Empty(t, c.known(t.Context()))
	assert.Equal(t, 1, lines.Len(), "a damaged list is reported")
	c = newGapTracker(failingStore{store}, zap.New(core), &fakeGaps{})
	c.load(t.Context(), time.Now())
	c.Known(nil)
	for range 10 {
		c.Checked(time.Now())
		c.removedKey(t.Context(), time.Now())
	}
	assert.Equal(t, 3, lines.Len(), "a storage that fails is reported, and not at each check")
}

func TestGapTracker_CheckpointWaitsForStoredGap(t *testing.T) {
	t.Parallel()
	store, gaps := newStore(t), &fakeGaps{failFlush: true}
	at := time.Unix(1_764_599_400, 0)
	require.NoError(t, store.Set(t.Context(), checkpointKey, []byte("1764590000")))
	c := newGapTracker(store, zap.NewNop(), gaps)
	c.load(t.Context(), at)
	c.Checked(at)
	c.saveCheckpoint(t.Context(), at, true)
	assert.Equal(t, "1764590000", string(storedValue(t, store, checkpointKey)), "a crash now would leave nothing else of the gap")
	gaps.failFlush = false
	c.Checked(at.Add(time.Minute))
	assert.Equal(t, "1764599460", string(storedValue(t, store, checkpointKey)))
	assert.Len(t, gaps.gaps, 1, "it is opened once")
}

func TestGapTracker_CheckpointAdvancesWhileResourceIsDown(t *testing.T) {
	t.Parallel()
	const other = "one of two users"
	store, gaps := newStore(t), &fakeGaps{}
	at := time.Unix(1_764_599_400, 0)
	c := newGapTracker(store, zap.NewNop(), gaps)
	c.Checked(at)
	c.Interrupted(other, subscription.ReasonLost, at)
	c.Checked(at.Add(time.Minute))
	assert.Equal(t, "1764599460", string(storedValue(t, store, checkpointKey)))
	reason, since := c.missing(at.Add(time.Minute))
	assert.Equal(t, backfill.Subscription, reason)
	assert.Equal(t, at.Add(-65*time.Minute), since)
	assert.Zero(t, c.outage(at.Add(time.Minute)), "of the other user something may come")

	for range 2 { // starts that find it down again
		c = newGapTracker(store, zap.NewNop(), gaps)
		c.load(t.Context(), at.Add(2*time.Minute))
		c.Interrupted(other, subscription.ReasonAbsent, time.Time{})
		c.Checked(at.Add(2 * time.Minute))
		assert.Empty(t, gaps.gaps, "nobody's history is read for a subscription that is still down")
	}
	c = newGapTracker(store, zap.NewNop(), gaps)
	c.load(t.Context(), at.Add(3*time.Minute))
	c.Checked(at.Add(3 * time.Minute)) // one that finds it alive
	assert.Equal(t, normalize([]backfill.Gap{{Reason: backfill.Subscription, From: at.Add(-65 * time.Minute), To: at.Add(8 * time.Minute)}}), gaps.gaps)
	reason, since = c.missing(at.Add(3 * time.Minute))
	assert.Empty(t, reason)
	assert.Zero(t, since)
}

func TestGapTracker_CheckpointWaitsForStoredInterruption(t *testing.T) {
	t.Parallel()
	store := &failingKeyStore{Client: newStore(t)}
	at := time.Unix(1_764_599_400, 0)
	c := newGapTracker(store, zap.NewNop(), &fakeGaps{})
	c.Checked(at)
	store.failKey = pendingGapsKey
	c.Interrupted(tenantWide, subscription.ReasonLost, at)
	c.Checked(at.Add(time.Minute))
	assert.Equal(t, "1764599400", string(storedValue(t, store, checkpointKey)))
	store.failKey = ""
	c.Checked(at.Add(2 * time.Minute))
	assert.Equal(t, "1764599520", string(storedValue(t, store, checkpointKey)))
}

// failingKeyStore is a storage that does not take one key.
type failingKeyStore struct {
	storage.Client
	failKey string
}

func (u *failingKeyStore) Set(ctx context.Context, key string, value []byte) error {
	if key == u.failKey {
		return errStorage
	}
	return u.Client.Set(ctx, key, value)
}

func TestGapTracker_ShutdownInOutageKeepsCheckpoint(t *testing.T) {
	t.Parallel()
	store, gaps := newStore(t), &fakeGaps{}
	at := time.Unix(1_764_599_400, 0)
	c := newGapTracker(store, zap.NewNop(), gaps)
	c.Checked(at)
	reason, since := c.missing(at.Add(40 * time.Hour))
	assert.Equal(t, backfill.Subscription, reason)
	assert.Equal(t, at.Add(-65*time.Minute), since)
	c.saveCheckpoint(t.Context(), at.Add(40*time.Hour), true)
	c = newGapTracker(store, zap.NewNop(), gaps)
	c.load(t.Context(), at.Add(40*time.Hour))
	c.Checked(at.Add(40 * time.Hour))
	assert.Equal(t, normalize([]backfill.Gap{{Reason: backfill.Startup, From: at.Add(-65 * time.Minute), To: at.Add(40*time.Hour + 5*time.Minute)}}), gaps.gaps)
}

func TestGapTracker_IgnoresUnsetClock(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_764_599_400, 0)
	for name, test := range map[string]struct {
		mark string
		down time.Duration
		want []backfill.Gap
	}{
		"a mark tells what is missing once the clock is set": {
			"1764599400", 72 * time.Hour,
			[]backfill.Gap{{Reason: backfill.Subscription, From: at.Add(-65 * time.Minute), To: at.Add(72*time.Hour + 5*time.Minute)}},
		},
		"where that was a short time nothing is": {"1764599400", 10 * time.Minute, nil},
		"a damaged mark may be any": {
			"x", time.Hour,
			[]backfill.Gap{{Reason: backfill.Startup, From: at.Add(time.Hour - testFallbackLookback), To: at.Add(65 * time.Minute)}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, gaps := newStore(t), &fakeGaps{}
			require.NoError(t, store.Set(t.Context(), checkpointKey, []byte(test.mark)))
			c := newGapTracker(store, zap.NewNop(), gaps)
			c.load(t.Context(), time.Unix(100, 0))
			c.Checked(at.Add(test.down))
			assert.Equal(t, normalize(test.want), gaps.gaps)
		})
	}
}

func TestGapTracker_RestartInOutageKeepsGap(t *testing.T) {
	t.Parallel()
	store, gaps := newStore(t), &fakeGaps{}
	at := time.Unix(1_764_599_400, 0)
	c := newGapTracker(store, zap.NewNop(), gaps)
	c.load(t.Context(), at)
	c.Checked(at) // then the network fails, and a little later the process ends
	c = newGapTracker(store, zap.NewNop(), gaps)
	c.load(t.Context(), at.Add(maxCheckpointAge-time.Minute))
	reason, since := c.missing(at.Add(5 * time.Hour))
	assert.Equal(t, backfill.Subscription, reason)
	assert.Equal(t, at.Add(-65*time.Minute), since)
	c.saveCheckpoint(t.Context(), at.Add(5*time.Hour), true)
	assert.Equal(t, "1764599400", string(storedValue(t, store, checkpointKey)))
	c.Checked(at.Add(6 * time.Hour))
	assert.Equal(t, normalize([]backfill.Gap{{Reason: backfill.Subscription, From: at.Add(-65 * time.Minute), To: at.Add(6*time.Hour + 5*time.Minute)}}), gaps.gaps)
}

func TestGapTracker_RecentSurvivesQuickRestart(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	at := time.Unix(1_764_599_400, 0)
	c := newGapTracker(store, zap.NewNop(), &fakeGaps{})
	c.load(t.Context(), at)
	assert.False(t, c.recent(at), "there was none")
	c.Checked(at)
	assert.True(t, c.recent(at.Add(testStaleAfter)))
	assert.False(t, c.recent(at.Add(testStaleAfter+time.Second)))
	for _, down := range []time.Duration{time.Minute, time.Hour} {
		c = newGapTracker(store, zap.NewNop(), &fakeGaps{})
		c.load(t.Context(), at.Add(down))
		assert.Equal(t, down < maxCheckpointAge, c.recent(at.Add(down)))
	}
}
