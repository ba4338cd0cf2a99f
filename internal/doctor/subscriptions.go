// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
	"github.com/otelcopilot/m365copilotreceiver/receiver"
)

// maxListed is the number of resources that are listed one by one. More are counted.
const maxListed = 10

// checkSubscriptions counts the subscriptions of the app registration, and says what the receiver does with them when it starts.
func (t *target) checkSubscriptions(ctx context.Context) []Check {
	s := t.settings.Subscription
	switch {
	case len(s.Resources) == 0:
		return []Check{skipped("none is needed, the history is polled")}
	case !t.graphReached:
		return []Check{skipped("Microsoft Graph was not reached")}
	case !t.tokenIssued:
		return []Check{skipped("there is no access token")}
	}
	ctx, cancel := call(ctx)
	defer cancel()
	have, err := t.clients.Graph.ListSubscriptions(ctx)
	if err != nil {
		return []Check{bad(Fail, failure.Of(err), "%v", err)}
	}
	var known []subscription.Known
	if t.stored != nil {
		known = t.stored.Subscriptions
	}
	keys := t.startKeys()
	s.Keys = keys.Keys
	decisions := subscription.Decide(s, known, have, time.Now())
	count := ok("the app registration has %d", len(have))
	if others := len(have) - existing(decisions); others > 0 {
		count = ok("the app registration has %d, %d of them expired or for other resources", len(have), others)
	}
	return append([]Check{count}, keys.checkAll(decisions)...)
}

func existing(decisions []subscription.Decision) (n int) {
	for _, d := range decisions {
		n += len(d.Ours) + len(d.Others)
	}
	return n
}

// startKeys are the encryption keys with which the receiver starts.
type startKeys struct {
	subscription.Keys
	// unread says that the doctor can't read the storage, which may hold that a subscription is the receiver's own, and unknown that it
	// may hold the key as well.
	unread, unknown bool
	// otherKey is the failure of a subscription that was made with another key.
	otherKey failure.Failure
	// err says why configured keys can't be used.
	err error
}

func (t *target) startKeys() startKeys {
	// Where there is no key, the receiver makes one. Its id is none that a subscription has.
	k := startKeys{Keys: subscription.Keys{CertificateID: "new"}, unread: t.settings.Storage != nil && t.stored == nil}
	var ring notification.Ring
	switch {
	case len(t.settings.Certificates) > 0:
		k.otherKey = failure.New(failure.CertificateMissing)
		ring, k.err = receiver.ReadKeys(t.settings.Certificates)
	case t.settings.Storage == nil:
		k.otherKey = failure.New(failure.KeyInMemory)
	case k.unread:
		k.unknown = true
	default:
		k.otherKey, ring = failure.New(failure.SubscriptionKeyConflict), t.stored.Generated
	}
	if len(ring) > 0 {
		k.Keys = receiver.SubscriptionKeys(ring, t.settings.TenantID, t.settings.ClientID)
	}
	return k
}

// checkAll returns a check for each resource, or one for all of many for which the same is done.
func (k *startKeys) checkAll(decisions []subscription.Decision) (checks []Check) {
	var kinds []Check
	counts, firsts := map[Check]int{}, map[Check]string{}
	for _, d := range decisions {
		does := k.check(d)
		if len(decisions) <= maxListed {
			checks = append(checks, does.of(describe(d)))
			continue
		}
		if counts[does]++; counts[does] == 1 {
			kinds, firsts[does] = append(kinds, does), describe(d)
		}
	}
	for _, does := range kinds {
		checks = append(checks, does.of(fmt.Sprintf("%d of %d users, such as %s", counts[does], len(decisions), firsts[does])))
	}
	return checks
}

// of returns the check with what it is about before what was found.
func (c Check) of(subject string) Check {
	c.Found = subject + ": " + c.Found
	return c
}

// check says what the receiver does with the subscriptions to a resource.
func (k *startKeys) check(d subscription.Decision) Check {
	switch {
	case d.Err != nil && k.unread: // one of its own has another URL if that was changed
		return bad(Warn, failure.Of(d.Err), "it occupies the place of this receiver's subscription, unless storage has it as the receiver's own")
	case d.Err != nil:
		return bad(Fail, failure.Of(d.Err), "it occupies the place of this receiver's subscription")
	case d.Action == "create":
		return ok("the receiver creates one when it starts")
	case k.err != nil: // the check of the encryption certificates has the failure
		return skipped("without the encryption key it is not known whether the receiver keeps it")
	case d.Action == "adopt":
		return ok("the receiver keeps it")
	case d.Reason == subscription.ReasonConflict:
		return ok("the receiver replaces it, as subscription.replace_foreign says")
	case k.unknown: // where Graph names no certificate, the reason is another one
		return ok("the receiver keeps it if storage holds its key and it is as configured, else it is replaced")
	case d.Reason != subscription.ReasonRemovedKey:
		return ok("the receiver replaces it when it starts, since it differs from the configuration")
	default:
		return bad(Warn, k.otherKey, "the receiver replaces it when it starts, since it was made with another encryption key")
	}
}

// describe returns the subscriptions to a resource, with no more of their URLs than the host.
func describe(d subscription.Decision) string {
	var all []string
	add := func(whose string, have []graph.Subscription) {
		for _, s := range have {
			all = append(all, fmt.Sprintf("%s %s, to %s, until %s", whose, s.ID, subscription.HostOf(s.NotificationURL),
				s.Expiration.UTC().Format("2006-01-02 15:04Z")))
		}
	}
	add("own", d.Ours)
	add("another's", d.Others)
	if len(all) == 0 {
		return d.Name + ", no subscription"
	}
	return d.Name + ", " + strings.Join(all, " and ")
}
