package subscription

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// verb is the kind of an action.
type verb int

const (
	// adopt: a subscription of this receiver matches; it is used, if it is not already.
	adopt verb = iota
	// create: there is no subscription.
	create
	// replace: delete the existing ones, then create a new one. The order matters, since the quota is 1.
	replace
	// leave: a subscription that must not be deleted, or not yet, occupies the slot.
	leave
)

// action is the decision of plan about one wanted subscription.
type action struct {
	verb verb
	want graph.Subscription
	// have is the subscription to adopt. For replace it is the one that delivers until then, if any.
	have graph.Subscription
	// surplus are this receiver's subscriptions, and conflicting those of others, that replace deletes.
	surplus, conflicting []graph.Subscription
	// reason is the reason of replace, and err that of leave.
	reason Reason
	err    error
}

// facts are the inputs of plan other than the list.
type facts struct {
	// held are the ids of the certificates whose private key is available.
	held map[string]bool
	// owned are the subscriptions that this receiver created or adopted.
	owned map[string]ownSubscription
	// inUse are the subscriptions in use.
	inUse map[string]bool
	// created are those in use that this process created, as in Graph's response. If Graph writes a property differently than
	// requested, a new subscription would differ in the same way.
	created map[string]graph.Subscription
	// mayReplace are the canonical resources for which a conflicting subscription may be replaced.
	mayReplace map[string]bool
	// deferred are the paths at which the replacement of a rival's subscription has to wait.
	deferred map[string]bool
}

// plan decides how to get every wanted subscription, given all subscriptions of the application. It returns one action for
// each wanted subscription, in the same order, and the subscriptions of this receiver that are left over. There is at least
// one wanted subscription, and all have the same notification URL.
//
// A subscription belongs to this receiver if it has its notification URL or a known id. No other is ever deleted, except where
// mayReplace allows it.
func plan(wanted, have []graph.Subscription, f facts, now time.Time) (actions []action, surplus []graph.Subscription) {
	slots := make(map[string][]graph.Subscription, len(wanted))
	for _, h := range have {
		if !expired(h, now) {
			slots[path(h.Resource)] = append(slots[path(h.Resource)], h)
		}
	}
	for _, w := range wanted {
		a, leftOver := planOne(w, slots[path(w.Resource)], f)
		actions = append(actions, a)
		surplus = append(surplus, leftOver...)
		delete(slots, path(w.Resource))
	}
	// This iterates over the list rather than the map, for a stable order.
	own := wanted[0].NotificationURL
	for _, h := range have {
		if _, unwanted := slots[path(h.Resource)]; unwanted && !expired(h, now) && f.ours(h, own) && !f.leftAlone(h, own) {
			surplus = append(surplus, h)
		}
	}
	return actions, surplus
}

// planOne decides about one wanted subscription, given those at the same path. It also returns the subscriptions of this
// receiver that are left over there.
func planOne(want graph.Subscription, have []graph.Subscription, f facts) (action, []graph.Subscription) {
	var matching, mismatched, conflicting, leftAlone []graph.Subscription
	for _, h := range have {
		switch {
		case !f.ours(h, want.NotificationURL):
			conflicting = append(conflicting, h)
		case f.fits(h, want):
			matching = append(matching, h)
		case f.leftAlone(h, want.NotificationURL):
			leftAlone = append(leftAlone, h)
		default:
			mismatched = append(mismatched, h)
		}
	}
	switch {
	case len(matching) > 0:
		return action{verb: adopt, want: want, have: slices.MaxFunc(matching, f.preference)}, mismatched
	case len(conflicting) > 0 && !f.mayReplace[canonical(want.Resource)]:
		return action{verb: leave, want: want, err: conflictError(conflicting[0])}, nil
	case len(leftAlone) > 0:
		return action{verb: leave, want: want, err: keyConflictError(leftAlone[0])}, nil
	case len(conflicting) > 0 || len(mismatched) > 0:
		return f.replacement(want, mismatched, conflicting), nil
	default:
		return action{verb: create, want: want}, nil
	}
}

// replacement returns the action that replaces these subscriptions, of which there is at least one.
func (f facts) replacement(want graph.Subscription, mismatched, conflicting []graph.Subscription) action {
	a := action{verb: replace, want: want, surplus: mismatched, conflicting: conflicting, reason: ReasonConflict}
	if len(mismatched) > 0 {
		a.reason = f.replaceReason(mismatched[0])
	}
	for _, m := range mismatched {
		if f.serves(m, want) && !f.inUse[a.have.ID] {
			a.have = m
		}
	}
	return a
}

