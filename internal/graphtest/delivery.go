// SPDX-License-Identifier: Apache-2.0

package graphtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
)

// maxResponseBytes is how much of a response is read, so that the connection can be reused.
const maxResponseBytes = 64 << 10

// delivery is one notification that is being delivered.
type delivery struct {
	subscription Subscription
	items        []Item
	// ids are the ids of the interactions; empty for lifecycle events.
	ids       []string
	lifecycle bool
}

// deliver posts until the endpoint acknowledges, RetryFor is over, the subscription is removed or the emulator is closed:
// https://learn.microsoft.com/graph/change-notifications-delivery-webhooks#processing-the-change-notification
func (e *Emulator) deliver(ctx context.Context, d delivery) {
	deadline := time.Now().Add(e.settings.RetryFor)
	for attempt, wait := 1, e.settings.RetryDelay; ; {
		s, ok := e.currentSubscription(d)
		if !ok {
			e.recorder.addLost(d.ids...)
			return
		}
		if d.lifecycle || e.authorized(s) {
			if e.attempt(ctx, s, d, attempt).Delivered() {
				e.recordDelivery(ctx, s, d, attempt)
				return
			}
			if attempt++; attempt > 2 {
				wait = min(2*wait, e.settings.MaxRetryDelay)
			}
		} else {
			e.recorder.update(func(s *Stats) { s.Paused++ })
		}
		if time.Now().Add(wait).After(deadline) {
			e.giveUp(d)
			return
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

// currentSubscription returns the current state of the subscription. Once it is removed, only lifecycle events are still delivered:
// they announce the removal.
func (e *Emulator) currentSubscription(d delivery) (Subscription, bool) {
	if s, ok := e.subs.get(d.subscription.ID); ok {
		return s, true
	}
	return d.subscription, d.lifecycle
}

// authorized reports whether the subscription's authorization is still valid.
func (e *Emulator) authorized(s Subscription) bool {
	if s.Authorized.IsZero() {
		return false
	}
	lifetime := e.settings.AuthorizationLifetime
	return lifetime == 0 || time.Since(s.Authorized) < lifetime
}

func (e *Emulator) attempt(ctx context.Context, s Subscription, d delivery, attempt int) Acknowledgement {
	timeout := e.settings.RetryTimeout
	if attempt == 1 {
		timeout = e.settings.FirstTimeout
	}
	target, c := s.NotificationURL, Collection{Value: d.items}
	if d.lifecycle {
		target = s.LifecycleNotificationURL
	} else {
		c = e.collection(s, d.items)
	}
	body, err := json.Marshal(c)
	a := Acknowledgement{SubscriptionID: s.ID, Lifecycle: d.lifecycle, Items: len(d.items), Attempt: attempt, Err: err}
	if err == nil {
		e.post(ctx, target, body, timeout, &a)
	}
	e.recorder.addAcknowledgement(a)
	return a
}

// post waits for a free slot, sends the body once and stores the result in a.
func (e *Emulator) post(ctx context.Context, target string, body []byte, timeout time.Duration, a *Acknowledgement) {
	select {
	case e.slots <- struct{}{}:
		defer func() { <-e.slots }()
	case <-ctx.Done():
		a.Err = context.Cause(ctx)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	a.At = time.Now()
	a.Status, a.Err = e.exchange(ctx, target, body, nil)
	a.Latency = time.Since(a.At)
}

// exchange posts and returns the status. A response that is not complete before ctx ends is an error.
func (e *Emulator) exchange(ctx context.Context, target string, body []byte, header http.Header) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	for name, values := range header {
		request.Header[http.CanonicalHeaderKey(name)] = values
	}
	response, err := e.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, io.LimitReader(response.Body, maxResponseBytes)); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil { // a response may still arrive just after the deadline
		return 0, err
	}
	return response.StatusCode, nil
}

func (e *Emulator) recordDelivery(ctx context.Context, s Subscription, d delivery, attempt int) {
	duplicate := !d.lifecycle && e.faults.roll(e.faults.deliveryFaults().Duplicate)
	e.recorder.update(func(st *Stats) {
		if d.lifecycle {
			st.LifecycleAcknowledged++
			return
		}
		st.Acknowledged += len(d.items)
		if duplicate {
			st.Duplicates += len(d.items)
		}
	})
	if duplicate {
		e.attempt(ctx, s, d, attempt+1)
	}
}

func (e *Emulator) giveUp(d delivery) {
	if d.lifecycle {
		e.recorder.update(func(s *Stats) { s.LifecycleLost++ })
		return
	}
	e.recorder.addLost(d.ids...)
}

// DeliveryFaults are what unordered at-least-once delivery may do, each with a probability between 0 and 1.
type DeliveryFaults struct {
	// Duplicate sends a notification again after it was acknowledged.
	Duplicate float64
	// Reorder shuffles the interactions of a Publish.
	Reorder float64
	// Drop loses a notification without sending it, as Graph does for an endpoint in drop state.
	Drop float64
}

// SetDeliveryFaults replaces the delivery faults for notifications published from now on.
func (e *Emulator) SetDeliveryFaults(faults DeliveryFaults) {
	e.faults.mu.Lock()
	defer e.faults.mu.Unlock()
	e.faults.delivery = faults
}

// Publish adds the interactions to the history of their users and notifies every subscription that covers them in the background, with
// up to BatchSize items in a notification. It returns the number of items offered to subscriptions, 0 if none exists. It blocks
// while MaxPending notifications are pending; an error means that some items were not offered. An interaction that was offered to no
// subscription counts as Stats.Uncovered and is in Lost.
func (e *Emulator) Publish(ctx context.Context, interactions ...Interaction) (int, error) {
	parsed, err := e.addToHistory(interactions)
	if err != nil {
		return 0, err
	}
	e.recorder.update(func(s *Stats) { s.Published += len(parsed) })
	faults := e.faults.deliveryFaults()
	if e.faults.roll(faults.Reorder) {
		e.faults.shuffle(parsed)
	}
	return e.notify(ctx, parsed)
}

// notify offers the interactions to the subscriptions that cover them.
func (e *Emulator) notify(ctx context.Context, parsed []parsedInteraction) (offered int, err error) {
	covered := make(map[changeKey]bool, len(parsed))
	defer func() { e.recorder.addUncovered(uncovered(parsed, covered)...) }()
	for _, s := range e.subs.active() {
		for batch := range slices.Chunk(e.wantedBy(s, parsed), e.settings.BatchSize) {
			if err := e.offer(ctx, s, batch); err != nil {
				return offered, err
			}
			offered += len(batch)
			for _, i := range batch {
				covered[i.changeKey()] = true
			}
		}
	}
	return offered, nil
}

// changeKey identifies one change of one interaction.
type changeKey struct{ session, id, kind string }

func (p parsedInteraction) changeKey() changeKey { return changeKey{p.session, p.id, p.Change} }

func uncovered(parsed []parsedInteraction, covered map[changeKey]bool) []string {
	var ids []string
	for _, h := range parsed {
		if !covered[h.changeKey()] {
			ids = append(ids, h.id)
		}
	}
	return ids
}

// wantedBy returns the interactions that the subscription covers.
func (e *Emulator) wantedBy(s Subscription, parsed []parsedInteraction) []parsedInteraction {
	resource, _ := parseResource(s.Resource)
	var wanted []parsedInteraction
	for _, i := range parsed {
		mine := resource.user == "" || resource.user == i.UserID
		if mine && s.wants(i.Change) && resource.filter.matches(i.JSON) {
			wanted = append(wanted, i)
		}
	}
	return wanted
}

// offer encrypts the batch and sends it in the background.
func (e *Emulator) offer(ctx context.Context, s Subscription, batch []parsedInteraction) error {
	d := delivery{subscription: s}
	for _, i := range batch {
		item, err := e.item(s, i)
		if err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		d.items, d.ids = append(d.items, item), append(d.ids, i.id)
	}
	if err := e.reserve(ctx); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	e.recorder.update(func(st *Stats) { st.Offered += len(batch) })
	if e.faults.roll(e.faults.deliveryFaults().Drop) {
		<-e.pending
		e.recorder.addLost(d.ids...)
		return nil
	}
	if err := e.send(d); err != nil {
		e.recorder.update(func(st *Stats) { st.Offered -= len(batch) })
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

// reserve takes one of the MaxPending places, waiting for one if necessary. A free place is taken even if ctx has ended.
func (e *Emulator) reserve(ctx context.Context) error {
	select {
	case e.pending <- struct{}{}:
		return nil
	default:
	}
	select {
	case e.pending <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-e.ctx.Done():
		return ErrClosed
	}
}

// send starts the delivery in a goroutine of its own, which frees the place that reserve took.
func (e *Emulator) send(d delivery) error {
	err := e.spawn(func(ctx context.Context) {
		defer func() { <-e.pending }()
		e.deliver(ctx, d)
	})
	if err != nil {
		<-e.pending
	}
	return err
}

// Collection returns the authentic notification of the interactions for the oldest subscription, for a test to modify before it
// posts it. Nothing is sent.
func (e *Emulator) Collection(interactions ...Interaction) (Collection, error) {
	s, err := e.oldestSubscription()
	if err != nil {
		return Collection{}, err
	}
	var items []Item
	for _, i := range interactions {
		one, err := i.parse()
		if err != nil {
			return Collection{}, err
		}
		item, err := e.item(s, one)
		if err != nil {
			return Collection{}, err
		}
		items = append(items, item)
	}
	return e.collection(s, items), nil
}

// LifecycleCollection returns the authentic notification of a lifecycle event for the oldest subscription. Nothing is sent.
func (e *Emulator) LifecycleCollection(event string) (Collection, error) {
	s, err := e.oldestSubscription()
	if err != nil {
		return Collection{}, err
	}
	return Collection{Value: []Item{e.lifecycleItem(s, event)}}, nil
}

// Post sends the notification once to the oldest subscription's notification URL and returns the status of the answer.
func (e *Emulator) Post(ctx context.Context, c Collection) (int, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return 0, fmt.Errorf("post: %w", err)
	}
	return e.PostRaw(ctx, body, nil)
}

// PostRaw sends any body once to the oldest subscription's notification URL and returns the status of the answer. The
// header's fields replace the usual ones.
func (e *Emulator) PostRaw(ctx context.Context, body []byte, header http.Header) (int, error) {
	s, err := e.oldestSubscription()
	if err != nil {
		return 0, err
	}
	return e.PostTo(ctx, s.NotificationURL, body, header)
}

// PostTo sends any body once to any URL and returns the status of the answer.
func (e *Emulator) PostTo(ctx context.Context, target string, body []byte, header http.Header) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, e.settings.RetryTimeout)
	defer cancel()
	a := Acknowledgement{Attempt: 1, At: time.Now()}
	a.Status, a.Err = e.exchange(ctx, target, body, header)
	a.Latency = time.Since(a.At)
	e.recorder.addAcknowledgement(a)
	if a.Err != nil {
		return 0, fmt.Errorf("post: %w", a.Err)
	}
	return a.Status, nil
}

func (e *Emulator) oldestSubscription() (Subscription, error) {
	active := e.subs.active()
	if len(active) == 0 {
		return Subscription{}, ErrNoSubscription
	}
	return active[0], nil
}
