// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/extension/xextension/storage"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

// newTestObserver returns the observer of the subscriptions of a receiver that knows of an earlier run.
func newTestObserver(t *testing.T, change ...func(*setup)) (subscriptionGaps, *components) {
	t.Helper()
	_, c := newTestReceiver(t, change...)
	observer := subscriptionGaps{c.gaps}
	observer.Checked()
	return observer, c
}

func parsedUser(t *testing.T, id string) gap.User {
	t.Helper()
	user, ok := gap.ParseUser(id)
	require.True(t, ok)
	return user
}

func TestSubscriptionGaps_OpensGapOfItsReasonAndScope(t *testing.T) {
	t.Parallel()
	ofUser := gap.Scope{Users: []gap.User{parsedUser(t, userID)}}
	for name, test := range map[string]struct {
		resource string
		reason   subscription.Reason
		want     gap.Reason
		scope    gap.Scope
	}{
		"of all users":                       {tenantWide, subscription.ReasonExpired, gap.Subscription, gap.Scope{}},
		"of the user in the path":            {ofOneUser, subscription.ReasonExpired, gap.Subscription, ofUser},
		"of a removed key":                   {tenantWide, subscription.ReasonRemovedKey, gap.RemovedKey, gap.Scope{}},
		"of a user's subscription and a key": {ofOneUser, subscription.ReasonRemovedKey, gap.RemovedKey, ofUser},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			observer, c := newTestObserver(t)
			since := time.Now()
			observer.Interrupted(test.resource, test.reason, since)
			open := missing(c)
			require.Len(t, open, 1)
			assert.Equal(t, test.want, open[0].Reason())
			assert.Equal(t, test.scope, open[0].Scope)
			assert.True(t, open[0].From.Before(since))
			assert.True(t, open[0].To.IsZero(), "it lasts until the resource has a subscription again")

			observer.Restored("another resource")
			assert.True(t, missing(c)[0].To.IsZero())
			observer.Restored(test.resource)
			assert.False(t, missing(c)[0].To.IsZero())
		})
	}
}

// Where nothing is known of an earlier run but that it left a subscription, what Graph may have retried in vain is missing.
func TestSubscriptionGaps_OpensGapOfAdoptedSubscription(t *testing.T) {
	t.Parallel()
	_, c := newTestReceiver(t)
	observer := subscriptionGaps{c.gaps}
	observer.Adopted()
	observer.Checked()
	assert.Equal(t, []gap.Reason{gap.Startup}, missingReasons(c))
}

// After a crash, nothing else would show that the subscription was interrupted.
func TestSubscriptionGaps_StoresInterruptionBeforeItReturns(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	observer, _ := newTestObserver(t, stored(store))
	observer.Interrupted(ofOneUser, subscription.ReasonExpired, time.Now())
	_, afterCrash := newTestReceiver(t, stored(store))
	require.Len(t, missing(afterCrash), 1)
	assert.Equal(t, []gap.User{parsedUser(t, userID)}, missing(afterCrash)[0].Scope.Users)
}

// The manager must go on to create the subscription.
func TestSubscriptionGaps_WaitsASecondForHangingStorage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, hangs := newStore(t), make(chan struct{})
		observer, c := newTestObserver(t, stored(store))
		store.fail = func(*storage.Operation) error {
			<-hangs
			return nil
		}
		begun := time.Now()
		observer.Interrupted(tenantWide, subscription.ReasonExpired, time.Now())
		assert.Equal(t, time.Second, time.Since(begun))
		close(hangs)
		require.NoError(t, c.gaps.Flush(t.Context()))
		assert.Equal(t, []gap.Reason{gap.Subscription}, missingReasons(c))
		_, afterCrash := newTestReceiver(t, stored(store))
		assert.Equal(t, []gap.Reason{gap.Subscription}, missingReasons(afterCrash), "it is stored later")
	})
}

// An item that another call delivered is not tracked any more once Graph retries it.
func TestPipeline_KnownResolvesRedelivered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, c := newTestReceiver(t)
		one := interactionAt(time.Now())
		assert.False(t, r.pipeline.Known(one.ContentDigest), "it is still to be delivered")
		require.NoError(t, r.pipeline.Take(t.Context(), list(one)))
		c.undelivered.Track(one.ContentDigest, one.ID, time.Now())
		assert.True(t, r.pipeline.Known(one.ContentDigest))
		time.Sleep(retriesEnd)
		c.undelivered.Save(t.Context())
		assert.Empty(t, missing(c))
	})
}

func TestCache_CountsWhatNotificationsBroughtOfUsers(t *testing.T) {
	t.Parallel()
	r, c := newTestReceiver(t)
	r.SendLogs(&consumertest.LogsSink{})
	const other = "00000000-5d31-4f0c-8e62-7a1b3c5d9f00"
	now := time.Now().Truncate(time.Second)
	of := func(user string, at time.Time) interaction.Received {
		one := interactionAt(at)
		one.UserID, one.UserSource, one.SessionID = user, interaction.UserFromPrompt, user
		return one
	}
	require.NoError(t, r.pipeline.Take(t.Context(), list(of(userID, now), of(userID, now.Add(time.Second)), of(other, now), of(userID, now.Add(time.Hour)))))
	_, err := r.pipeline.Backfill(t.Context(), list(inHistory(of(userID, now.Add(2*time.Second)))), gap.Startup)
	require.NoError(t, err)

	mine, theirs := parsedUser(t, userID), parsedUser(t, other)
	assert.Equal(t, 2, c.cache.Notified(now, now.Add(time.Minute), []gap.User{mine}), "what the history brought does not count")
	assert.Equal(t, 3, c.cache.Notified(now, now.Add(time.Minute), []gap.User{theirs, mine}))
	assert.Zero(t, c.cache.Notified(now, now.Add(time.Minute), nil))
}
