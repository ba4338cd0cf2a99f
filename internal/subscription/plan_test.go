package subscription

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

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
	s := Settings{ChangeTypes: []string{"created", "updated"}, NotificationURL: ourURL, Certificate: Certificate{ID: "new"}}
	var wanted []graph.Subscription
	for _, r := range resources {
		wanted = append(wanted, s.wanted(r))
	}
	return wanted
}

// listed returns a subscription of ours as the list shows it, changed by the given functions.
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

// decision is an action in short: what is done, with which, and what is deleted for it.
type decision struct {
	verb        verb
	have        string
	deleted     []string
	conflicting []string
	reason      Reason
}

func shorten(actions []action) []decision {
	var short []decision
	for _, a := range actions {
		short = append(short, decision{a.verb, a.have.ID, idsOf(a.surplus), idsOf(a.conflicting), a.reason})
	}
	return short
}

func idsOf(subs []graph.Subscription) []string {
	var ids []string
	for _, s := range subs {
		ids = append(ids, s.ID)
	}
	return ids
}

type planCase struct {
	name   string
	wanted []graph.Subscription // the tenant unless set
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
		{name: "one with everything as wanted is adopted", have: []graph.Subscription{listed("s1", tenantWide)}, expect: adopts},
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
			name: "the host of the notification URL knows no case and the default port no difference",
			have: []graph.Subscription{listed("s1", tenantWide, sendingTo("HTTPS://Copilot.Example.com:443/graph/notifications"))}, expect: adopts,
		},
		{
			name: "one whose certificate the list does not say is adopted if its id is known",
			have: []graph.Subscription{listed("s1", tenantWide, certificate(""))}, facts: facts{known: map[string]string{"s1": ""}}, expect: adopts,
		},
		{
			name: "of several that fit the one that lives longest is adopted and none is deleted",
			have: []graph.Subscription{
				listed("s0", tenantWide, endingIn(time.Hour)), listed("s1", tenantWide, endingIn(2*time.Hour)), listed("s2", tenantWide, endingIn(time.Minute)),
			},
			expect: adopts,
		},
		{
			name:  "the one in use is kept even if another lives longer",
			have:  []graph.Subscription{listed("s0", tenantWide, endingIn(60*time.Hour)), listed("s1", tenantWide, endingIn(time.Hour))},
			facts: facts{inUse: map[string]bool{"s1": true}}, expect: []decision{{verb: keep, have: "s1"}},
		},
		{
			name:  "the one in use is kept wherever it stands in the list",
			have:  []graph.Subscription{listed("s1", tenantWide, endingIn(time.Hour)), listed("s0", tenantWide, endingIn(60*time.Hour))},
			facts: facts{inUse: map[string]bool{"s1": true}}, expect: []decision{{verb: keep, have: "s1"}},
		},
		{
			name: "one that does not say when it ends still counts",
			have: []graph.Subscription{listed("s1", tenantWide, func(s *graph.Subscription) { s.Expiration = time.Time{} })}, expect: adopts,
		},
		{
			name:   "a misfit of ours beside one that fits is deleted",
			have:   []graph.Subscription{listed("s1", tenantWide), listed("s2", tenantWide, certificate("old"))},
			expect: []decision{{verb: adopt, have: "s1"}, {verb: remove, deleted: []string{"s2"}}},
		},
		{
			name: "a foreign one beside one that fits is left alone",
			have: []graph.Subscription{listed("s1", tenantWide), listed("f", tenantWide, sendingTo(theirURL))}, expect: adopts,
		},
	})
}

