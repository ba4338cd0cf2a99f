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

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

func newStore(t *testing.T) storage.Client {
	t.Helper()
	return storagetest.NewInMemoryClient(component.KindReceiver, component.MustNewID("m365_copilot"), "")
}

// fakeGaps is a book that keeps what is opened, and whose writing may fail.
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
		// mark is the age of the last run's mark, 0 for none.
		mark     time.Duration
		lookback time.Duration
		happens  events
		want     func(now time.Time) []backfill.Gap
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
			mark:     time.Minute,
			lookback: 24 * time.Hour,
			happens:  func(c *gapTracker, now time.Time) { c.Checked(now) },
			want:     func(time.Time) []backfill.Gap { return nil },
		},
		"a restart within five minutes of the last good check leaves none": {
			mark:    5 * time.Minute,
			happens: func(c *gapTracker, now time.Time) { c.Checked(now) },
			want:    func(time.Time) []backfill.Gap { return nil },
		},
		"a restart after more than five minutes leaves one from 65 minutes before the mark": {
			mark: 6 * time.Minute,
			happens: func(c *gapTracker, now time.Time) {
				c.Checked(now.Add(time.Minute))
				c.Checked(now.Add(2 * time.Minute))
			},
			want: func(now time.Time) []backfill.Gap {
				return []backfill.Gap{{Reason: backfill.Startup, From: now.Add(-71 * time.Minute), To: now.Add(6 * time.Minute)}}
			},
		},
		"a restart that finds the subscription gone leaves one however young the mark is": {
			mark: time.Minute,
			happens: func(c *gapTracker, now time.Time) {
				c.Interrupted(tenantWide, subscription.ReasonAbsent, time.Time{})
				c.Restored(tenantWide, now.Add(10*time.Minute))
			},
			want: func(now time.Time) []backfill.Gap {
				return []backfill.Gap{{Reason: backfill.Startup, From: now.Add(-66 * time.Minute), To: now.Add(15 * time.Minute)}}
			},
		},
		"a lost subscription leaves one from the last good check": {
			mark: time.Minute,
			happens: func(c *gapTracker, now time.Time) {
				c.Checked(now)
				c.Interrupted(tenantWide, subscription.ReasonLost, now)
				c.Restored(tenantWide, now.Add(time.Minute))
			},
			want: func(now time.Time) []backfill.Gap {
				return []backfill.Gap{{Reason: backfill.Subscription, From: now.Add(-65 * time.Minute), To: now.Add(6 * time.Minute)}}
			},
		},
		"nothing is opened while the subscription is still away": {
			mark: time.Minute,
			happens: func(c *gapTracker, now time.Time) {
				c.Checked(now)
				c.Interrupted(tenantWide, subscription.ReasonExpired, now)
			},
			want: func(time.Time) []backfill.Gap { return nil },
		},
		"a subscription for a key that is not at hand leaves the time for which Graph sends again": {
			mark: time.Minute,
			happens: func(c *gapTracker, now time.Time) {
				c.Interrupted(tenantWide, subscription.ReasonRemovedKey, time.Time{})
				c.Restored(tenantWide, now)
			},
			want: func(now time.Time) []backfill.Gap {
				return []backfill.Gap{{Reason: backfill.RemovedKey, From: now.Add(-5 * time.Hour), To: now.Add(5 * time.Minute)}}
			},
		},
		"a key that was taken out of the configuration leaves the same": {
			mark:    time.Minute,
			happens: func(c *gapTracker, now time.Time) { c.removedKey(context.Background(), now); c.Checked(now) },
			want: func(now time.Time) []backfill.Gap {
				return []backfill.Gap{{Reason: backfill.RemovedKey, From: now.Add(-5 * time.Hour), To: now.Add(5 * time.Minute)}}
			},
		},
		"a mark of the future is doubted": {
			mark:    -time.Hour,
			happens: func(c *gapTracker, now time.Time) { c.Checked(now) },
			want: func(now time.Time) []backfill.Gap {
				return []backfill.Gap{{Reason: backfill.Startup, From: now.Add(-testFallbackLookback), To: now.Add(5 * time.Minute)}}
			},
		},
		"good checks a quarter of an hour apart leave none": {
			mark:    time.Minute,
			happens: func(c *gapTracker, now time.Time) { c.Checked(now); c.Checked(now.Add(testStaleAfter)) },
			want:    func(time.Time) []backfill.Gap { return nil },
		},
		"good checks further apart leave one, since nobody knows what happened between": {
			mark: time.Minute,
			happens: func(c *gapTracker, now time.Time) {
				c.Checked(now)
				c.Checked(now.Add(3 * time.Hour))
				c.Checked(now.Add(3*time.Hour + time.Minute))
			},
			want: func(now time.Time) []backfill.Gap {
				return []backfill.Gap{{Reason: backfill.Subscription, From: now.Add(-65 * time.Minute), To: now.Add(3*time.Hour + 5*time.Minute)}}
			},
		},
		"a subscription that expired in such a pause leaves no second reading": {
			mark: time.Minute,
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
		"what the keeper of the last keys left open the next good check settles": {
			mark: time.Minute,
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
				if test.mark != 0 {
					require.NoError(t, store.Set(t.Context(), checkpointKey, []byte(strconv.FormatInt(now.Add(-test.mark).Unix(), 10))))
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