// expired reports whether a subscription has ended. One without an expiration has not.
func expired(s graph.Subscription, now time.Time) bool {
	return !s.Expiration.IsZero() && !s.Expiration.After(now)
}

// ours reports whether a subscription belongs to this receiver, whose notification URL is own.
func (f facts) ours(h graph.Subscription, own string) bool {
	_, owned := f.owned[h.ID]
	return owned || sameURL(h.NotificationURL, own)
}

// otherKey reports whether a subscription at the same notification URL was created with a key that is not available: by another
// receiver, or by an earlier run of this one whose state was lost.
func (f facts) otherKey(h graph.Subscription, own string) bool {
	_, owned := f.owned[h.ID]
	return !owned && sameURL(h.NotificationURL, own) && !f.held[h.EncryptionCertificateID]
}

// leftAlone reports whether a subscription at the same URL belongs to another receiver and its replacement is deferred.
func (f facts) leftAlone(h graph.Subscription, own string) bool {
	return f.deferred[path(h.Resource)] && f.otherKey(h, own)
}

// fits reports whether a subscription of this receiver equals what a new one would be.
func (f facts) fits(h, want graph.Subscription) bool {
	if f.owned[h.ID].gone {
		return false
	}
	if made, found := f.created[h.ID]; found && h.NotificationURL == made.NotificationURL {
		return true
	}
	id := f.certificateOf(h)
	return f.serves(h, want) && (id == "" || id == want.EncryptionCertificateID)
}

// serves reports whether a subscription delivers what is wanted in a form that can be decrypted, possibly with an older key.
func (f facts) serves(h, want graph.Subscription) bool {
	own, owned := f.owned[h.ID]
	id := f.certificateOf(h)
	return !own.gone && canonical(h.Resource) == canonical(want.Resource) && sameChangeTypes(h.ChangeTypes, want.ChangeTypes) &&
		sameURL(h.NotificationURL, want.NotificationURL) && (f.held[id] || id == "" && owned)
}

func (f facts) certificateOf(h graph.Subscription) string {
	if h.EncryptionCertificateID != "" {
		return h.EncryptionCertificateID
	}
	return f.owned[h.ID].CertificateID
}

func (f facts) replaceReason(h graph.Subscription) Reason {
	if f.owned[h.ID].gone {
		return ReasonLost
	}
	if id := f.certificateOf(h); id != "" && !f.held[id] {
		return ReasonRemovedKey
	}
	return ReasonReplaced
}

// preference orders matching subscriptions: the one in use is the greatest, then the one that expires last.
func (f facts) preference(a, b graph.Subscription) int {
	switch {
	case f.inUse[a.ID] && !f.inUse[b.ID]:
		return 1
	case f.inUse[b.ID] && !f.inUse[a.ID]:
		return -1
	}
	return a.Expiration.Compare(b.Expiration)
}

// canonical returns a resource in the form in which Graph compares it: without regard to case and one leading slash.
func canonical(resource string) string {
	return strings.ToLower(strings.TrimPrefix(resource, "/"))
}

// path is the canonical resource without its query. Graph's quotas count by path, whatever the $filter:
// https://learn.microsoft.com/graph/change-notifications-overview#subscription-limits
func path(resource string) string {
	before, _, _ := strings.Cut(canonical(resource), "?")
	return before
}

func sameChangeTypes(a, b []string) bool {
	return slices.Equal(changeTypeSet(a), changeTypeSet(b))
}

func changeTypeSet(types []string) []string {
	set := make([]string, 0, len(types))
	for _, t := range types {
		set = append(set, strings.ToLower(strings.TrimSpace(t)))
	}
	slices.Sort(set)
	return slices.Compact(set)
}

// sameURL compares two notification URLs. Scheme and host are case-insensitive (RFC 3986, section 6.2.2.1), and the default
// port and an empty path are optional. Everything else, and the EventHub: form, must be equal.
func sameURL(a, b string) bool {
	return a == b || normalURL(a) == normalURL(b)
}

func normalURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return raw
	}
	u.Host = strings.ToLower(u.Host)
	if u.Scheme == "https" {
		u.Host = strings.TrimSuffix(u.Host, ":443")
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u.String()
}
