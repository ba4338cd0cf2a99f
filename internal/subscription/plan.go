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
	// keep: the subscription in use is active and matches.
	keep verb = iota
	// adopt: another subscription of this receiver matches, as after a restart.
	adopt
	// replace: delete the existing ones, then create a new one. The order matters, since the quota is 1.
	replace
	// create: there is no subscription.
	create
	// blocked: a conflicting subscription occupies the slot.
	blocked
	// wait: a subscription with another receiver's key occupies the slot again after its replacement. Replacing it is deferred.
	wait
	// remove: subscriptions of this receiver that are not wanted.
	remove
)

// action is one decision of plan.
type action struct {
	verb verb
	// want is the wanted subscription; zero for remove.
	want graph.Subscription
	// have is the existing subscription of keep and adopt. For replace it is the one that delivers until then, if any.
	have graph.Subscription
	// surplus are this receiver's subscriptions that remove deletes, and that replace deletes before it creates.
	surplus []graph.Subscription
	// conflicting are not this receiver's: they are the cause of blocked, and replace deletes them.
	conflicting []graph.Subscription
	// reason is the reason of replace.
	reason Reason
	// until is when wait ends.
	until time.Time
}

// facts are the inputs of plan other than the list.
type facts struct {
	// held are the ids of the certificates whose private key is available.
	held map[string]bool
	// known maps subscriptions that this receiver created or adopted to the certificate they were created with, "" if unknown.
	known map[string]string
	// inUse are the subscriptions in use.
	inUse map[string]bool
	// created are the subscriptions that this process created, as in Graph's response. If Graph writes a property differently
	// than requested, a new subscription would differ in the same way.
	created map[string]graph.Subscription
	// gone are subscriptions that Graph reported as deleted, though a list may still show them.
	gone map[string]bool
	// mayReplace are the canonical resources for which a conflicting subscription may be replaced.
	mayReplace map[string]bool
	// keyConflicts are receivers with another key at the same notification URL, by path.
	keyConflicts map[string]keyConflict
}

// plan decides how to get every wanted subscription, given all subscriptions of the application. It returns one action for
// each wanted subscription, in the same order, and then one remove if subscriptions of this receiver are left over.
//
// A subscription belongs to this receiver if it has its notification URL or a known id. No other is ever deleted, except where
// mayReplace allows it.
func plan(wanted, have []graph.Subscription, f facts, now time.Time) []action {
	actions := make([]action, 0, len(wanted)+1)
	slots := make(map[string][]graph.Subscription, len(wanted))
	for _, h := range have {
		if !expired(h, now) {
			slots[path(h.Resource)] = append(slots[path(h.Resource)], h)
		}
	}
	var leftOver []graph.Subscription
	for _, w := range wanted {
		a, rest := planOne(w, slots[path(w.Resource)], f, now)
		actions = append(actions, a)
		leftOver = append(leftOver, rest...)
		delete(slots, path(w.Resource))
	}
	// This iterates over the list rather than the map, for a stable order.
	for _, h := range have {
		if _, unwanted := slots[path(h.Resource)]; unwanted && !expired(h, now) && f.ours(h, wanted) && !f.leftAlone(h, wanted[0], now) {
			leftOver = append(leftOver, h)
		}
	}
	if len(leftOver) > 0 {
		actions = append(actions, action{verb: remove, surplus: leftOver})
	}
	return actions
}

