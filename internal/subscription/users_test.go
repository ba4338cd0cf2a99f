package subscription_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

const idOfB = "0bbbbbbb-0000-4000-8000-00000000000b"

func users(resources ...string) func(*subscription.Settings) {
	return func(s *subscription.Settings) { s.Resources = resources }
}

// manyUsers returns the resources of so many users.
func manyUsers(n int) []string {
	var resources []string
	for i := range n {
		resources = append(resources, fmt.Sprintf("copilot/users/u%04d/interactionHistory/getAllEnterpriseInteractions", i))
	}
	return resources
}

func unlicensed(c call) error {
	if c.op == "create" && c.id == userB {
		return &graph.Error{
			Operation: "create subscription", Status: http.StatusForbidden, Code: "Forbidden",
			Message: "User '" + strings.ToUpper(idOfB) + "' does not have a valid Copilot license.", RequestID: "r-7",
		}
	}
	return nil
}

func TestOneUnlicensedUserDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{fail: unlicensed}, users(userB, userA))
		assert.Equal(t, []string{"s1"}, b.graph.living())
		b.pass(10 * 24 * time.Hour)
		assert.Equal(t, []string{"s1"}, b.graph.living())
		assert.InDelta(t, 10*24/(71.0*2/3), b.graph.count("renew"), 1)
		assert.LessOrEqual(t, b.graph.count("create"), 10*24*60*60/150+10)
		require.NotEmpty(t, b.checked)
		assert.WithinDuration(t, time.Now(), b.checked[len(b.checked)-1], 5*time.Minute, "what lives is still confirmed")
		_, ok := b.keeper.TimeLeft(time.Now())
		assert.False(t, ok, "one has never lived")

		require.Len(t, b.statuses, 1)
		assertHourlyFailures(t, b, 10*24*time.Hour)
		line := b.lines("subscription fails, will be tried again")[0].ContextMap()
		assert.Equal(t, []any{"users[0]"}, line["for"])
		assert.Equal(t, "r-7", line["request_id"])
		for _, entry := range b.logs.All() {
			assert.NotContains(t, strings.ToLower(fmt.Sprint(entry.Message, entry.ContextMap())), idOfB)
		}
		assert.NotContains(t, strings.ToLower(b.statuses[0].Error()), idOfB, "a user id is personal data")
		require.ErrorContains(t, b.statuses[0], "users[0]")

		b.graph.failing(nil)
		b.pass(5 * time.Minute)
		assert.Len(t, b.graph.living(), 2)
		require.Len(t, b.statuses, 2)
		assert.NoError(t, b.statuses[1])
	})
}

func TestFailuresOfOneCodeAndDifferentMendsAreDistinct(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		full := func(c call) error {
			if c.op == "create" && c.id == userA {
				return &graph.Error{Operation: "create subscription", Status: http.StatusForbidden, Code: "Forbidden", Message: "Subscription Limit of '10' reached."}
			}
			return unlicensed(c)
		}
		b := begin(t, &fakeGraph{fail: full}, users(userB, userA))
		b.pass(time.Hour)
		lines := b.lines("subscription fails, will be tried again")
		require.Len(t, lines, 2)
		assert.NotEqual(t, lines[0].ContextMap()["hint"], lines[1].ContextMap()["hint"])
	})
}

func TestOneListForManyUsers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{}, users(manyUsers(100)...))
		b.pass(time.Hour - time.Second)
		assert.Len(t, b.graph.living(), 100)
		assert.Equal(t, 12, b.graph.count("list"))
		b.pass(47 * time.Hour)
		assert.Equal(t, 100, b.graph.count("renew"))
	})
}

// slow is a Graph whose creations take long, as each waits for a handshake.
type slow struct {
	*fakeGraph
	takes time.Duration
}

func (s slow) CreateSubscription(ctx context.Context, wanted graph.Subscription) (graph.Subscription, error) {
	time.Sleep(s.takes)
	return s.fakeGraph.CreateSubscription(ctx, wanted)
}

func TestSlowCreationsDoNotDelayWhatIsUrgent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		b := begin(t, g, users(manyUsers(200)...), func(s *subscription.Settings) { s.Graph = slow{g, 10 * time.Second} })
		b.pass(time.Minute)
		b.wake(subscription.ReauthorizationRequired, "s1")
		asked := time.Now()
		b.pass(time.Minute)
		require.Equal(t, 1, g.count("renew"))
		assert.WithinDuration(t, asked, g.callsOf("renew")[0].at, 45*time.Second)
		b.pass(time.Hour)
		assert.Len(t, g.living(), 200)
		assert.Less(t, g.count("list"), 100)
	})
}

