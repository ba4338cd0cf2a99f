package subscription

import (
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// Decision is what a Manager does first about one resource.
type Decision struct {
	// Resource is that of Settings, and Name stands for it in texts: tenant, or users[0].
	Resource, Name string
	// Action is adopt, create, replace, or leave where Err says why nothing can be done.
	Action string
	// Subscription is the one that is adopted; for replace one that delivers until then, if any.
	Subscription graph.Subscription
	// Deleted are those that replace deletes.
	Deleted []graph.Subscription
	Err     error
}

// Decide returns what a Manager with these settings, of which it needs no more than those before RenewOnAdopt, does when it starts:
// known is what storage holds, and have are all subscriptions of the application. It calls nothing.
func Decide(s Settings, known []Known, have []graph.Subscription, now time.Time) []Decision {
	m := New(s)
	m.use(known)
	actions, _ := plan(m.wanted(), have, m.facts, now)
	decisions := make([]Decision, 0, len(actions))
	for i, a := range actions {
		decisions = append(decisions, Decision{
			Resource: m.resources[i].resource, Name: m.resources[i].name, Action: string(a.verb), Subscription: a.have,
			Deleted: append(a.surplus, a.conflicting...), Err: a.err,
		})
	}
	return decisions
}

// Owns reports whether a subscription of the application is this receiver's: it has its notification URL, or is known from storage.
func Owns(s Settings, known []Known, have graph.Subscription) bool {
	m := New(s)
	m.use(known)
	return m.ours(have, s.NotificationURL)
}
