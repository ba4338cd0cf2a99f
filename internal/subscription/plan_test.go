// SPDX-License-Identifier: Apache-2.0

package subscription

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

const (
	tenantWide = "copilot/interactionHistory/getAllEnterpriseInteractions"
	userA      = "copilot/users/aaaa/interactionHistory/getAllEnterpriseInteractions"
	userB      = "copilot/users/bbbb/interactionHistory/getAllEnterpriseInteractions"
	ourURL     = "https://copilot.example.com/graph/notifications"
	theirURL   = "https://other.example.com/hook?code=hidden"
)

var planNow = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func wantedOf(resources ...string) []graph.Subscription {
	return New(Settings{
		Resources: resources, ChangeTypes: []string{"created", "updated"}, NotificationURL: ourURL,
		Keys: Keys{CertificateID: "new"},
	}).wanted()
}

// listed returns a subscription of this receiver as the list shows it, changed by the given functions.
func listed(id, resource string, changes ...func(*graph.Subscription)) graph.Subscription {
	s := graph.Subscription{
		ID: id, Resource: resource, ChangeTypes: []string{"updated", "created"}, NotificationURL: ourURL,
		EncryptionCertificateID: "new", Expiration: planNow.Add(50 * time.Hour),
	}
	for _, change := range changes {
		change(&s)
	}
	return s
}

func certificate(id string) func(*graph.Subscription) {
	return func(s *graph.Subscription) { s.EncryptionCertificateID = id }
}

func sendingTo(target string) func(*graph.Subscription) {
	return func(s *graph.Subscription) { s.NotificationURL = target }
}

func changes(types ...string) func(*graph.Subscription) {
	return func(s *graph.Subscription) { s.ChangeTypes = types }
}

func endingIn(d time.Duration) func(*graph.Subscription) {
	return func(s *graph.Subscription) { s.Expiration = planNow.Add(d) }
}

// decision is the short form of an action: the verb, the subscription it keeps, and those it deletes. The verb remove stands
// for the subscriptions that are left over.
type decision struct {
	verb        verb
	have        string
	deleted     []string
	conflicting []string
	reason      Reason
	code        failure.Code // of leave
}

const remove verb = "remove"

func shorten(actions []action, surplus []graph.Subscription) []decision {
	var short []decision
	for _, a := range actions {
		short = append(short, decision{a.verb, a.have.ID, listIDs(a.surplus), listIDs(a.conflicting), a.reason, failure.Of(a.err).Code})
	}
	if len(surplus) > 0 {
		short = append(short, decision{verb: remove, deleted: listIDs(surplus)})
	}
	return short
}

func owned(id, certificateID string) map[string]*ownSubscription {
	return map[string]*ownSubscription{id: {Known: Known{ID: id, CertificateID: certificateID}}}
}

func listIDs(subs []graph.Subscription) []string {
	var ids []string
	for _, s := range subs {
		ids = append(ids, s.ID)
	}
	return ids
}

type planCase struct {
	name   string
	wanted []graph.Subscription // the whole tenant unless set
	have   []graph.Subscription
	facts  facts
	expect []decision
}

func runPlan(t *testing.T, cases []planCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			wanted := c.wanted
			if wanted == nil {
				wanted = wantedOf(tenantWide)
			}
			f := c.facts
			f.held = map[string]bool{"new": true, "old": true}
			assert.Equal(t, c.expect, shorten(plan(wanted, c.have, f, planNow)))
		})
	}
}

