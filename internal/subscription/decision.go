// SPDX-License-Identifier: Apache-2.0

package subscription

import (
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// Decision is what a Manager does first about one resource.
type Decision struct {
	// Resource is that of Settings, and Name stands for it in texts: tenant, or users[0].
	Resource, Name string
	// Action is adopt, create, replace or leave.
	Action string
	// Reason is that of replace, and Err says why leave can do nothing.
	Reason Reason
	Err    error
	// Ours are the subscriptions to the resource that belong to this receiver, and Others those of the same application that don't.
	Ours, Others []graph.Subscription
}

// Decide returns what a Manager with these settings, of which it needs no more than those before RenewOnAdopt, does when it starts:
// known is what storage holds, and have are all subscriptions of the application. It calls nothing.
func Decide(s Settings, known []Known, have []graph.Subscription, now time.Time) []Decision {
	m := New(s)
	m.use(known)
	ours, others := map[string][]graph.Subscription{}, map[string][]graph.Subscription{}
	for _, h := range have {
		switch {
		case expired(h, now):
		case m.ours(h, s.NotificationURL):
			ours[path(h.Resource)] = append(ours[path(h.Resource)], h)
		default:
			others[path(h.Resource)] = append(others[path(h.Resource)], h)
		}
	}
	actions, _ := plan(m.wanted(), have, m.facts, now)
	decisions := make([]Decision, 0, len(actions))
	for i, a := range actions {
		r := m.resources[i]
		decisions = append(decisions, Decision{
			Resource: r.resource, Name: r.name, Action: string(a.verb), Reason: a.reason, Err: a.err,
			Ours: ours[path(r.resource)], Others: others[path(r.resource)],
		})
	}
	return decisions
}