func TestABrokenGraphIsNotAskedForEveryUser(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{fail: func(c call) error {
			if c.op == "create" {
				return refusal(http.StatusInternalServerError, "InternalServerError", 0)
			}
			return nil
		}}, users(manyUsers(200)...))
		assert.Equal(t, 3, b.graph.count("create"))
		b.pass(24 * time.Hour)
		assert.Less(t, b.graph.count(), 5*(24*60*60/150+20))
		assertHourlyFailures(t, b, 24*time.Hour)
		assert.Len(t, b.statuses, 1)
		b.graph.failing(nil)
		b.pass(10 * time.Minute)
		assert.Len(t, b.graph.living(), 200)
		assert.Len(t, b.lines("subscription failure is over"), 1)
	})
}

func TestManyRefusedUsersStayWithinTheLimitOfLists(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, &fakeGraph{fail: func(c call) error {
			if c.op == "create" {
				return refusal(http.StatusForbidden, "Forbidden", 0)
			}
			return nil
		}}, users(manyUsers(300)...))
		b.pass(20 * time.Minute)
		lists := b.graph.callsOf("list")
		assert.Greater(t, len(lists), 100, "their waits differ")
		for i := range lists[25:] {
			assert.GreaterOrEqual(t, lists[25+i].at.Sub(lists[i].at), 20*time.Second, "Graph allows 25 in 20 s")
		}
	})
}

func TestAUserWhoMeetsTheSameFailureLaterIsNamedThen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		resources := manyUsers(30)
		b := begin(t, &fakeGraph{fail: func(c call) error {
			if c.op == "create" && c.id != resources[29] {
				return refusal(http.StatusForbidden, "Forbidden", 0)
			}
			return nil
		}}, users(resources...))
		b.graph.failing(func(c call) error {
			if c.op == "create" {
				return refusal(http.StatusForbidden, "Forbidden", 0)
			}
			return nil
		})
		b.graph.drop("s1")
		b.wake(subscription.SubscriptionRemoved, "s1")
		b.pass(10 * time.Second)
		lines := b.lines("subscription fails, will be tried again")
		require.Len(t, lines, 2)
		assert.Len(t, lines[0].ContextMap()["for"], 10)
		assert.EqualValues(t, 29, lines[0].ContextMap()["count"])
		assert.Equal(t, []any{"users[29]"}, lines[1].ContextMap()["for"])
		assert.Len(t, b.statuses, 1, "the health is as bad as before")
	})
}

func TestUsersNoLongerWantedLoseTheirSubscription(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{fail: func(c call) error {
			if c.op == "delete" {
				return refusal(http.StatusBadGateway, "", 0)
			}
			return nil
		}}
		g.put(existing("b", 50*time.Hour, func(s *graph.Subscription) { s.Resource = userB }))
		g.put(existing("f", 50*time.Hour, foreign, func(s *graph.Subscription) { s.Resource = "/users" }))
		b := begin(t, g, users(userA, "/"+userA))
		requireOps(t, b, "list", "create", "delete")
		require.Len(t, b.statuses, 1)
		g.failing(nil)
		b.pass(5 * time.Second)
		assert.ElementsMatch(t, []string{"f", "s1"}, g.living())
		assert.Len(t, b.lines("surplus subscription deleted"), 1)
		require.Len(t, b.statuses, 2)
		assert.NoError(t, b.statuses[1])
	})
}

func TestTimeLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{fail: unlicensed}
		b := begin(t, g, users(userA, userB))
		_, ok := b.keeper.TimeLeft(time.Now())
		assert.False(t, ok, "not while one has never lived")
		g.failing(nil)
		b.pass(5 * time.Second)
		left, ok := b.keeper.TimeLeft(b.start.Add(5 * time.Second))
		assert.True(t, ok)
		assert.Equal(t, 71*time.Hour-5*time.Second, left, "the shortest counts")
		left, _ = b.keeper.TimeLeft(b.start.Add(1000 * time.Hour))
		assert.Zero(t, left, "never below zero")

		g.failing(func(c call) error {
			if c.op == "create" {
				return refusal(http.StatusForbidden, "", 0)
			}
			return nil
		})
		g.drop("s1")
		b.wake(subscription.SubscriptionRemoved, "s1")
		left, ok = b.keeper.TimeLeft(time.Now())
		assert.True(t, ok)
		assert.Zero(t, left, "one that was lost has no time left")
	})
}

func TestAResourceWithoutASubscriptionIsInterruptedAlsoWhileTheOldOneCanNotBeRemoved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGraph{}
		misfit := existing("old", 70*time.Hour, func(s *graph.Subscription) { s.Resource, s.EncryptionCertificateID = userB, "gone" })
		g.subs = append(g.subs, misfit)
		g.failing(func(c call) error {
			if c.op == "delete" {
				return refusal(http.StatusForbidden, "Forbidden", 0)
			}
			return nil
		})
		b := begin(t, g, func(s *subscription.Settings) { s.Resources = []string{userA, userB} })
		b.pass(time.Hour)
		assert.Contains(t, b.interruptions, interruption{userB, subscription.ReasonRemovedKey, time.Time{}})
		assert.Len(t, b.restored, 1, "that of the other user")
		assert.Len(t, b.interruptions, 2, "and it is said once")
	})
}
