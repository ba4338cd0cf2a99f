package receiver

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/extension/storage/storagetest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

func newStore(t *testing.T) storage.Client {
	t.Helper()
	return storagetest.NewInMemoryClient(component.KindReceiver, component.MustNewID("m365_copilot"), "")
}

// fakeGaps is a gapStore that records opened gaps, and whose Flush can fail.
type fakeGaps struct {
	gaps      []backfill.Gap
	failFlush bool
	// flushed is how many gaps were there at the last flush.
	flushed int
}

func (s *fakeGaps) Open(gaps ...backfill.Gap) { s.gaps = append(s.gaps, normalize(gaps)...) }

// normalize gives gaps times that can be compared.
func normalize(gaps []backfill.Gap) []backfill.Gap {
	same := slices.Clone(gaps)
	for i := range same {
		same[i].From, same[i].To = same[i].From.UTC().Round(0), same[i].To.UTC().Round(0)
	}
	return same
}

func (s *fakeGaps) Flush(context.Context) error {
	if s.failFlush {
		return errStorage
	}
	s.flushed = len(s.gaps)
	return nil
}

const (
	testFallbackLookback = 26 * time.Hour
	testStaleAfter       = 15 * time.Minute
)

func newGapTracker(store storage.Client, logger *zap.Logger, gaps gapStore) *gapTracker {
	return &gapTracker{
		state: stateRecords{store}, logger: logger, gaps: gaps, resources: []string{tenantWide, "one of two users"},
		fallbackLookback: testFallbackLookback, staleAfter: testStaleAfter, down: map[string]pendingGap{}, watchedResources: map[string]bool{},
	}
}

const tenantWide = "copilot/interactionHistory/getAllEnterpriseInteractions"