// planOne decides about one wanted subscription, given those at the same path. It also returns the subscriptions of this
// receiver that are left over there.
func planOne(want graph.Subscription, have []graph.Subscription, f facts, now time.Time) (action, []graph.Subscription) {
	var matching, mismatched, conflicting, leftAlone []graph.Subscription
	for _, h := range have {
		switch {
		case !f.ours(h, []graph.Subscription{want}):
			conflicting = append(conflicting, h)
		case f.fits(h, want):
			matching = append(matching, h)
		case f.leftAlone(h, want, now):
			leftAlone = append(leftAlone, h)
		default:
			mismatched = append(mismatched, h)
		}
	}
	switch {
	case len(matching) > 0:
		best := slices.MaxFunc(matching, f.preference)
		if f.inUse[best.ID] {
			return action{verb: keep, want: want, have: best}, mismatched
		}
		return action{verb: adopt, want: want, have: best}, mismatched
	case len(conflicting) > 0 && !f.mayReplace[canonical(want.Resource)]:
		return action{verb: blocked, want: want, conflicting: conflicting}, nil
	case len(leftAlone) > 0:
		return action{verb: wait, want: want, until: f.keyConflicts[path(want.Resource)].deferredUntil()}, nil
	case len(conflicting) > 0 || len(mismatched) > 0:
		a := action{verb: replace, want: want, surplus: mismatched, conflicting: conflicting, reason: ReasonConflict}
		for i, m := range mismatched {
			if f.serves(m, want) && !f.inUse[a.have.ID] {
				a.have = m
			}
			if i == 0 {
				a.reason = f.replaceReason(m)
			}
		}
		return a, nil
	default:
		return action{verb: create, want: want}, nil
	}
}

// expired reports whether a subscription has ended. One without an expiration has not.
func expired(s graph.Subscription, now time.Time) bool {
	return !s.Expiration.IsZero() && !s.Expiration.After(now)
}

// ours reports whether a subscription belongs to this receiver. All wanted ones have the same notification URL.
func (f facts) ours(h graph.Subscription, wanted []graph.Subscription) bool {
	if _, known := f.known[h.ID]; known {
		return true
	}
	return len(wanted) > 0 && sameURL(h.NotificationURL, wanted[0].NotificationURL)
}

// otherKey reports whether a subscription at the same notification URL was created with a key that is not available: by another
// receiver, or by an earlier run of this one whose state was lost.
func (f facts) otherKey(h, want graph.Subscription) bool {
	_, known := f.known[h.ID]
	return !known && !f.gone[h.ID] && sameURL(h.NotificationURL, want.NotificationURL) && !f.held[h.EncryptionCertificateID]
}

// leftAlone reports whether a subscription at the same URL belongs to another receiver and its replacement is deferred.
func (f facts) leftAlone(h, want graph.Subscription, now time.Time) bool {
	return f.keyConflicts[path(h.Resource)].deferred(now) && f.otherKey(h, want)
}

// fits reports whether a subscription of this receiver equals what a new one would be.
func (f facts) fits(h, want graph.Subscription) bool {
	if f.unchanged(h) {
		return true
	}
	if !f.serves(h, want) {
		return false
	}
	id := f.certificateOf(h)
	return id == "" || id == want.EncryptionCertificateID
}

// unchanged reports whether this process created the subscription and it has not changed since.
func (f facts) unchanged(h graph.Subscription) bool {
	made, found := f.created[h.ID]
	return found && !f.gone[h.ID] && canonical(h.Resource) == canonical(made.Resource) && h.NotificationURL == made.NotificationURL &&
		sameChangeTypes(h.ChangeTypes, made.ChangeTypes) && f.certificateOf(h) == f.certificateOf(made)
}

// serves reports whether a subscription delivers what is wanted in a form that can be decrypted, possibly with an older key.
func (f facts) serves(h, want graph.Subscription) bool {
	if f.gone[h.ID] || canonical(h.Resource) != canonical(want.Resource) || !sameChangeTypes(h.ChangeTypes, want.ChangeTypes) ||
		!sameURL(h.NotificationURL, want.NotificationURL) {
		return false
	}
	id := f.certificateOf(h)
	if id == "" {
		_, known := f.known[h.ID]
		return known
	}
	return f.held[id]
}

func (f facts) certificateOf(h graph.Subscription) string {
	if h.EncryptionCertificateID != "" {
		return h.EncryptionCertificateID
	}
	return f.known[h.ID]
}

func (f facts) replaceReason(h graph.Subscription) Reason {
	if f.gone[h.ID] {
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

// hostOf returns the host of a notification URL and nothing else of it, since the query may contain secrets.
func hostOf(notificationURL string) string {
	u, err := url.Parse(notificationURL)
	if err == nil && u.Opaque != "" {
		// EventHub:https://namespace.servicebus.windows.net/...
		u, err = url.Parse(u.Opaque)
	}
	if err != nil || u.Host == "" {
		return "unknown"
	}
	return u.Host
}