func TestPlan_AdoptsMatchingSubscription(t *testing.T) {
	t.Parallel()
	adopts := []decision{{verb: adopt, have: "s1"}}
	runPlan(t, []planCase{
		{name: "one with all wanted properties is adopted", have: []graph.Subscription{listed("s1", tenantWide)}, expect: adopts},
		{
			name: "case and one leading slash of the resource do not matter",
			have: []graph.Subscription{listed("s1", "/Copilot/InteractionHistory/GETALLENTERPRISEINTERACTIONS")}, expect: adopts,
		},
		{
			name: "two leading slashes are another resource",
			have: []graph.Subscription{listed("s1", "//"+tenantWide)}, expect: []decision{{verb: create}, {verb: remove, deleted: []string{"s1"}}},
		},
		{
			name: "change types are a set whatever their order, case and repetition",
			have: []graph.Subscription{listed("s1", tenantWide, changes("Updated", " created", "updated"))}, expect: adopts,
		},
		{
			name: "case and default port of the notification URL do not matter",
			have: []graph.Subscription{listed("s1", tenantWide, sendingTo("HTTPS://Copilot.Example.com:443/graph/notifications"))}, expect: adopts,
		},
		{
			name: "one whose certificate the list omits is adopted if its id is known",
			have: []graph.Subscription{listed("s1", tenantWide, certificate(""))}, facts: facts{owned: owned("s1", "")}, expect: adopts,
		},
		{
			name: "of several that match the first is adopted and none is deleted",
			have: []graph.Subscription{
				listed("s1", tenantWide, endingIn(time.Hour)), listed("s0", tenantWide, endingIn(2*time.Hour)), listed("s2", tenantWide, endingIn(time.Minute)),
			},
			expect: adopts,
		},
		{
			name:  "the one in use is kept even if another expires later",
			have:  []graph.Subscription{listed("s0", tenantWide, endingIn(60*time.Hour)), listed("s1", tenantWide, endingIn(time.Hour))},
			facts: facts{owned: owned("s1", "")}, expect: []decision{{verb: adopt, have: "s1"}},
		},
		{
			name:  "the one in use is kept wherever it is in the list",
			have:  []graph.Subscription{listed("s1", tenantWide, endingIn(time.Hour)), listed("s0", tenantWide, endingIn(60*time.Hour))},
			facts: facts{owned: owned("s1", "")}, expect: []decision{{verb: adopt, have: "s1"}},
		},
		{
			name: "one without an expiration still counts",
			have: []graph.Subscription{listed("s1", tenantWide, func(s *graph.Subscription) { s.Expiration = time.Time{} })}, expect: adopts,
		},
		{
			name:   "a mismatched one of ours beside one that matches is deleted",
			have:   []graph.Subscription{listed("s1", tenantWide), listed("s2", tenantWide, certificate("old"))},
			expect: []decision{{verb: adopt, have: "s1"}, {verb: remove, deleted: []string{"s2"}}},
		},
		{
			name: "a conflicting one beside one that matches is not deleted",
			have: []graph.Subscription{listed("s1", tenantWide), listed("f", tenantWide, sendingTo(theirURL))}, expect: adopts,
		},
	})
}