func TestGapTracker_OpensGaps(t *testing.T) {
	t.Parallel()
	type events func(c *gapTracker, now time.Time)
	for name, test := range map[string]struct {
		// checkpoint is the age of the last run's checkpoint, 0 for none.
		checkpoint time.Duration
		lookback   time.Duration
		happens    events
		want       func(now time.Time) []backfill.Gap
	}{
		"a very first start leaves none": {
			happens: func(c *gapTracker, now time.Time) {
				c.Interrupted(tenantWide, subscription.ReasonAbsent, time.Time{})
				c.Restored(tenantWide, now)
				c.Checked(now)
			},
			want: func(time.Time) []backfill.Gap { return nil },
		},
		"a very first start imports what is asked for": {
			lookback: 24 * time.Hour,
			happens: func(c *gapTracker, now time.Time) {
				c.Interrupted(tenantWide, subscription.ReasonAbsent, time.Time{})
				c.Restored(tenantWide, now.Add(time.Second))
			},
			want: func(now time.Time) []backfill.Gap {
				return []backfill.Gap{{Reason: backfill.Lookback, From: now.Add(-24 * time.Hour), To: now.Add(5*time.Minute + time.Second)}}
			},
		},
		"a later start imports nothing more": {
			checkpoint: time.Minute,
			lookback:   24 * time.Hour,
			happens:    func(c *gapTracker, now time.Time) { c.Checked(now) },
			want:       func(time.Time) []backfill.Gap { return nil },
		},
		"a restart within five minutes of the last healthy check leaves none": {
			checkpoint: 5 * time.Minute,
			happens:    func(c *gapTracker, now time.Time) { c.Checked(now) },
			want:       func(time.Time) []backfill.Gap { return nil },
		},
		"a restart after more than five minutes leaves one from 65 minutes before the checkpoint": {
			checkpoint: 6 * time.Minute,
			happens: func(c *gapTracker, now time.Time) {
				c.Checked(now.Add(time.Minute))
				c.Checked(now.Add(2 * time.Minute))
			},
			want: func(now time.Time) []backfill.Gap {
				return []backfill.Gap{{Reason: backfill.Startup, From: now.Add(-71 * time.Minute), To: now.Add(6 * time.Minute)}}
			},
		},
		"a restart that finds the subscription gone leaves one even if the checkpoint is recent": {
			checkpoint: time.Minute,
			happens: func(c *gapTracker, now time.Time) {
				c.Interrupted(tenantWide, subscription.ReasonAbsent, time.Time{})
				c.Restored(tenantWide, now.Add(10*time.Minute))
			},
			want: func(now time.Time) []backfill.Gap {
				return []backfill.Gap{{Reason: backfill.Startup, From: now.Add(-66 * time.Minute), To: now.Add(15 * time.Minute)}}
			},
		},
		"a lost subscription leaves one from the last healthy check": {
			checkpoint: time.Minute,
			happens: func(c *gapTracker, now time.Time) {
				c.Checked(now)
				c.Interrupted(tenantWide, subscription.ReasonLost, now)
				c.Restored(tenantWide, now.Add(time.Minute))
			},
			want: func(now time.Time) []backfill.Gap {
				return []backfill.Gap{{Reason: backfill.Subscription, From: now.Add(-65 * time.Minute), To: now.Add(6 * time.Minute)}}
			},
		},
		"nothing is opened while the subscription is still missing": {
			checkpoint: time.Minute,
			happens: func(c *gapTracker, now time.Time) {
				c.Checked(now)
				c.Interrupted(tenantWide, subscription.ReasonExpired, now)
			},
			want: func(time.Time) []backfill.Gap { return nil },
		},
		"a subscription for an unavailable key leaves one of the time for which Graph retries": {
			checkpoint: time.Minute,
			happens: func(c *gapTracker, now time.Time) {
				c.Interrupted(tenantWide, subscription.ReasonRemovedKey, time.Time{})
				c.Restored(tenantWide, now)
			},
			want: func(now time.Time) []backfill.Gap {
				return []backfill.Gap{{Reason: backfill.RemovedKey, From: now.Add(-5 * time.Hour), To: now.Add(5 * time.Minute)}}
			},
		},
		"a key that was removed from the configuration leaves the same": {
			checkpoint: time.Minute,
			happens:    func(c *gapTracker, now time.Time) { c.removedKey(context.Background(), now); c.Checked(now) },
			want: func(now time.Time) []backfill.Gap {
				return []backfill.Gap{{Reason: backfill.RemovedKey, From: now.Add(-5 * time.Hour), To: now.Add(5 * time.Minute)}}
			},
		},
		"a checkpoint in the future is not trusted": {
			checkpoint: -time.Hour,
			happens:    func(c *gapTracker, now time.Time) { c.Checked(now) },
			want: func(now time.Time) []backfill.Gap {
				return []backfill.Gap{{Reason: backfill.Startup, From: now.Add(-testFallbackLookback), To: now.Add(5 * time.Minute)}}
			},
		},
		"healthy checks a quarter of an hour apart leave none": {
			checkpoint: time.Minute,
			happens:    func(c *gapTracker, now time.Time) { c.Checked(now); c.Checked(now.Add(testStaleAfter)) },
			want:       func(time.Time) []backfill.Gap { return nil },
		},
		"healthy checks further apart leave one, since it is unknown what happened in between": {
			checkpoint: time.Minute,
			happens: func(c *gapTracker, now time.Time) {
				c.Checked(now)
				c.Checked(now.Add(3 * time.Hour))
				c.Checked(now.Add(3*time.Hour + time.Minute))
			},
			want: func(now time.Time) []backfill.Gap {
				return []backfill.Gap{{Reason: backfill.Subscription, From: now.Add(-65 * time.Minute), To: now.Add(3*time.Hour + 5*time.Minute)}}
			},
		},
		"a subscription that expired in such a pause leaves no second one": {
			checkpoint: time.Minute,
			happens: func(c *gapTracker, now time.Time) {
				c.Checked(now)
				c.Interrupted(tenantWide, subscription.ReasonExpired, now)
				c.Restored(tenantWide, now.Add(3*time.Hour))
				c.Checked(now.Add(3*time.Hour + time.Second))
			},
			want: func(now time.Time) []backfill.Gap {
				return []backfill.Gap{{Reason: backfill.Subscription, From: now.Add(-65 * time.Minute), To: now.Add(3*time.Hour + 5*time.Minute)}}
			},
		},
		"the next healthy check opens the gap that the manager of the last keys left pending": {
			checkpoint: time.Minute,
			happens: func(c *gapTracker, now time.Time) {
				c.Checked(now)
				c.Interrupted(tenantWide, subscription.ReasonMissed, now)
				c.unwatched()
				c.Checked(now.Add(time.Minute))
			},
			want: func(now time.Time) []backfill.Gap {
				return []backfill.Gap{{Reason: backfill.Subscription, From: now.Add(-65 * time.Minute), To: now.Add(6 * time.Minute)}}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				now, store := time.Now(), newStore(t)
				if test.checkpoint != 0 {
					require.NoError(t, store.Set(t.Context(), checkpointKey, []byte(strconv.FormatInt(now.Add(-test.checkpoint).Unix(), 10))))
				}
				got := &fakeGaps{}
				c := newGapTracker(store, zap.NewNop(), got)
				c.lookback = test.lookback
				c.load(t.Context(), now)
				test.happens(c, now)
				assert.Equal(t, normalize(test.want(now)), got.gaps)
				assert.Equal(t, len(got.gaps), got.flushed)
			})
		})
	}
}

