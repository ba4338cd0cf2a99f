package subscription_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

func TestCreatesWhatIsMissing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{})
		requireOps(t, b, "list", "create")
		got := b.graph.callsOf("create")[0].got
		assert.Equal(t, tenantWide, got.Resource)
		assert.Equal(t, ourURL, got.NotificationURL)
		assert.Equal(t, ourURL, got.LifecycleNotificationURL)
		assert.Equal(t, []string{"created", "updated", "deleted"}, got.ChangeTypes)
		assert.Equal(t, secret+tenantWide, got.ClientState)
		assert.Equal(t, "new", got.EncryptionCertificateID)
		assert.Equal(t, []byte("der"), got.EncryptionCertificate)
		assert.True(t, b.start.Add(71*time.Hour).Equal(got.Expiration), "%s", got.Expiration)

		assert.Equal(t, []interruption{{tenantWide, subscription.ReasonAbsent, time.Time{}}}, b.interruptions)
		assert.Equal(t, []time.Time{b.start}, b.restored)
		assert.Equal(t, []time.Time{b.start}, b.checked)
		assert.Equal(t, []subscription.Known{{ID: "s1", CertificateID: "new"}}, b.known)
		assert.Equal(t, map[bool]int{true: 1}, b.created)
		assert.Empty(t, b.statuses, "health did not change")

		require.Equal(t, 1, b.logs.Len())
		line := b.lines("subscription created")[0].ContextMap()
		assert.Equal(t, "s1", line["id"])
		assert.Equal(t, "copilot.example.com", line["host"])
		assert.Contains(t, line, "expiration")

		b.pass(time.Hour)
		assert.Equal(t, 13, b.graph.count("list"), "one look each check interval")
		assert.Len(t, b.checked, 13)
		assert.Equal(t, 1, b.graph.count("create"))
	})
}

func TestAdoptsWithoutTouchingAfterARestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		first := begin(t, g)
		first.stop()
		g.unsaid = true
		time.Sleep(time.Hour)
		second := begin(t, g, func(s *subscription.Settings) { s.Known = first.known })
		second.pass(30 * time.Minute)
		assert.Equal(t, 1, g.count("create"))
		assert.Zero(t, g.count("delete", "renew"))
		require.Len(t, second.lines("subscription adopted"), 1)
		assert.Empty(t, second.interruptions)
		assert.Equal(t, second.start, second.checked[0])
		left, ok := second.keeper.TimeLeft(time.Now())
		assert.True(t, ok)
		assert.Equal(t, 71*time.Hour-90*time.Minute, left)
	})
}

func TestRenewsAtTwoThirdsOfTheGrantedLifetime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{}, func(s *subscription.Settings) { s.CheckInterval = time.Hour })
		b.pass(30*24*time.Hour + time.Minute)
		patches := b.graph.callsOf("renew")
		assert.Len(t, patches, 15, "30 days hold 15 times two thirds of 71 h")
		assert.Equal(t, b.start.Add(71*time.Hour*2/3), patches[0].at)
		assert.Equal(t, 1, b.graph.count("create"))
		assert.Equal(t, 15, b.renewals[true])
		assert.Len(t, b.lines("subscription renewed"), 15)
		assert.Len(t, b.interruptions, 1, "only the one before the first creation")
	})
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{granted: 45 * time.Minute})
		b.pass(31 * time.Minute)
		assert.Equal(t, []float64{1800}, seconds(b.graph.callsOf("renew"), b.start), "granted counts, not what was asked for")
	})
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		g.put(existing("x", 24*time.Hour))
		b := begin(t, g)
		b.pass(time.Hour)
		assert.Equal(t, []float64{(24*time.Hour - 71*time.Hour/3).Seconds()}, seconds(b.graph.callsOf("renew"), b.start),
			"an adopted one is taken to have had the configured lifetime")
	})
}

func TestFailingRenewalsGoOnUntilTheEndAndThenItIsRecreated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{})
		b.graph.failing(func(c call) error {
			if c.op == "renew" {
				return refusal(http.StatusInternalServerError, "InternalServerError", 0)
			}
			return nil
		})
		b.pass(71*time.Hour - time.Second)
		assert.Equal(t, 1, b.graph.count("create"))
		assert.Greater(t, b.graph.count("renew"), 200)
		left, ok := b.keeper.TimeLeft(time.Now())
		assert.True(t, ok)
		assert.Equal(t, time.Second, left)
		b.pass(2 * time.Second)
		assert.Equal(t, []string{"s2"}, b.graph.living())
		assert.Equal(t, []subscription.Reason{subscription.ReasonExpired}, b.recreated)
		lost := b.interruptions[1]
		assert.Equal(t, subscription.ReasonExpired, lost.reason)
		assert.WithinDuration(t, b.start.Add(71*time.Hour), lost.since, 5*time.Minute, "since the last good check")
		assertHourlyFailures(t, b, 71*time.Hour/3)
		assert.Len(t, b.lines("subscription failure is over"), 1)
	})
}

