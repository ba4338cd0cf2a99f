// SPDX-License-Identifier: Apache-2.0

package subscription

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

const (
	// maxKeyReplacements is how many subscriptions with another receiver's key are replaced at one resource. The first may be a
	// leftover of an earlier run of this receiver whose key was lost; any that follow come from a running receiver, which would
	// replace this receiver's subscription in turn.
	maxKeyReplacements = 2
	// keyConflictDuration is the age at which a subscription shows that nobody replaces it: no check is rarer than once an hour.
	keyConflictDuration = 2 * time.Hour
)

// verb is the kind of an action.
type verb string

const (
	// adopt: a subscription of this receiver matches; it is used, if it is not already.
	adopt verb = "adopt"
	// create: there is no subscription.
	create verb = "create"
	// replace: delete the existing ones, then create a new one. The order matters, since the quota is 1.
	replace verb = "replace"
	// leave: a subscription that must not be deleted occupies the slot.
	leave verb = "leave"
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
	// owned are the subscriptions that this receiver created or adopted, by id.
	owned map[string]*ownSubscription
	// mayReplace are the paths at which a conflicting subscription may be replaced.
	mayReplace map[string]bool
	// keyReplacements counts, by path, the replaced subscriptions that had another receiver's key.
	keyReplacements map[string]int
}

// ownSubscription is a subscription that this receiver created or adopted.
type ownSubscription struct {
	Known
	// createdURL is the notification URL in Graph's response, if this process created the subscription for the current keys. If
	// Graph writes a property differently than requested, a new subscription would differ in the same way.
	createdURL string
	// gone means that Graph reported the subscription as deleted, though a list may still show it.
	gone bool
}

// plan decides how to get every wanted subscription, given all subscriptions of the application. It returns one action for
// each wanted subscription, in the same order, and the subscriptions of this receiver that are left over. There is at least
// one wanted subscription, and all have the same notification URL.
//
// A subscription belongs to this receiver if it has its notification URL or is owned. No other is ever deleted, except where
// mayReplace allows it.
func plan(wanted, have []graph.Subscription, f facts, now time.Time) (actions []action, surplus []graph.Subscription) {
	have = slices.DeleteFunc(slices.Clone(have), func(h graph.Subscription) bool { return expired(h, now) })
	slots := make(map[string][]graph.Subscription, len(wanted))
	for _, h := range have {
		slots[path(h.Resource)] = append(slots[path(h.Resource)], h)
	}
	for _, w := range wanted {
		a, leftOver := planOne(w, slots[path(w.Resource)], f)
		actions = append(actions, a)
		surplus = append(surplus, leftOver...)
		delete(slots, path(w.Resource))
	}
	ownURL := wanted[0].NotificationURL
	for _, h := range have {
		if slots[path(h.Resource)] != nil && f.ours(h, ownURL) && !f.keyConflict(h) {
			surplus = append(surplus, h)
		}
	}
	return actions, surplus
}

// planOne decides about one wanted subscription, given those at the same path. It also returns the subscriptions of this
// receiver that are left over there.
func planOne(want graph.Subscription, have []graph.Subscription, f facts) (action, []graph.Subscription) {
	var matching, mismatched, conflicting []graph.Subscription
	for _, h := range have {
		switch {
		case !f.ours(h, want.NotificationURL):
			conflicting = append(conflicting, h)
		case f.fits(h, want):
			matching = append(matching, h)
		default:
			mismatched = append(mismatched, h)
		}
	}
	switch {
	case len(matching) > 0:
		return action{verb: adopt, want: want, have: f.preferred(matching)}, slices.DeleteFunc(mismatched, f.keyConflict)
	case len(conflicting) > 0 && !f.mayReplace[path(want.Resource)]:
		return action{verb: leave, want: want, err: conflictError(conflicting[0])}, nil
	case slices.ContainsFunc(mismatched, f.keyConflict):
		return action{verb: leave, want: want, err: errKeyConflict}, nil
	case len(mismatched) > 0:
		serving := slices.DeleteFunc(slices.Clone(mismatched), func(h graph.Subscription) bool { return !f.serves(h, want) })
		return action{
			verb: replace, want: want, have: f.preferred(serving), surplus: mismatched, conflicting: conflicting,
			reason: f.replaceReason(mismatched[0]),
		}, nil
	case len(conflicting) > 0:
		return action{verb: replace, want: want, conflicting: conflicting, reason: ReasonConflict}, nil
	default:
		return action{verb: create, want: want}, nil
	}
}

