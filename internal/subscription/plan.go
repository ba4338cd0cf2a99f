package subscription

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// verb is what is done about a wanted subscription.
type verb int

const (
	// keep: the one in use lives and fits.
	keep verb = iota
	// adopt: another one of ours fits, as after a restart.
	adopt
	// replace: what is there goes, then a new one is created. The order matters, since the quota is 1.
	replace
	// create: there is none.
	create
	// blocked: a foreign one has the place.
	blocked
	// wait: one of another receiver's key has the place, again after it was replaced, and is left alone for a while.
	wait
	// remove: ours, but nothing wants it.
	remove
)

// action is one decision of plan.
type action struct {
	verb verb
	// want is what is wanted; zero for remove.
	want graph.Subscription
	// have is what keep and adopt found. For replace it is what still serves until it is replaced, if there is such a one.
	have graph.Subscription
	// surplus are ours: to be deleted before the creation by replace, and by remove.
	surplus []graph.Subscription
	// conflicting are not ours: in the way of blocked, and deleted by replace.
	conflicting []graph.Subscription
	// reason is why replace replaces.
	reason Reason
	// until is when wait ends.
	until time.Time
}

// facts are what plan must know beside the list.
type facts struct {
	// held are the ids of the certificates whose private key is at hand.
	held map[string]bool
	// known maps the subscriptions that we created or adopted to the certificate they were created with, "" if not known.
	known map[string]string
	// inUse are the subscriptions that are kept alive at present.
	inUse map[string]bool
	// created are those that this process created, as Graph's answer showed them. Graph may write something in another way than
	// it was asked for, and then a new one would look no better.
	created map[string]graph.Subscription
	// gone are subscriptions that Graph told us are no more, though a list may still show them.
	gone map[string]bool
	// mayReplace holds the canonical resources for which a foreign subscription may be replaced.
	mayReplace map[string]bool
	// keyConflicts are other receivers at our notification URL with another key, by path.
	keyConflicts map[string]keyConflict
}

// plan decides what to do so that every wanted subscription is there, given all that the application has. It returns one
// action for each wanted one, in the same order, and then one remove where something of ours is left over.
//
// A subscription is ours if it has our notification URL or a known id. Nothing else is ever deleted, unless mayTake says so.
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
	// The list is walked again rather than the map, for a stable order.
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

// planOne decides about one wanted subscription among those at the same path, and returns what of ours is left over there.
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

// expired tells whether a subscription does not count any more. One without an expiration does.
func expired(s graph.Subscription, now time.Time) bool {
	return !s.Expiration.IsZero() && !s.Expiration.After(now)
}

// ours tells whether a subscription was made by this collector. All wanted ones have the same notification URL.
func (f facts) ours(h graph.Subscription, wanted []graph.Subscription) bool {
	if _, known := f.known[h.ID]; known {
		return true
	}
	return len(wanted) > 0 && sameURL(h.NotificationURL, wanted[0].NotificationURL)
}

// otherKey tells whether a subscription at our notification URL was made by somebody with a key that is not at hand: by
// another receiver, or by this one in an earlier run of which nothing is left.
func (f facts) otherKey(h, want graph.Subscription) bool {
	_, known := f.known[h.ID]
	return !known && !f.gone[h.ID] && sameURL(h.NotificationURL, want.NotificationURL) && !f.held[h.EncryptionCertificateID]
}

// leftAlone tells whether a subscription of ours by its URL is another receiver's that was replaced often enough.
func (f facts) leftAlone(h, want graph.Subscription, now time.Time) bool {
	return f.keyConflicts[path(h.Resource)].deferred(now) && f.otherKey(h, want)
}

// fits tells whether a subscription of ours is just what a new one would be.
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

// unchanged tells whether a subscription is one that this process created and that is still as it was then.
func (f facts) unchanged(h graph.Subscription) bool {
	made, found := f.created[h.ID]
	return found && !f.gone[h.ID] && canonical(h.Resource) == canonical(made.Resource) && h.NotificationURL == made.NotificationURL &&
		sameChangeTypes(h.ChangeTypes, made.ChangeTypes) && f.certificateOf(h) == f.certificateOf(made)
}

// serves tells whether a subscription delivers what is wanted, to us and readable, be it with a certificate of old.
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

// preference orders fitting subscriptions: the one in use, then the one that lives longest.
func (f facts) preference(a, b graph.Subscription) int {
	switch {
	case f.inUse[a.ID] && !f.inUse[b.ID]:
		return 1
	case f.inUse[b.ID] && !f.inUse[a.ID]:
		return -1
	}
	return a.Expiration.Compare(b.Expiration)
}

// canonical returns a resource as Graph compares it: case and one leading slash do not matter.
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

// sameURL compares two notification URLs. Scheme and host know no case (RFC 3986, section 6.2.2.1), the default port and
// an empty path may be written or not; everything else, and the EventHub: form, must be equal.
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

// hostOf names the receiving end of a notification URL and nothing else of it, since the query may hold secrets.
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
