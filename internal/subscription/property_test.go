package subscription

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// randomInput returns a list, what is known about it and what is wanted, at random.
func randomInput(r *rand.Rand) (wanted, have []graph.Subscription, f facts) {
	f = facts{
		held: map[string]bool{"new": true, "old": true}, known: map[string]string{}, inUse: map[string]bool{},
		gone: map[string]bool{}, mayReplace: map[string]bool{},
		keyConflicts: map[string]keyConflict{
			path(pick(r, tenantWide, userA, userB)): {count: r.IntN(5), firstSeen: planNow.Add(-pick(r, 0, 2*time.Hour))},
		},
	}
	wanted = pick(r, wantedOf(tenantWide), wantedOf(userA), wantedOf(userA, userB))
	for i := range r.IntN(6) {
		h := listed(strconv.Itoa(i), pick(r, tenantWide, "/"+tenantWide, tenantWide+"?$filter=x eq 'y'", userA, userB, "users"),
			sendingTo(pick(r, ourURL, theirURL, ourURL+"/", "http://copilot.example.com/graph/notifications", "%", "")),
			certificate(pick(r, "new", "old", "lost", "")),
			changes(pick(r, []string{"created", "updated"}, []string{"deleted"}, nil)...),
			endingIn(pick(r, -time.Hour, time.Hour, 70*time.Hour)))
		have = append(have, h)
		for _, set := range []func(){
			func() { f.known[h.ID] = pick(r, "", "new", "old") },
			func() { f.inUse[h.ID] = true },
			func() { f.gone[h.ID] = true },
		} {
			if r.IntN(4) == 0 {
				set()
			}
		}
	}
	return wanted, have, f
}

func TestPlan_NeverDeletesUnownedSubscription(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		wanted, have, f := randomInput(r)
		if r.IntN(2) == 0 {
			f.mayReplace[canonical(pick(r, wanted...).Resource)] = true
		}
		for _, a := range plan(wanted, have, f, planNow) {
			for _, s := range a.surplus {
				_, known := f.known[s.ID]
				require.True(t, known || s.NotificationURL == ourURL, "deletes %+v of %+v", s, have)
				leftAlone := f.keyConflicts[path(s.Resource)].deferred(planNow)
				require.True(t, known || f.gone[s.ID] || f.held[s.EncryptionCertificateID] || !leftAlone, "deletes %+v", s)
			}
			if a.verb == replace && len(a.conflicting) > 0 {
				require.True(t, f.mayReplace[canonical(a.want.Resource)])
				for _, s := range a.conflicting {
					require.Equal(t, path(a.want.Resource), path(s.Resource), "takes only the place it needs")
				}
			}
		}
	}
}

func TestPlan_NeverDeletesSubscriptionInUse(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	for range 10_000 {
		wanted, have, f := randomInput(r)
		actions := plan(wanted, have, f, planNow)
		require.GreaterOrEqual(t, len(actions), len(wanted))
		var deleted []string
		for i, a := range actions {
			require.Equal(t, i >= len(wanted), a.verb == remove)
			deleted = append(deleted, idsOf(a.surplus)...)
		}
		for _, a := range actions[:len(wanted)] {
			if a.verb == keep || a.verb == adopt {
				require.NotContains(t, deleted, a.have.ID)
				require.True(t, f.fits(a.have, a.want))
			}
		}
		slices.Sort(deleted)
		require.Len(t, slices.Compact(slices.Clone(deleted)), len(deleted), "nothing is deleted twice")
	}
}

func TestPlan_IsStableAfterItsActions(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	for range 5_000 {
		wanted, have, f := randomInput(r)
		for i, a := range plan(wanted, have, f, planNow) {
			for _, gone := range append(idsOf(a.surplus), idsOf(a.conflicting)...) {
				if a.verb != blocked {
					have = slices.DeleteFunc(have, func(s graph.Subscription) bool { return s.ID == gone })
				}
			}
			switch a.verb {
			case create, replace:
				made := a.want
				made.ID, made.Expiration = "made"+strconv.Itoa(i), planNow.Add(71*time.Hour)
				have = append(have, made)
				f.inUse[made.ID] = true
			case adopt:
				f.inUse[a.have.ID] = true
			}
		}
		for _, a := range plan(wanted, have, f, planNow) {
			require.Contains(t, []verb{keep, blocked, wait}, a.verb, "%+v", have)
		}
	}
}

func TestBackoff_StaysWithinBounds(t *testing.T) {
	t.Parallel()
	for failures := range 1000 {
		wait := backoff(failures)
		assert.GreaterOrEqual(t, wait, time.Second)
		assert.LessOrEqual(t, wait, 5*time.Minute)
	}
	assert.GreaterOrEqual(t, backoff(20), 150*time.Second)
}

func TestInbox_IsBounded(t *testing.T) {
	t.Parallel()
	i := newInbox()
	for n := range maxPending + 100 {
		i.put(Event{SubscriptionID: strconv.Itoa(n), Kind: Missed})
	}
	i.put(Event{SubscriptionID: "1", Kind: SubscriptionRemoved})
	pending := i.drain()
	assert.Len(t, pending, maxPending)
	assert.Equal(t, pendingEvents{removed: true, missed: true}, pending["1"], "one that is in it takes more in")
	assert.Empty(t, i.drain())
}

func TestManager_PrunesUnlistedSubscriptions(t *testing.T) {
	t.Parallel()
	m := New(Settings{Known: []Known{{ID: "a"}, {ID: "b"}}})
	m.gone["b"], m.gone["c"] = true, true
	m.prune([]graph.Subscription{{ID: "a"}})
	assert.Equal(t, map[string]string{"a": ""}, m.known)
	assert.Empty(t, m.gone)
	assert.True(t, m.knownChanged)
}

func TestHostOf_ReturnsHostOnly(t *testing.T) {
	t.Parallel()
	for target, host := range map[string]string{
		"https://a.example.com:8443/x?code=1":                                  "a.example.com:8443",
		"https://user:pw@a.example.com/x":                                      "a.example.com",
		"EventHub:https://ns.servicebus.windows.net/eventhubname/h?tenantId=t": "ns.servicebus.windows.net",
		"EventGrid:?x=1": "unknown",
		"%":              "unknown",
		"":               "unknown",
	} {
		assert.Equal(t, host, hostOf(target), target)
	}
}