// expired reports whether a subscription has ended. One without an expiration has not.
func expired(s graph.Subscription, now time.Time) bool {
	return !s.Expiration.IsZero() && !s.Expiration.After(now)
}

// ours reports whether a subscription belongs to this receiver, whose notification URL is ownURL.
func (f facts) ours(h graph.Subscription, ownURL string) bool {
	return f.owned[h.ID] != nil || sameURL(h.NotificationURL, ownURL)
}

// otherKey reports whether a subscription was created with a key that is not available: by another receiver, or by an earlier
// run of this one whose state was lost.
func (f facts) otherKey(h graph.Subscription) bool {
	return f.owned[h.ID] == nil && !f.held[h.EncryptionCertificateID]
}

// keyConflict reports whether a subscription was created by another receiver again and again, so that it is left alone.
func (f facts) keyConflict(h graph.Subscription) bool {
	return f.otherKey(h) && f.keyReplacements[path(h.Resource)] >= maxKeyReplacements
}

// fits reports whether a subscription of this receiver equals what a new one would be.
func (f facts) fits(h, want graph.Subscription) bool {
	if own := f.owned[h.ID]; own != nil && !own.gone && own.createdURL == h.NotificationURL {
		return true
	}
	id := f.certificateOf(h)
	return f.serves(h, want) && (id == "" || id == want.EncryptionCertificateID)
}

// serves reports whether a subscription delivers what is wanted in a form that can be decrypted, possibly with an older key.
func (f facts) serves(h, want graph.Subscription) bool {
	id := f.certificateOf(h)
	return canonical(h.Resource) == canonical(want.Resource) && sameChangeTypes(h.ChangeTypes, want.ChangeTypes) &&
		sameURL(h.NotificationURL, want.NotificationURL) && (f.held[id] || id == "" && f.owned[h.ID] != nil) && !f.gone(h)
}

func (f facts) gone(h graph.Subscription) bool { return f.owned[h.ID] != nil && f.owned[h.ID].gone }

// certificateOf returns the id of the certificate of a subscription, which a list may omit, or "" if it is not known.
func (f facts) certificateOf(h graph.Subscription) string {
	if f.owned[h.ID] != nil && h.EncryptionCertificateID == "" {
		return f.owned[h.ID].CertificateID
	}
	return h.EncryptionCertificateID
}

func (f facts) replaceReason(h graph.Subscription) Reason {
	if f.gone(h) {
		return ReasonLost
	}
	if id := f.certificateOf(h); id != "" && !f.held[id] {
		return ReasonRemovedKey
	}
	return ReasonReplaced
}

// preferred returns an owned one of these subscriptions if there is one, since it may be in use, else the first, if any.
func (f facts) preferred(subs []graph.Subscription) graph.Subscription {
	if len(subs) == 0 {
		return graph.Subscription{}
	}
	return subs[max(0, slices.IndexFunc(subs, func(s graph.Subscription) bool { return f.owned[s.ID] != nil }))]
}

// conflictError returns the error of a subscription with another notification URL that occupies the slot of a wanted one. An
// application may have one subscription for the whole tenant, and one for each user:
// https://learn.microsoft.com/graph/change-notifications-overview#subscription-limits
func conflictError(other graph.Subscription) error {
	return failure.With(
		fmt.Errorf("subscription %s of the same application, which sends to %s, occupies the place of this receiver's subscription",
			other.ID, HostOf(other.NotificationURL)),
		failure.New(failure.SubscriptionConflict))
}

// errKeyConflict means that another receiver created subscriptions again after this one had replaced its earlier ones.
var errKeyConflict = failure.With(
	errors.New("another receiver uses the same notification URL with another encryption key, and replaces this receiver's subscription"),
	failure.New(failure.SubscriptionKeyConflict))

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
	set := strings.Fields(strings.ToLower(strings.Join(types, " ")))
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
	u.Host = strings.TrimSuffix(strings.ToLower(u.Host), ":443") // it is always https
	u.Path = cmp.Or(u.Path, "/")
	return u.String()
}
