package receiver

import (
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

	"github.com/otelcopilot/m365copilotreceiver/internal/history"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

func newStore(t *testing.T) storage.Client {
	t.Helper()
	return storagetest.NewInMemoryClient(component.KindReceiver, component.MustNewID("m365_copilot"), "")
}

const tenantWide = "copilot/interactionHistory/getAllEnterpriseInteractions"

func TestWhichGapsAnInterruptionLeaves(t *testing.T) {
	t.Parallel()
	type events func(c *continuity, now time.Time)
	for name, test := range map[string]struct {
		// mark is the age of the last run's mark, 0 for none.
		mark     time.Duration
		lookback time.Duration
		happens  events
		want     func(now time.Time) []history.Gap
	}{
		"a very first start leaves none": {
			happens: func(c *continuity, now time.Time) {
				c.Interrupted(tenantWide, subscription.ReasonAbsent, time.Time{})
				c.Restored(tenantWide, now)
				c.Checked(now)
			},
			want: func(time.Time) []history.Gap { return nil },
		},
		"a very first start imports what is asked for": {
			lookback: 24 * time.Hour,
			happens: func(c *continuity, now time.Time) {
				c.Interrupted(tenantWide, subscription.ReasonAbsent, time.Time{})
				c.Restored(tenantWide, now.Add(time.Second))
			},
			want: func(now time.Time) []history.Gap {
				return []history.Gap{{Reason: history.Lookback, From: now.Add(-24 * time.Hour), To: now.Add(5*time.Minute + time.Second)}}
			},
		},
		"a later start imports nothing more": {
			mark:     time.Minute,
			lookback: 24 * time.Hour,
			happens:  func(c *continuity, now time.Time) { c.Checked(now) },
			want:     func(time.Time) []history.Gap { return nil },
		},
		"a restart within five minutes of the last good check leaves none": {
			mark:    5 * time.Minute,
			happens: func(c *continuity, now time.Time) { c.Checked(now) },
			want:    func(time.Time) []history.Gap { return nil },
		},
		"a restart after more than five minutes leaves one from 65 minutes before the mark": {
			mark:    6 * time.Minute,
			happens: func(c *continuity, now time.Time) { c.Checked(now.Add(time.Minute)); c.Checked(now.Add(time.Hour)) },
			want: func(now time.Time) []history.Gap {
				return []history.Gap{{Reason: history.Startup, From: now.Add(-71 * time.Minute), To: now.Add(6 * time.Minute)}}
			},
		},
		"a restart that finds the subscription gone leaves one however young the mark is": {
			mark: time.Minute,
			happens: func(c *continuity, now time.Time) {
				c.Interrupted(tenantWide, subscription.ReasonAbsent, time.Time{})
				c.Restored(tenantWide, now.Add(10*time.Minute))
			},
			want: func(now time.Time) []history.Gap {
				return []history.Gap{{Reason: history.Startup, From: now.Add(-66 * time.Minute), To: now.Add(15 * time.Minute)}}
			},
		},
		"a lost subscription leaves one from the last good check": {
			mark: time.Minute,
			happens: func(c *continuity, now time.Time) {
				c.Checked(now)
				c.Interrupted(tenantWide, subscription.ReasonLost, now)
				c.Restored(tenantWide, now.Add(time.Minute))
			},
			want: func(now time.Time) []history.Gap {
				return []history.Gap{{Reason: history.Subscription, From: now.Add(-65 * time.Minute), To: now.Add(6 * time.Minute)}}
			},
		},
		"nothing is opened while the subscription is still away": {
			mark: time.Minute,
			happens: func(c *continuity, now time.Time) {
				c.Checked(now)
				c.Interrupted(tenantWide, subscription.ReasonExpired, now)
			},
			want: func(time.Time) []history.Gap { return nil },
		},
		"a subscription for a key that is not at hand leaves the time for which Graph sends again": {
			mark: time.Minute,
			happens: func(c *continuity, now time.Time) {
				c.Interrupted(tenantWide, subscription.ReasonRemovedKey, time.Time{})
				c.Restored(tenantWide, now)
			},
			want: func(now time.Time) []history.Gap {
				return []history.Gap{{Reason: history.RemovedKey, From: now.Add(-5 * time.Hour), To: now.Add(5 * time.Minute)}}
			},
		},
		"a key that was taken out of the configuration leaves the same": {
			mark:    time.Minute,
			happens: func(c *continuity, now time.Time) { c.removedKey(now); c.Checked(now) },
			want: func(now time.Time) []history.Gap {
				return []history.Gap{{Reason: history.RemovedKey, From: now.Add(-5 * time.Hour), To: now.Add(5 * time.Minute)}}
			},
		},
		"a mark of the future is doubted": {
			mark:    -time.Hour,
			happens: func(c *continuity, now time.Time) { c.Checked(now) },
			want: func(now time.Time) []history.Gap {
				return []history.Gap{{Reason: history.Startup, From: now.Add(-65 * time.Minute), To: now.Add(5 * time.Minute)}}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				now, store := time.Now(), newStore(t)
				if test.mark != 0 {
					require.NoError(t, store.Set(t.Context(), markKey, []byte(strconv.FormatInt(now.Add(-test.mark).Unix(), 10))))
				}
				var got []history.Gap
				c := newContinuity(store, zap.NewNop(), test.lookback, func(gaps ...history.Gap) { got = append(got, gaps...) })
				c.load(t.Context(), now)
				test.happens(c, now)
				assert.Equal(t, test.want(now), got)
			})
		})
	}
}