func TestAnExpiredOneIsRecreatedTheMomentItEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{granted: 67*time.Minute + 7*time.Second}, func(s *subscription.Settings) { s.CheckInterval = 100 * time.Hour })
		b.graph.failing(func(c call) error {
			if c.op == "renew" {
				return refusal(http.StatusForbidden, "Forbidden", 0)
			}
			return nil
		})
		b.pass(70 * time.Minute)
		assert.Equal(t, []float64{0, 67*60 + 7}, seconds(b.graph.callsOf("create"), b.start))
	})
}

func TestRecreatesWhatIsGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{})
		b.pass(12 * time.Minute)
		b.graph.drop("s1")
		b.pass(3*time.Minute - time.Second)
		assert.Empty(t, b.graph.living())
		b.pass(time.Second)
		assert.Equal(t, []string{"s2"}, b.graph.living(), "the next look finds it")
		assert.Equal(t, interruption{tenantWide, subscription.ReasonLost, b.start.Add(10 * time.Minute)}, b.interruptions[1])
		assert.Equal(t, b.start.Add(15*time.Minute), b.restored[1])
		assert.Equal(t, []subscription.Known{{ID: "s2", CertificateID: "new"}}, b.known)
		require.Len(t, b.lines("subscription recreated"), 1)
		assert.Equal(t, "lost", b.lines("subscription recreated")[0].ContextMap()["reason"])
	})
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{}, func(s *subscription.Settings) { s.CheckInterval = 100 * time.Hour })
		b.pass(time.Hour)
		b.graph.drop("s1")
		b.pass(47 * time.Hour)
		requireOps(t, b, "list", "create", "renew", "list", "create")
		assert.Equal(t, b.graph.callsOf("renew")[0].at, b.graph.callsOf("create")[1].at, "404 on PATCH recreates at once")
		assert.Equal(t, []subscription.Reason{subscription.ReasonLost}, b.recreated)
	})
}

func TestBelievesItsOwnCreationRatherThanALaggingList(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{lag: 50 * time.Second})
		b.pass(20 * time.Second)
		b.wake(subscription.Missed, "s1")
		b.pass(time.Hour)
		assert.Equal(t, 1, b.graph.count("create"))
		assert.Empty(t, b.statuses)

		b.wake(subscription.ReauthorizationRequired, "s1")
		b.pass(20 * time.Second)
		b.wake(subscription.Missed, "s1")
		left, _ := b.keeper.TimeLeft(time.Now())
		assert.Equal(t, 71*time.Hour-20*time.Second, left, "nor does it believe an old expiration")
	})
}

func TestReplacesAfterARotation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		g.put(existing("x", 50*time.Hour, func(s *graph.Subscription) { s.EncryptionCertificateID = "old" }))
		g.fail = func(c call) error {
			if c.op == "delete" {
				return refusal(http.StatusInternalServerError, "InternalServerError", 0)
			}
			return nil
		}
		b := begin(t, g)
		left, ok := b.keeper.TimeLeft(time.Now())
		assert.True(t, ok, "the old one serves meanwhile")
		assert.Equal(t, 50*time.Hour, left)
		assert.Empty(t, b.interruptions)
		g.failing(nil)
		b.pass(3 * time.Second)
		requireOps(t, b, "list", "delete", "list", "delete", "create")
		assert.Equal(t, []string{"s1"}, g.living())
		require.Len(t, b.interruptions, 1)
		assert.Equal(t, subscription.ReasonReplaced, b.interruptions[0].reason)
		assert.False(t, b.interruptions[0].since.IsZero())
		assert.Equal(t, []subscription.Reason{subscription.ReasonReplaced}, b.recreated)
	})
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		g.put(existing("x", 50*time.Hour, func(s *graph.Subscription) { s.EncryptionCertificateID = "lost" }))
		g.fail = func(c call) error {
			if c.op == "create" && len(g.calls) < 4 {
				return refusal(http.StatusBadGateway, "", 0)
			}
			return nil
		}
		b := begin(t, g)
		b.pass(3 * time.Second)
		requireOps(t, b, "list", "delete", "create", "list", "create")
		assert.Equal(t, []interruption{{tenantWide, subscription.ReasonRemovedKey, time.Time{}}}, b.interruptions)
		assert.Equal(t, []subscription.Reason{subscription.ReasonRemovedKey}, b.recreated)
	})
}

func TestDoesNotReplaceItsOwnForEverWhereGraphWritesItInAnotherWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{rewrite: func(s *graph.Subscription) {
			s.ChangeTypes, s.NotificationURL = []string{"created"}, s.NotificationURL+"/"
		}}
		b := begin(t, g)
		b.pass(200 * time.Hour)
		assert.Equal(t, 1, g.count("create"))
		assert.Zero(t, g.count("delete"))

		g.mu.Lock()
		g.subs[0].NotificationURL = theirURL
		g.mu.Unlock()
		b.pass(5 * time.Minute)
		assert.Equal(t, []string{"s2"}, g.living(), "but a change by others is undone")
	})
}