func TestPlan_ReplacesMismatchedSubscription(t *testing.T) {
	t.Parallel()
	runPlan(t, []planCase{
		{
			name:   "a certificate that is held but not the first is a rotation, and the old one delivers until then",
			have:   []graph.Subscription{listed("s1", tenantWide, certificate("old"))},
			expect: []decision{{verb: replace, have: "s1", deleted: []string{"s1"}, reason: ReasonReplaced}},
		},
		{
			name: "of two that deliver until then the one in use is kept",
			have: []graph.Subscription{
				listed("s1", tenantWide, certificate("old")), listed("s2", tenantWide, certificate("old"), changes("updated", "created")),
			},
			facts:  facts{owned: owned("s1", "")},
			expect: []decision{{verb: replace, have: "s1", deleted: []string{"s1", "s2"}, reason: ReasonReplaced}},
		},
		{
			name: "the certificate of a known id is used if the list omits it",
			have: []graph.Subscription{listed("s1", tenantWide, certificate(""))}, facts: facts{owned: owned("s1", "old")},
			expect: []decision{{verb: replace, have: "s1", deleted: []string{"s1"}, reason: ReasonReplaced}},
		},
		{
			name:   "one with a certificate that is not held is replaced because it cannot be decrypted",
			have:   []graph.Subscription{listed("s1", tenantWide, certificate("lost"))},
			expect: []decision{{verb: replace, deleted: []string{"s1"}, reason: ReasonRemovedKey}},
		},
		{
			name:   "one at our URL with an unknown id and no certificate id is replaced",
			have:   []graph.Subscription{listed("s1", tenantWide, certificate(""))},
			expect: []decision{{verb: replace, deleted: []string{"s1"}, reason: ReasonReplaced}},
		},
		{
			name:   "other change types are replaced",
			have:   []graph.Subscription{listed("s1", tenantWide, changes("created"))},
			expect: []decision{{verb: replace, deleted: []string{"s1"}, reason: ReasonReplaced}},
		},
		{
			name:   "a filter makes another resource in the same slot",
			have:   []graph.Subscription{listed("s1", tenantWide+"?$filter=conversationType ne 'bizchat'")},
			expect: []decision{{verb: replace, deleted: []string{"s1"}, reason: ReasonReplaced}},
		},
		{
			name: "a known id at another notification URL is ours, as after a change of the URL",
			have: []graph.Subscription{listed("s1", tenantWide, sendingTo(theirURL))}, facts: facts{owned: owned("s1", "new")},
			expect: []decision{{verb: replace, deleted: []string{"s1"}, reason: ReasonReplaced}},
		},
		{
			name: "one that Graph reported as deleted is replaced though a list still shows it",
			have: []graph.Subscription{listed("s1", tenantWide)}, facts: facts{owned: map[string]*ownSubscription{"s1": {gone: true}}},
			expect: []decision{{verb: replace, deleted: []string{"s1"}, reason: ReasonLost}},
		},
		{
			name:   "the subscription of a user who is no longer wanted is deleted",
			wanted: wantedOf(userA), have: []graph.Subscription{listed("a", userA), listed("b", userB)},
			expect: []decision{{verb: adopt, have: "a"}, {verb: remove, deleted: []string{"b"}}},
		},
		{
			name:   "a change from the tenant to users creates those of the users and then deletes that of the tenant",
			wanted: wantedOf(userA, userB), have: []graph.Subscription{listed("s1", tenantWide)},
			expect: []decision{{verb: create}, {verb: create}, {verb: remove, deleted: []string{"s1"}}},
		},
		{
			name: "a known id of another resource at another URL is deleted",
			have: []graph.Subscription{listed("s1", tenantWide), listed("b", userB, sendingTo(theirURL))}, facts: facts{owned: owned("b", "new")},
			expect: []decision{{verb: adopt, have: "s1"}, {verb: remove, deleted: []string{"b"}}},
		},
	})
}

func TestPlan_CreatesMissingSubscription(t *testing.T) {
	t.Parallel()
	runPlan(t, []planCase{
		{name: "an empty list leads to a creation", expect: []decision{{verb: create}}},
		{
			name: "one that expires now does not count",
			have: []graph.Subscription{listed("s1", tenantWide, endingIn(0))}, expect: []decision{{verb: create}},
		},
		{
			name: "a conflicting one that has expired does not block",
			have: []graph.Subscription{listed("f", tenantWide, sendingTo(theirURL), endingIn(-time.Second))}, expect: []decision{{verb: create}},
		},
		{
			name: "a conflicting one of a user does not block that of the tenant",
			have: []graph.Subscription{listed("f", userA, sendingTo(theirURL))}, expect: []decision{{verb: create}},
		},
		{
			name:   "a conflicting one of the tenant does not block that of a user",
			wanted: wantedOf(userA), have: []graph.Subscription{listed("f", tenantWide, sendingTo(theirURL))}, expect: []decision{{verb: create}},
		},
		{
			name:   "of two users only the missing one is created",
			wanted: wantedOf(userA, userB), have: []graph.Subscription{listed("a", userA)}, facts: facts{owned: owned("a", "new")},
			expect: []decision{{verb: adopt, have: "a"}, {verb: create}},
		},
	})
}

func TestRenewAt_OneThirdOfGrantedLifetimeLeft(t *testing.T) {
	t.Parallel()
	at := func(lifetime time.Duration) time.Time {
		r := newResourceState(tenantWide, 0)
		r.own = &ownSubscription{}
		r.setGrant(planNow.Add(lifetime), planNow)
		return r.renewAt()
	}
	assert.Equal(t, planNow.Add(48*time.Hour), at(72*time.Hour))
	assert.Equal(t, planNow.Add(30*time.Minute), at(45*time.Minute), "the granted lifetime counts")
	assert.Equal(t, planNow.Add(time.Second), at(time.Millisecond), "at least a second later")
}