func TestTheMarkIsTheLastGoodCheck(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	open := func(...history.Gap) {}
	first := newContinuity(store, zap.NewNop(), 0, open)
	at := time.Unix(1_764_599_405, 0)
	first.load(t.Context(), at)
	first.end(t.Context(), at, true)
	require.Nil(t, kept(t, store, markKey), "no check, no mark")
	first.Checked(at)
	assert.Equal(t, "1764599405", string(kept(t, store, markKey)))
	first.end(t.Context(), at.Add(time.Minute), false)
	assert.Equal(t, "1764599405", string(kept(t, store, markKey)), "the subscription did not live at the end")
	first.end(t.Context(), at.Add(time.Minute), true)
	assert.Equal(t, "1764599465", string(kept(t, store, markKey)))
	first.Interrupted(tenantWide, subscription.ReasonLost, at)
	first.end(t.Context(), at.Add(time.Hour), true)
	assert.Equal(t, "1764599465", string(kept(t, store, markKey)), "an interruption is not over with the end")
}

func kept(t *testing.T, store storage.Client, key string) []byte {
	t.Helper()
	value, err := store.Get(t.Context(), key)
	require.NoError(t, err)
	return value
}

func TestADamagedMarkIsReportedAndReplaced(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	require.NoError(t, store.Set(t.Context(), markKey, []byte("yesterday")))
	core, lines := observer.New(zap.WarnLevel)
	c := newContinuity(store, zap.New(core), 0, func(...history.Gap) {})
	c.load(t.Context(), time.Now())
	assert.Equal(t, 1, lines.Len())
	c.Checked(time.Unix(60, 0))
	assert.Equal(t, "60", string(kept(t, store, markKey)))
}

func TestOwnSubscriptionsAreKnownToTheNextRun(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	core, lines := observer.New(zap.WarnLevel)
	c := newContinuity(store, zap.New(core), 0, func(...history.Gap) {})
	assert.Empty(t, c.known(t.Context()))
	c.Known([]subscription.Known{{ID: "a", CertificateID: "b"}})
	assert.Equal(t, []subscription.Known{{ID: "a", CertificateID: "b"}}, c.known(t.Context()))
	require.NoError(t, store.Set(t.Context(), knownKey, []byte("[")))
	assert.Empty(t, c.known(t.Context()))
	assert.Equal(t, 1, lines.Len(), "a damaged list is reported")
	c = newContinuity(broken{store}, zap.New(core), 0, func(...history.Gap) {})
	c.Known(nil)
	c.Checked(time.Now())
	assert.Equal(t, 3, lines.Len(), "a storage that fails is reported")
}

func TestTheMarkWaitsUntilAnOpenedGapIsWrittenDown(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	at := time.Unix(1_764_599_400, 0)
	require.NoError(t, store.Set(t.Context(), markKey, []byte("1764590000")))
	c := newContinuity(store, zap.NewNop(), 0, func(...history.Gap) {})
	c.load(t.Context(), at)
	c.Checked(at)
	assert.Equal(t, "1764590000", string(kept(t, store, markKey)), "a crash now would leave nothing else of the gap")
	c.Checked(at.Add(time.Minute))
	assert.Equal(t, "1764599460", string(kept(t, store, markKey)))
}

func TestTheMarkStaysWhileOneSubscriptionIsDownAndInTheCheckThatRestoredIt(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	at := time.Unix(1_764_599_400, 0)
	c := newContinuity(store, zap.NewNop(), 0, func(...history.Gap) {})
	c.Checked(at)
	c.Interrupted("one of two users", subscription.ReasonLost, at)
	c.Checked(at.Add(time.Hour))
	assert.Equal(t, "1764599400", string(kept(t, store, markKey)), "a restart now has to read that user's hour")
	c.Restored("one of two users", at.Add(2*time.Hour))
	c.Checked(at.Add(2 * time.Hour))
	assert.Equal(t, "1764599400", string(kept(t, store, markKey)), "the gap may not be written down yet")
	c.Checked(at.Add(3 * time.Hour))
	assert.Equal(t, "1764610200", string(kept(t, store, markKey)))
}
