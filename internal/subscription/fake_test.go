// SPDX-License-Identifier: Apache-2.0

package subscription_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// call is one request to the fake.
type call struct {
	op  string // list, create, renew, delete
	id  string // of renew and delete; the resource of create
	at  time.Time
	got graph.Subscription // the request of create
}

// fakeGraph stores subscriptions as Graph does: one for each resource, regardless of the filter, with ids that are never
// reused, and until they expire.
type fakeGraph struct {
	mu      sync.Mutex
	subs    []graph.Subscription
	created int
	calls   []call
	// fail may refuse a call before it has an effect.
	fail func(c call) error
	// granted, unless 0, is the lifetime that is granted instead of the requested one.
	granted time.Duration
	// omitCertificateID omits the certificate id from lists.
	omitCertificateID bool
	// listLag is how long lists do not show a new subscription or a renewal.
	listLag   time.Duration
	createdAt map[string]time.Time
	// deleteLag is how long lists still show a deleted subscription.
	deleteLag time.Duration
	deleted   []deleted
	// outdated are the subscriptions before their renewal, which a lagging list shows.
	outdated map[string]graph.Subscription
	// rewrite changes a subscription before it is stored.
	rewrite func(s *graph.Subscription)
}

type deleted struct {
	sub graph.Subscription
	at  time.Time
}

func graphError(status int, code string, wait time.Duration) error {
	return &graph.Error{Operation: "call", Status: status, Code: code, RequestID: "r-1", RetryAfter: wait}
}

// record records a call, drops expired subscriptions, and returns the error of fail if there is one.
func (f *fakeGraph) record(ctx context.Context, c call) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.at = time.Now()
	f.calls = append(f.calls, c)
	f.subs = slices.DeleteFunc(f.subs, func(s graph.Subscription) bool { return !s.Expiration.After(c.at) })
	if f.fail != nil {
		return f.fail(c)
	}
	return nil
}

func (f *fakeGraph) ListSubscriptions(ctx context.Context) ([]graph.Subscription, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.record(ctx, call{op: "list"}); err != nil {
		return nil, err
	}
	all := slices.Clone(f.subs)
	for _, d := range f.deleted {
		if time.Since(d.at) < f.deleteLag {
			all = append(all, d.sub)
		}
	}
	var shown []graph.Subscription
	for _, s := range all {
		if time.Since(f.createdAt[s.ID]) < f.listLag {
			continue
		}
		if old, found := f.outdated[s.ID]; found && time.Since(f.createdAt[s.ID+" renewed"]) < f.listLag {
			s.Expiration = old.Expiration
		}
		s.ClientState, s.EncryptionCertificate = "", nil
		if f.omitCertificateID {
			s.EncryptionCertificateID = ""
		}
		shown = append(shown, s)
	}
	return shown, nil
}

func (f *fakeGraph) CreateSubscription(ctx context.Context, s graph.Subscription) (graph.Subscription, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.record(ctx, call{op: "create", id: s.Resource, got: s}); err != nil {
		return graph.Subscription{}, err
	}
	for _, other := range f.subs {
		if strings.EqualFold(slot(other), slot(s)) {
			if slices.Equal(other.ChangeTypes, s.ChangeTypes) {
				return graph.Subscription{}, graphError(http.StatusConflict, "ExtensionError", 0)
			}
			return graph.Subscription{}, graphError(http.StatusForbidden, "Forbidden", 0)
		}
	}
	f.created++
	s.ID = fmt.Sprintf("s%d", f.created)
	return f.add(s), nil
}

func slot(s graph.Subscription) string {
	before, _, _ := strings.Cut(strings.TrimPrefix(s.Resource, "/"), "?")
	return before
}

// put adds a subscription that existed before the test.
func (f *fakeGraph) put(s graph.Subscription) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.add(s)
}

func (f *fakeGraph) add(s graph.Subscription) graph.Subscription {
	s.Expiration = f.grant(s.Expiration)
	if f.rewrite != nil {
		f.rewrite(&s)
	}
	if f.createdAt == nil {
		f.createdAt = map[string]time.Time{}
	}
	f.createdAt[s.ID] = time.Now()
	f.subs = append(f.subs, s)
	return s
}

func (f *fakeGraph) grant(asked time.Time) time.Time {
	if f.granted != 0 {
		return time.Now().Add(f.granted)
	}
	return asked
}

func (f *fakeGraph) RenewSubscription(ctx context.Context, id string, asked time.Time) (graph.Subscription, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.record(ctx, call{op: "renew", id: id}); err != nil {
		return graph.Subscription{}, err
	}
	for i := range f.subs {
		if f.subs[i].ID == id {
			f.outdated, f.createdAt[id+" renewed"] = map[string]graph.Subscription{id: f.subs[i]}, time.Now()
			f.subs[i].Expiration = f.grant(asked)
			return f.subs[i], nil
		}
	}
	return graph.Subscription{}, graphError(http.StatusNotFound, "ResourceNotFound", 0)
}

func (f *fakeGraph) DeleteSubscription(ctx context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.record(ctx, call{op: "delete", id: id}); err != nil {
		return err
	}
	i := slices.IndexFunc(f.subs, func(s graph.Subscription) bool { return s.ID == id })
	if i < 0 {
		return nil
	}
	f.deleted = append(f.deleted, deleted{f.subs[i], time.Now()})
	f.subs = slices.Delete(f.subs, i, i+1)
	return nil
}

// vanish removes a subscription without a lifecycle event.
func (f *fakeGraph) vanish(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.subs = slices.DeleteFunc(f.subs, func(s graph.Subscription) bool { return s.ID == id })
}

// failWith sets fail.
func (f *fakeGraph) failWith(fail func(c call) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fail
}

// count returns how many calls of the given operations there were.
func (f *fakeGraph) count(ops ...string) int { return len(f.callsOf(ops...)) }

// callsOf returns the calls of the given operations, all without any.
func (f *fakeGraph) callsOf(ops ...string) []call {
	f.mu.Lock()
	defer f.mu.Unlock()
	var found []call
	for _, c := range f.calls {
		if len(ops) == 0 || slices.Contains(ops, c.op) {
			found = append(found, c)
		}
	}
	return found
}

// activeIDs returns the ids of the subscriptions that have not expired.
func (f *fakeGraph) activeIDs() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var ids []string
	for _, s := range f.subs {
		if s.Expiration.After(time.Now()) {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// seconds returns the times of calls, in seconds after a time.
func seconds(calls []call, after time.Time) []float64 {
	var s []float64
	for _, c := range calls {
		s = append(s, c.at.Sub(after).Seconds())
	}
	return s
}

// countLocked is count for a fail function.
func (f *fakeGraph) countLocked(op string) int {
	n := 0
	for _, c := range f.calls {
		if c.op == op {
			n++
		}
	}
	return n
}
