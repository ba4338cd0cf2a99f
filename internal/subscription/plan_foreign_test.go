package subscription

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

func TestPlan_RespectsConflictingSubscription(t *testing.T) {
	t.Parallel()
	may := facts{mayReplace: map[string]bool{canonical(tenantWide): true}}
	conflicting := listed("f", tenantWide, sendingTo(theirURL))
	runPlan(t, []planCase{
		{
			name: "another notification URL at our resource is in the way",
			have: []graph.Subscription{conflicting}, expect: []decision{{verb: blocked, conflicting: []string{"f"}}},
		},
		{
			name:   "other change types are in the way too since the quota is 1",
			have:   []graph.Subscription{listed("f", tenantWide, sendingTo(theirURL), changes("deleted"))},
			expect: []decision{{verb: blocked, conflicting: []string{"f"}}},
		},
		{
			name:   "another filter is in the way too since the quota is 1",
			have:   []graph.Subscription{listed("f", "/"+tenantWide+"?$filter=appClass eq 'x'", sendingTo(theirURL))},
			expect: []decision{{verb: blocked, conflicting: []string{"f"}}},
		},
		{
			name: "a certificate id like ours does not make it ours",
			have: []graph.Subscription{listed("f", tenantWide, sendingTo(theirURL+"&x=1"))}, expect: []decision{{verb: blocked, conflicting: []string{"f"}}},
		},
		{
			name: "another path at our host is foreign",
			have: []graph.Subscription{listed("f", tenantWide, sendingTo(ourURL+"/"))}, expect: []decision{{verb: blocked, conflicting: []string{"f"}}},
		},
		{
			name:   "nothing of ours is deleted while a foreign one would keep its successor out",
			have:   []graph.Subscription{conflicting, listed("s1", tenantWide, certificate("old"))},
			expect: []decision{{verb: blocked, conflicting: []string{"f"}}},
		},
		{
			name: "it is replaced where that is allowed", facts: may,
			have: []graph.Subscription{conflicting}, expect: []decision{{verb: replace, conflicting: []string{"f"}, reason: ReasonConflict}},
		},
		{
			name: "allowed or not, other resources of strangers are left alone", facts: may,
			have:   []graph.Subscription{conflicting, listed("g", userB, sendingTo(theirURL)), listed("h", "users", sendingTo(theirURL))},
			expect: []decision{{verb: replace, conflicting: []string{"f"}, reason: ReasonConflict}},
		},
		{
			name:   "one user's foreign one does not keep the other user out",
			wanted: wantedOf(userA, userB), have: []graph.Subscription{listed("f", userA, sendingTo(theirURL))},
			expect: []decision{{verb: blocked, conflicting: []string{"f"}}, {verb: create}},
		},
	})
}

func TestPlan_DefersReplacementOfAnotherReceiversKey(t *testing.T) {
	t.Parallel()
	other := listed("b3", tenantWide, certificate("other"))
	seen := func(count int, ago time.Duration) facts {
		return facts{keyConflicts: map[string]keyConflict{path(tenantWide): {count: count, latest: other, firstSeen: planNow.Add(-ago)}}}
	}
	with := func(f facts, change func(*facts)) facts { change(&f); return f }
	replaced := []decision{{verb: replace, deleted: []string{"b3"}, reason: ReasonRemovedKey}}
	waits := []decision{{verb: wait}}
	runPlan(t, []planCase{
		{name: "the first may be a leftover and is replaced", facts: seen(1, 0), have: []graph.Subscription{other}, expect: replaced},
		{name: "the second is replaced too", facts: seen(2, 0), have: []graph.Subscription{other}, expect: replaced},
		{name: "the third is left alone", facts: seen(3, 0), have: []graph.Subscription{other}, expect: waits},
		{name: "and so is any later one", facts: seen(100, 59*time.Minute), have: []graph.Subscription{other}, expect: waits},
		{name: "an hour later it is replaced", facts: seen(3, time.Hour), have: []graph.Subscription{other}, expect: replaced},
		{name: "as soon as it is gone the place is taken", facts: seen(3, 0), expect: []decision{{verb: create}}},
		{
			name: "one of a key that is held is adopted whatever there was before", facts: seen(3, 0),
			have: []graph.Subscription{listed("s1", tenantWide)}, expect: []decision{{verb: adopt, have: "s1"}},
		},
		{
			name: "one of our own whose key was removed is replaced whatever there was before", have: []graph.Subscription{other},
			facts:  with(seen(3, 0), func(f *facts) { f.known = map[string]string{"b3": "other"} }),
			expect: replaced,
		},
		{
			name: "beside one that fits it is left alone", facts: seen(3, 0),
			have: []graph.Subscription{other, listed("s1", tenantWide)}, expect: []decision{{verb: adopt, have: "s1"}},
		},
		{
			name: "where nothing is wanted it is left alone", facts: seen(3, 0), wanted: wantedOf(userA),
			have: []graph.Subscription{other}, expect: []decision{{verb: create}},
		},
		{
			name: "a conflict about one user is none about the other", wanted: wantedOf(userA, userB),
			facts: facts{keyConflicts: map[string]keyConflict{path(userA): {count: 3, firstSeen: planNow}}},
			have:  []graph.Subscription{listed("a", userA, certificate("other")), listed("b", userB, certificate("other"))},
			expect: []decision{
				{verb: wait},
				{verb: replace, deleted: []string{"b"}, reason: ReasonRemovedKey},
			},
		},
	})
}

func TestKeyConflict_CountsNewSubscriptions(t *testing.T) {
	t.Parallel()
	one, two := listed("b1", tenantWide), listed("b2", tenantWide)
	at := func(minutes int) time.Time { return planNow.Add(time.Duration(minutes) * time.Minute) }

	c := keyConflict{}.observe(one, false, at(0))
	assert.False(t, c.confirmed(), "it may be a leftover")
	c = c.observe(one, true, at(1))
	assert.False(t, c.confirmed(), "the same one again proves nothing")
	c = c.observe(two, true, at(2))
	assert.True(t, c.confirmed(), "somebody made another")
	assert.False(t, c.deferred(at(2)))
	c = c.observe(one, true, at(3)).observe(one, true, at(50))
	assert.True(t, c.deferred(at(62)))
	assert.False(t, c.deferred(at(63)), "an hour after it was first seen")
	assert.Equal(t, at(50), c.lastSeen)

	assert.True(t, keyConflict{}.observe(one, true, at(0)).confirmed(), "what took the place of our own is no leftover")
}