func TestGapTracker_ExplainsOpenedGaps(t *testing.T) {
	t.Parallel()
	var from, to time.Time
	c := newGapTracker(newStore(t), zap.NewNop(), &fakeGaps{})
	c.explain = func(f, u time.Time) { from, to = f, u }
	c.load(t.Context(), noon)
	c.Checked(noon)
	assert.Zero(t, to, "nothing is read")
	c.removedKey(t.Context(), noon)
	c.Interrupted(tenantWide, subscription.ReasonLost, noon)
	c.Restored(tenantWide, noon.Add(time.Minute))
	assert.Equal(t, noon.Add(-graphRetryWindow), from)
	assert.Equal(t, noon.Add(6*time.Minute), to)
}

func TestGapTracker_CheckpointIsLastHealthyCheck(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	first := newGapTracker(store, zap.NewNop(), &fakeGaps{})
	at := time.Unix(1_764_599_405, 0)
	first.load(t.Context(), at)
	first.saveCheckpoint(t.Context(), at, true)
	require.Nil(t, storedValue(t, store, checkpointKey), "without a check there is no checkpoint")
	first.Checked(at)
	assert.Equal(t, "1764599405", string(storedValue(t, store, checkpointKey)))
	first.saveCheckpoint(t.Context(), at.Add(time.Minute), false)
	assert.Equal(t, "1764599405", string(storedValue(t, store, checkpointKey)), "the subscription was not active at shutdown")
	first.saveCheckpoint(t.Context(), at.Add(time.Minute), true)
	assert.Equal(t, "1764599465", string(storedValue(t, store, checkpointKey)))
	first.Interrupted(tenantWide, subscription.ReasonLost, at)
	first.saveCheckpoint(t.Context(), at.Add(time.Hour), true)
	assert.Equal(t, "1764599465", string(storedValue(t, store, checkpointKey)), "an interruption does not end with the shutdown")
}

func storedValue(t *testing.T, store storage.Client, key string) []byte {
	t.Helper()
	value, err := store.Get(t.Context(), key)
	require.NoError(t, err)
	return value
}