func TestPlan_ReplacesMismatchedSubscription(t *testing.T) {
	t.Parallel()
	runPlan(t, []planCase{
		{
			name:   "a certificate that is held but not the first is a rotation, and the old one serves until then",
			have:   []graph.Subscription{listed("s1", tenantWide, certificate("old"))},
			expect: []decision{{verb: replace, have: "s1", deleted: []string{"s1"}, reason: ReasonReplaced}},
		},
		{
			name: "of two that serve until then the one in use goes on",
			have: []graph.Subscription{
				listed("s1", tenantWide, certificate("old")), listed("s2", tenantWide, certificate("old"), changes("updated", "created")),
			},
			facts:  facts{inUse: map[string]bool{"s1": true}},
			expect: []decision{{verb: replace, have: "s1", deleted: []string{"s1", "s2"}, reason: ReasonReplaced}},
		},
		{
			name: "the certificate of a known id is remembered where the list does not say it",
			have: []graph.Subscription{listed("s1", tenantWide, certificate(""))}, facts: facts{known: map[string]string{"s1": "old"}},
			expect: []decision{{verb: replace, have: "s1", deleted: []string{"s1"}, reason: ReasonReplaced}},
		},
		{
			name:   "a certificate that is not held makes it unreadable",
			have:   []graph.Subscription{listed("s1", tenantWide, certificate("lost"))},
			expect: []decision{{verb: replace, deleted: []string{"s1"}, reason: ReasonRemovedKey}},
		},
		{
			name:   "one at our URL with an unknown id whose certificate is not said is not trusted",
			have:   []graph.Subscription{listed("s1", tenantWide, certificate(""))},
			expect: []decision{{verb: replace, deleted: []string{"s1"}, reason: ReasonReplaced}},
		},
		{
			name:   "other change types are replaced",
			have:   []graph.Subscription{listed("s1", tenantWide, changes("created"))},
			expect: []decision{{verb: replace, deleted: []string{"s1"}, reason: ReasonReplaced}},
		},
		{
			name:   "a filter makes another resource, in the same place",
			have:   []graph.Subscription{listed("s1", tenantWide+"?$filter=conversationType ne 'bizchat'")},
			expect: []decision{{verb: replace, deleted: []string{"s1"}, reason: ReasonReplaced}},
		},
		{
			name: "a known id at another notification URL is ours after the URL was changed",
			have: []graph.Subscription{listed("s1", tenantWide, sendingTo(theirURL))}, facts: facts{known: map[string]string{"s1": "new"}},
			expect: []decision{{verb: replace, deleted: []string{"s1"}, reason: ReasonReplaced}},
		},
		{
			name: "one that Graph said is gone is replaced though a list still shows it",
			have: []graph.Subscription{listed("s1", tenantWide)}, facts: facts{gone: map[string]bool{"s1": true}},
			expect: []decision{{verb: replace, deleted: []string{"s1"}, reason: ReasonLost}},
		},
		{
			name:   "a user who is no longer wanted loses the subscription at our URL",
			wanted: wantedOf(userA), have: []graph.Subscription{listed("a", userA), listed("b", userB)},
			expect: []decision{{verb: adopt, have: "a"}, {verb: remove, deleted: []string{"b"}}},
		},
		{
			name:   "going from the tenant to users creates those and then deletes the tenant's",
			wanted: wantedOf(userA, userB), have: []graph.Subscription{listed("s1", tenantWide)},
			expect: []decision{{verb: create}, {verb: create}, {verb: remove, deleted: []string{"s1"}}},
		},
		{
			name: "a known id of another resource at another URL is cleaned up",
			have: []graph.Subscription{listed("s1", tenantWide), listed("b", userB, sendingTo(theirURL))}, facts: facts{known: map[string]string{"b": "new"}},
			expect: []decision{{verb: adopt, have: "s1"}, {verb: remove, deleted: []string{"b"}}},
		},
	})
}

func TestPlan_CreatesMissingSubscription(t *testing.T) {
	t.Parallel()
	runPlan(t, []planCase{
		{name: "an empty list makes a creation", expect: []decision{{verb: create}}},
		{
			name: "one that ended this moment does not count",
			have: []graph.Subscription{listed("s1", tenantWide, endingIn(0))}, expect: []decision{{verb: create}},
		},
		{
			name: "a foreign one that has ended is not in the way",
			have: []graph.Subscription{listed("f", tenantWide, sendingTo(theirURL), endingIn(-time.Second))}, expect: []decision{{verb: create}},
		},
		{
			name: "a foreign one of a user is not in the way of the tenant's",
			have: []graph.Subscription{listed("f", userA, sendingTo(theirURL))}, expect: []decision{{verb: create}},
		},
		{
			name:   "a foreign one of the tenant is not in the way of a user's",
			wanted: wantedOf(userA), have: []graph.Subscription{listed("f", tenantWide, sendingTo(theirURL))}, expect: []decision{{verb: create}},
		},
		{
			name:   "of two users only the missing one is created",
			wanted: wantedOf(userA, userB), have: []graph.Subscription{listed("a", userA)}, facts: facts{inUse: map[string]bool{"a": true}},
			expect: []decision{{verb: keep, have: "a"}, {verb: create}},
		},
	})
}

func TestRenewAt_OneThirdOfGrantedLifetimeLeft(t *testing.T) {
	t.Parallel()
	granted := planNow.Add(-time.Hour)
	assert.Equal(t, granted.Add(48*time.Hour), renewAt(granted.Add(72*time.Hour), granted, 72*time.Hour))
	assert.Equal(t, granted.Add(30*time.Minute), renewAt(granted.Add(45*time.Minute), granted, 45*time.Minute), "what was granted counts")
	assert.Equal(t, granted.Add(time.Second), renewAt(granted.Add(time.Millisecond), granted, time.Millisecond), "never at once again")
}
