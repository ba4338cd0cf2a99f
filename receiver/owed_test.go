package receiver

import (
	"context"
	"strconv"
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

func TestGapTracker_PendingGapsSurviveKill(t *testing.T) {
	t.Parallel()
	for name, happens := range map[string]func(c *gapTracker, gaps *fakeGaps, now time.Time){
		"a key that was taken out of the configuration": func(c *gapTracker, _ *fakeGaps, now time.Time) {
			c.removedKey(context.Background(), now)
		},
		"what Graph says it missed": func(c *gapTracker, _ *fakeGaps, now time.Time) {
			c.Checked(now)
			c.Interrupted(tenantWide, subscription.ReasonMissed, now)
		},
		"a subscription that is restored while the book can't be written": func(c *gapTracker, gaps *fakeGaps, now time.Time) {
			c.Checked(now)
			gaps.failFlush = true
			c.Interrupted(tenantWide, subscription.ReasonLost, now)
			c.Restored(tenantWide, now)
			c.Interrupted("another", subscription.ReasonLost, now)
			c.Checked(now)
		},
		"what nobody watches any more": func(c *gapTracker, _ *fakeGaps, now time.Time) {
			c.Checked(now)
			c.Interrupted(tenantWide, subscription.ReasonMissed, now)
			c.unwatched()
			c.saveCheckpoint(context.Background(), now, true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, now := newStore(t), time.Unix(1_764_599_400, 0)
			require.NoError(t, store.Set(t.Context(), checkpointKey, []byte("1764599400")))
			gaps := &fakeGaps{}
			c := newGapTracker(store, zap.NewNop(), gaps)
			c.load(t.Context(), now)
			happens(c, gaps, now)

			gaps = &fakeGaps{}
			c = newGapTracker(store, zap.NewNop(), gaps)
			c.load(t.Context(), now)
			assert.Empty(t, gaps.gaps, "its end is when a subscription lives")
			c.Checked(now.Add(time.Second))
			assert.NotEmpty(t, gaps.gaps)

			gaps = &fakeGaps{}
			c = newGapTracker(store, zap.NewNop(), gaps)
			c.load(t.Context(), now)
			c.Checked(now.Add(2 * time.Second))
			assert.Empty(t, gaps.gaps, "once it is written down it is owed no more")
		})
	}
}

func TestGapTracker_RestartsDoNotAccumulatePendingGaps(t *testing.T) {
	t.Parallel()
	store, gaps, now := newStore(t), &fakeGaps{}, time.Unix(1_764_599_400, 0)
	require.NoError(t, store.Set(t.Context(), checkpointKey, []byte("1764590000")))
	for i := range 10 {
		c := newGapTracker(store, zap.NewNop(), gaps)
		c.load(t.Context(), now.Add(time.Duration(i)*time.Hour))
		c.removedKey(t.Context(), now.Add(time.Duration(i)*time.Hour))
	}
	pending, err := stateRecords{store}.pendingGaps(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []pendingGap{
		{Reason: backfill.RemovedKey, From: now.Add(-graphRetryWindow)}, {Reason: backfill.Startup, From: time.Unix(1_764_590_000, 0).Add(-maxNotificationDelay)},
	}, pending)
}

func TestGapTracker_RetriesFailingStorageBeforeWriting(t *testing.T) {
	t.Parallel()
	store, gaps := newStore(t), &fakeGaps{}
	at := time.Unix(1_764_599_400, 0)
	first := newGapTracker(store, zap.NewNop(), gaps)
	first.load(t.Context(), at)
	first.Checked(at)
	first.removedKey(t.Context(), at)

	core, lines := observer.New(zap.WarnLevel)
	c := newGapTracker(failingStore{store}, zap.New(core), gaps)
	ended, end := context.WithCancel(t.Context())
	end()
	c.load(ended, at.Add(time.Hour))
	assert.Zero(t, lines.Len(), "a stop in the middle of it is no failure")
	c.load(t.Context(), at.Add(time.Hour))
	c.Interrupted(tenantWide, subscription.ReasonAbsent, time.Time{})
	c.Restored(tenantWide, at.Add(time.Hour))
	c.Checked(at.Add(time.Hour))
	c.saveCheckpoint(t.Context(), at.Add(time.Hour), true)
	assert.Equal(t, 1, lines.Len())
	require.Len(t, gaps.gaps, 1, "what was missed is guessed until then")

	c.state.store = store
	c.Checked(at.Add(61 * time.Minute))
	assert.Equal(t, backfill.RemovedKey, gaps.gaps[1].Reason)
	assert.Equal(t, normalize([]backfill.Gap{{Reason: backfill.Startup, From: at.Add(-65 * time.Minute), To: at.Add(66 * time.Minute)}}), gaps.gaps[2:])
	assert.Equal(t, strconv.FormatInt(at.Add(61*time.Minute).Unix(), 10), string(storedValue(t, store, checkpointKey)))
}

func TestGapTracker_LogsWriteFailureOnce(t *testing.T) {
	t.Parallel()
	store := &failingKeyStore{Client: newStore(t)}
	core, lines := observer.New(zap.WarnLevel)
	c := newGapTracker(store, zap.New(core), &fakeGaps{})
	c.load(t.Context(), noon)
	for _, key := range []string{pendingGapsKey, checkpointKey} {
		earlier := lines.Len()
		store.failKey = key
		for range 5 {
			c.removedKey(t.Context(), noon)
			c.Checked(noon)
		}
		assert.Equal(t, earlier+1, lines.Len(), key)
	}
}

// countingStore counts what is written.
type countingStore struct {
	storage.Client
	writes, bytes int
}

func (c *countingStore) Set(ctx context.Context, key string, value []byte) error {
	c.writes++
	c.bytes += len(value)
	return c.Client.Set(ctx, key, value)
}

func TestGapTracker_LimitsWritesForManyResources(t *testing.T) {
	t.Parallel()
	const users = 5000
	store, gaps, now := &countingStore{Client: newStore(t)}, &fakeGaps{}, time.Unix(1_764_599_400, 0)
	resources := make([]string, users)
	for i := range resources {
		resources[i] = "copilot/users/" + strconv.Itoa(i) + "/interactionHistory/getAllEnterpriseInteractions"
	}
	begin := func(at time.Time) *gapTracker {
		c := newGapTracker(store, zap.NewNop(), gaps)
		c.resources = resources
		c.load(t.Context(), at)
		return c
	}
	c := begin(now)
	c.Checked(now)
	for _, r := range resources {
		c.Interrupted(r, subscription.ReasonExpired, now)
	}
	for _, r := range resources[:users/2] {
		c.Restored(r, now.Add(time.Minute))
	}
	assert.Less(t, store.writes, 4*maxStoredResources)
	assert.Less(t, store.bytes, 4*maxStoredResources*maxStoredResources*200)

	gaps.gaps = nil
	c = begin(now.Add(2 * time.Minute)) // after a kill
	c.Checked(now.Add(2 * time.Minute))
	assert.Equal(t, normalize([]backfill.Gap{{Reason: backfill.Subscription, From: now.Add(-maxNotificationDelay), To: now.Add(7 * time.Minute)}}), gaps.gaps)
}