func TestGapTracker_ReplacesDamagedState(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]string{"the checkpoint": checkpointKey, "the pending gaps": pendingGapsKey} {
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

// After a crash only the checkpoint would show a gap that is not stored.
func TestGapTracker_CheckpointWaitsForStoredGap(t *testing.T) {
	t.Parallel()
	store, gaps := newStore(t), &fakeGaps{failFlush: true}
	at := time.Unix(1_764_599_400, 0)
	require.NoError(t, store.Set(t.Context(), checkpointKey, []byte("1764590000")))
	c := newGapTracker(store, zap.NewNop(), gaps)
	c.load(t.Context(), at)
	c.Checked(at)
	c.saveCheckpoint(t.Context(), at, true)
	assert.Equal(t, "1764590000", string(storedValue(t, store, checkpointKey)), "after a crash now only the checkpoint would show the gap")
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
	assert.Zero(t, c.outage(at.Add(time.Minute)), "interactions of the other user may arrive")

	for range 2 { // starts that find it down again
		c = newGapTracker(store, zap.NewNop(), gaps)
		c.load(t.Context(), at.Add(2*time.Minute))
		c.Interrupted(other, subscription.ReasonAbsent, time.Time{})
		c.Checked(at.Add(2 * time.Minute))
		assert.Empty(t, gaps.gaps, "no history is read for a subscription that is still down")
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

// failingKeyStore is a storage that fails to set one key.
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
		checkpoint string
		down       time.Duration
		want       []backfill.Gap
	}{
		"the checkpoint shows what is missing once the clock is set": {
			"1764599400", 72 * time.Hour,
			[]backfill.Gap{{Reason: backfill.Subscription, From: at.Add(-65 * time.Minute), To: at.Add(72*time.Hour + 5*time.Minute)}},
		},
		"after a short time nothing is missing": {"1764599400", 10 * time.Minute, nil},
		"a damaged checkpoint may have been any": {
			"x", time.Hour,
			[]backfill.Gap{{Reason: backfill.Startup, From: at.Add(time.Hour - testFallbackLookback), To: at.Add(65 * time.Minute)}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, gaps := newStore(t), &fakeGaps{}
			require.NoError(t, store.Set(t.Context(), checkpointKey, []byte(test.checkpoint)))
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

func TestGapTracker_PendingGapsSurviveKill(t *testing.T) {
	t.Parallel()
	for name, happens := range map[string]func(c *gapTracker, gaps *fakeGaps, now time.Time){
		"a key that was removed from the configuration": func(c *gapTracker, _ *fakeGaps, now time.Time) {
			c.removedKey(context.Background(), now)
		},
		"a missed event of Graph": func(c *gapTracker, _ *fakeGaps, now time.Time) {
			c.Checked(now)
			c.Interrupted(tenantWide, subscription.ReasonMissed, now)
		},
		"a subscription that is restored while gaps can't be stored": func(c *gapTracker, gaps *fakeGaps, now time.Time) {
			c.Checked(now)
			gaps.failFlush = true
			c.Interrupted(tenantWide, subscription.ReasonLost, now)
			c.Restored(tenantWide, now)
			c.Interrupted("another", subscription.ReasonLost, now)
			c.Checked(now)
		},
		"an interruption that no manager watches any more": func(c *gapTracker, _ *fakeGaps, now time.Time) {
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
			assert.Empty(t, gaps.gaps, "it ends when a subscription is active")
			c.Checked(now.Add(time.Second))
			assert.NotEmpty(t, gaps.gaps)

			gaps = &fakeGaps{}
			c = newGapTracker(store, zap.NewNop(), gaps)
			c.load(t.Context(), now)
			c.Checked(now.Add(2 * time.Second))
			assert.Empty(t, gaps.gaps, "once it is stored it is not pending any more")
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
	assert.Zero(t, lines.Len(), "a shutdown in the middle of it is not a failure")
	c.load(t.Context(), at.Add(time.Hour))
	c.Interrupted(tenantWide, subscription.ReasonAbsent, time.Time{})
	c.Restored(tenantWide, at.Add(time.Hour))
	c.Checked(at.Add(time.Hour))
	c.saveCheckpoint(t.Context(), at.Add(time.Hour), true)
	assert.Equal(t, 1, lines.Len())
	require.Len(t, gaps.gaps, 1, "until then a gap covers what may be missing")

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

// countingStore counts writes and their bytes.
type countingStore struct {
	storage.Client
	writes, bytes int
}

func (c *countingStore) Set(ctx context.Context, key string, value []byte) error {
	c.writes++
	c.bytes += len(value)
	return c.Client.Set(ctx, key, value)
}

// Thousands of interrupted subscriptions cost few writes, and none of their gaps is lost.
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