func TestPlan_RespectsConflictingSubscription(t *testing.T) {
	t.Parallel()
	may := facts{mayReplace: map[string]bool{path(tenantWide): true}}
	conflicting := listed("f", tenantWide, sendingTo(theirURL))
	runPlan(t, []planCase{
		{
			name: "another notification URL at our resource blocks",
			have: []graph.Subscription{conflicting}, expect: []decision{{verb: leave, code: failure.SubscriptionConflict}},
		},
		{
			name:   "other change types block too since the quota is 1",
			have:   []graph.Subscription{listed("f", tenantWide, sendingTo(theirURL), changes("deleted"))},
			expect: []decision{{verb: leave, code: failure.SubscriptionConflict}},
		},
		{
			name:   "another filter blocks too since the quota is 1",
			have:   []graph.Subscription{listed("f", "/"+tenantWide+"?$filter=appClass eq 'x'", sendingTo(theirURL))},
			expect: []decision{{verb: leave, code: failure.SubscriptionConflict}},
		},
		{
			name: "a certificate id like ours does not make it ours",
			have: []graph.Subscription{listed("f", tenantWide, sendingTo(theirURL+"&x=1"))}, expect: []decision{{verb: leave, code: failure.SubscriptionConflict}},
		},
		{
			name: "another path at our host is not ours",
			have: []graph.Subscription{listed("f", tenantWide, sendingTo(ourURL+"/"))}, expect: []decision{{verb: leave, code: failure.SubscriptionConflict}},
		},
		{
			name:   "nothing of ours is deleted while a conflicting one blocks its successor",
			have:   []graph.Subscription{conflicting, listed("s1", tenantWide, certificate("old"))},
			expect: []decision{{verb: leave, code: failure.SubscriptionConflict}},
		},
		{
			name: "it is replaced if that is allowed", facts: may,
			have: []graph.Subscription{conflicting}, expect: []decision{{verb: replace, conflicting: []string{"f"}, reason: ReasonConflict}},
		},
		{
			name: "other resources of others are never deleted", facts: may,
			have:   []graph.Subscription{conflicting, listed("g", userB, sendingTo(theirURL)), listed("h", "users", sendingTo(theirURL))},
			expect: []decision{{verb: replace, conflicting: []string{"f"}, reason: ReasonConflict}},
		},
		{
			name:   "a conflicting one of one user does not block another user",
			wanted: wantedOf(userA, userB), have: []graph.Subscription{listed("f", userA, sendingTo(theirURL))},
			expect: []decision{{verb: leave, code: failure.SubscriptionConflict}, {verb: create}},
		},
	})
}

