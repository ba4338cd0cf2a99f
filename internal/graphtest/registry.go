package graphtest

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// registry holds the subscriptions that live, the oldest first.
type registry struct {
	records *recorder

	mu    sync.Mutex // guards what follows
	subs  []Subscription
	lists []time.Time // of the last lists, for their limit
}

func newRegistry(records *recorder) *registry { return &registry{records: records} }

// sweep drops what has expired.
func (g *registry) sweep() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sweepLocked()
}

func (g *registry) sweepLocked() {
	before := len(g.subs)
	now := time.Now()
	g.subs = slices.DeleteFunc(g.subs, func(s Subscription) bool { return !s.Expiration.After(now) })
	if len(g.subs) != before {
		g.toldLocked()
	}
}

// toldLocked wakes those who wait for a subscription. The recorder's lock is taken inside the registry's, never the other
// way round.
func (g *registry) toldLocked() {
	n := len(g.subs)
	g.records.update(func(s *Stats) { s.Subscriptions = n })
}

func (g *registry) live() []Subscription {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sweepLocked()
	return slices.Clone(g.subs)
}

func (g *registry) get(id string) (Subscription, bool) {
	for _, s := range g.live() {
		if s.ID == id {
			return s, true
		}
	}
	return Subscription{}, false
}

// conflict tells why the subscription can't be added: the same one exists already, or the quota is used up.
// https://learn.microsoft.com/graph/change-notifications-overview#latency and its quotas
func (g *registry) conflict(s Subscription) *graphError {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.conflictLocked(s)
}

func (g *registry) conflictLocked(s Subscription) *graphError {
	g.sweepLocked()
	wanted, _ := parseResource(s.Resource)
	for _, other := range g.subs {
		held, _ := parseResource(other.Resource)
		if held == wanted && sameChanges(other.ChangeType, s.ChangeType) {
			return &graphError{
				http.StatusConflict, "Conflict",
				fmt.Sprintf("Subscription Id <%s> already exists for the requested combination", other.ID),
			}
		}
	}
	for _, other := range g.subs {
		if held, _ := parseResource(other.Resource); held.user == wanted.user {
			return &graphError{
				http.StatusForbidden, "Forbidden",
				"The application has reached the maximum number of subscriptions (1) for this resource in the tenant.",
			}
		}
	}
	return nil
}

// add takes the subscription in unless another one came first.
func (g *registry) add(s Subscription) *graphError {
	g.mu.Lock()
	defer g.mu.Unlock()
	if refused := g.conflictLocked(s); refused != nil {
		return refused
	}
	g.subs = append(g.subs, s)
	g.toldLocked()
	return nil
}

// change applies f to the subscription; false: it does not live.
func (g *registry) change(id string, f func(*Subscription)) (Subscription, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sweepLocked()
	i := slices.IndexFunc(g.subs, func(s Subscription) bool { return s.ID == id })
	if i < 0 {
		return Subscription{}, false
	}
	f(&g.subs[i])
	g.toldLocked()
	return g.subs[i], true
}

func (g *registry) remove(id string) (Subscription, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sweepLocked()
	i := slices.IndexFunc(g.subs, func(s Subscription) bool { return s.ID == id })
	if i < 0 {
		return Subscription{}, false
	}
	gone := g.subs[i]
	g.subs = slices.Delete(g.subs, i, i+1)
	g.toldLocked()
	return gone, true
}

// The limit of GET /subscriptions for an application in a tenant: https://learn.microsoft.com/graph/throttling-limits
const (
	listLimit  = 25
	listWindow = 20 * time.Second
)

// admitList returns how long the client must wait before it may list again, 0 for now.
func (g *registry) admitList(now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lists = slices.DeleteFunc(g.lists, func(at time.Time) bool { return now.Sub(at) >= listWindow })
	if len(g.lists) >= listLimit {
		return g.lists[0].Add(listWindow).Sub(now)
	}
	g.lists = append(g.lists, now)
	return 0
}
