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
	count := ok("%d of the app registration", len(have))
	if others := len(have) - existing(decisions); others > 0 {
		count = ok("%d of the app registration, %d of them expired or for other resources", len(have), others)
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
	// unknown says that storage may hold the key, and that the doctor can't read it.
	unknown bool
	// otherKey is the failure of a subscription that was made with another key.
	otherKey failure.Failure
	// err says why configured keys can't be used.
	err error
}

func (t *target) startKeys() startKeys {
	// Where there is no key, the receiver makes one. Its id is none that a subscription has.
	k := startKeys{Keys: subscription.Keys{CertificateID: "new"}}
	var ring notification.Ring
	switch {
	case len(t.settings.Certificates) > 0:
		k.otherKey = failure.New(failure.CertificateMissing)
		ring, k.err = receiver.ReadKeys(t.settings.Certificates)
	case t.settings.Storage == nil:
		k.otherKey = failure.New(failure.KeyInMemory)
	case t.stored == nil:
		k.unknown = true
	default:
		k.otherKey, ring = failure.New(failure.SubscriptionKeyConflict), t.stored.Generated
	}
	if len(ring) > 0 {
		k.Keys = receiver.SubscriptionKeys(ring, t.settings.TenantID, t.settings.ClientID)
	}
	return k
}

// checkAll returns a check for each resource, or for those of many that have the same in common.
func (k *startKeys) checkAll(decisions []subscription.Decision) []Check {
	type kind struct {
		action string
		reason subscription.Reason
		code   failure.Code
	}
	var kinds []kind
	counts, firsts := map[kind]int{}, map[kind]subscription.Decision{}
	var checks []Check
	for _, d := range decisions {
		if len(decisions) <= maxListed {
			checks = append(checks, k.check(d, describe(d)))
			continue
		}
		which := kind{d.Action, d.Reason, failure.Of(d.Err).Code}
		if counts[which]++; counts[which] == 1 {
			kinds, firsts[which] = append(kinds, which), d
		}
	}
	for _, which := range kinds {
		first := firsts[which]
		checks = append(checks, k.check(first, fmt.Sprintf("%d of %d users, such as %s", counts[which], len(decisions), describe(first))))
	}
	return checks
}

// check says what the receiver does with the subscriptions to a resource, which what describes.
func (k *startKeys) check(d subscription.Decision, what string) Check {
	switch {
	case d.Err != nil:
		return bad(Fail, failure.Of(d.Err), "%s: it occupies the place of this receiver's subscription", what)
	case d.Action == "create":
		return ok("%s: the receiver creates one when it starts", what)
	case k.err != nil: // the check of the encryption certificates has the failure
		return skipped("%s: without the encryption key it is not known whether the receiver keeps it", what)
	case d.Action == "adopt":
		return ok("%s: the receiver keeps it", what)
	case d.Reason == subscription.ReasonConflict:
		return ok("%s: the receiver replaces it, as subscription.replace_foreign says", what)
	case d.Reason != subscription.ReasonRemovedKey:
		return ok("%s: the receiver replaces it when it starts, since it differs from the configuration", what)
	case k.unknown:
		return ok("%s: the receiver keeps it if storage holds its key, else it is replaced", what)
	default:
		return bad(Warn, k.otherKey, "%s: the receiver replaces it when it starts, since it was made with another encryption key", what)
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