func TestPlan_ReplacesAnotherReceiversKeyTwice(t *testing.T) {
	t.Parallel()
	other := listed("b3", tenantWide, certificate("other"))
	replaced := func(count int) map[string]int { return map[string]int{path(tenantWide): count} }
	replaces := []decision{{verb: replace, deleted: []string{"b3"}, reason: ReasonRemovedKey}}
	runPlan(t, []planCase{
		{name: "the first may be a leftover and is replaced", have: []graph.Subscription{other}, expect: replaces},
		{name: "the second is replaced too", facts: facts{keyReplacements: replaced(1)}, have: []graph.Subscription{other}, expect: replaces},
		{
			name: "the third is left", facts: facts{keyReplacements: replaced(2)},
			have: []graph.Subscription{other}, expect: []decision{{verb: leave, code: failure.SubscriptionKeyConflict}},
		},
		{name: "one is created as soon as the slot is free", facts: facts{keyReplacements: replaced(2)}, expect: []decision{{verb: create}}},
		{
			name: "one with a key that is held is adopted regardless of the conflict", facts: facts{keyReplacements: replaced(2)},
			have: []graph.Subscription{listed("s1", tenantWide)}, expect: []decision{{verb: adopt, have: "s1"}},
		},
		{
			name: "one of ours whose key was removed is replaced regardless of the conflict", have: []graph.Subscription{other},
			facts: facts{keyReplacements: replaced(2), owned: owned("b3", "other")}, expect: replaces,
		},
		{
			name: "at a resource that is not wanted the first is deleted", wanted: wantedOf(userA),
			have: []graph.Subscription{other}, expect: []decision{{verb: create}, {verb: remove, deleted: []string{"b3"}}},
		},
		{
			name: "at a resource that is not wanted the third is left", facts: facts{keyReplacements: replaced(2)}, wanted: wantedOf(userA),
			have: []graph.Subscription{other}, expect: []decision{{verb: create}},
		},
		{
			name: "a conflict about one user does not affect another", wanted: wantedOf(userA, userB),
			facts: facts{keyReplacements: map[string]int{path(userA): 2}},
			have:  []graph.Subscription{listed("a", userA, certificate("other")), listed("b", userB, certificate("other"))},
			expect: []decision{
				{verb: leave, code: failure.SubscriptionKeyConflict},
				{verb: replace, deleted: []string{"b"}, reason: ReasonRemovedKey},
			},
		},
	})
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// randomInput returns random arguments of plan.
func randomInput(r *rand.Rand) (wanted, have []graph.Subscription, f facts) {
	f = facts{
		held: map[string]bool{"new": true, "old": true}, owned: map[string]*ownSubscription{}, mayReplace: map[string]bool{},
		keyReplacements: map[string]int{path(pick(r, tenantWide, userA, userB)): r.IntN(4)},
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
			func() { f.owned[h.ID] = owned(h.ID, pick(r, "", "new", "old"))[h.ID] },
			func() { f.owned[h.ID] = &ownSubscription{gone: true} },
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
			f.mayReplace[path(pick(r, wanted...).Resource)] = true
		}
		actions, surplus := plan(wanted, have, f, planNow)
		for _, a := range append(actions, action{surplus: surplus}) {
			for _, s := range a.surplus {
				_, known := f.owned[s.ID]
				require.True(t, known || s.NotificationURL == ourURL, "deletes %+v of %+v", s, have)
				limited := f.keyReplacements[path(s.Resource)] >= maxKeyReplacements
				require.True(t, known || f.held[s.EncryptionCertificateID] || !limited, "deletes %+v", s)
			}
			if a.verb == replace && len(a.conflicting) > 0 {
				require.True(t, f.mayReplace[path(a.want.Resource)])
				for _, s := range a.conflicting {
					require.Equal(t, path(a.want.Resource), path(s.Resource), "replaces only in the slot it needs")
				}
			}
		}
	}
}

// There is one action for each wanted subscription, and none deletes what another one uses.
func TestPlan_NeverDeletesSubscriptionInUse(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	for range 10_000 {
		wanted, have, f := randomInput(r)
		actions, surplus := plan(wanted, have, f, planNow)
		require.Len(t, actions, len(wanted))
		deleted := listIDs(surplus)
		for _, a := range actions {
			deleted = append(deleted, listIDs(a.surplus)...)
		}
		for _, a := range actions {
			if a.verb == adopt {
				require.NotContains(t, deleted, a.have.ID)
				require.True(t, f.fits(a.have, a.want))
			}
		}
		slices.Sort(deleted)
		require.Len(t, slices.Compact(slices.Clone(deleted)), len(deleted), "nothing is deleted twice")
	}
}

// A second plan after the actions of the first one has nothing left to do.
func TestPlan_IsStableAfterItsActions(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	for range 5_000 {
		wanted, have, f := randomInput(r)
		var used []string
		actions, surplus := plan(wanted, have, f, planNow)
		for i, a := range append(actions, action{verb: remove, surplus: surplus}) {
			for _, gone := range append(listIDs(a.surplus), listIDs(a.conflicting)...) {
				have = slices.DeleteFunc(have, func(s graph.Subscription) bool { return s.ID == gone })
			}
			switch a.verb {
			case create, replace:
				made := a.want
				made.ID, made.Expiration = "made"+strconv.Itoa(i), planNow.Add(71*time.Hour)
				have = append(have, made)
				f.owned[made.ID] = owned(made.ID, "new")[made.ID]
				used = append(used, made.ID)
			case adopt:
				f.owned[a.have.ID] = owned(a.have.ID, f.certificateOf(a.have))[a.have.ID]
				used = append(used, a.have.ID)
			}
		}
		actions, surplus = plan(wanted, have, f, planNow)
		require.Empty(t, surplus)
		for _, a := range actions {
			require.Contains(t, []verb{adopt, leave}, a.verb, "%+v", have)
			require.True(t, a.verb == leave || slices.Contains(used, a.have.ID), "%+v", have)
		}
	}
}
