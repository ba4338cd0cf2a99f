// SPDX-License-Identifier: Apache-2.0

package graphtest

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The lifecycle events: https://learn.microsoft.com/graph/change-notifications-lifecycle-events
const (
	ReauthorizationRequired = "reauthorizationRequired"
	SubscriptionRemoved     = "subscriptionRemoved"
	Missed                  = "missed"
)

// ErrNoSubscription is returned when the subscription does not exist or no longer does.
var ErrNoSubscription = errors.New("no such subscription")

// SendLifecycle notifies every subscription that has a lifecycle endpoint, in the background, and returns their number.
func (e *Emulator) SendLifecycle(ctx context.Context, event string) (int, error) {
	n := 0
	for _, s := range e.subs.active() {
		if s.LifecycleNotificationURL == "" {
			continue
		}
		if err := e.sendLifecycle(ctx, s, event); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func (e *Emulator) sendLifecycle(ctx context.Context, s Subscription, event string) error {
	if err := e.reserve(ctx); err != nil {
		return fmt.Errorf("send %s: %w", event, err)
	}
	e.recorder.update(func(st *Stats) { st.LifecycleOffered++ })
	err := e.send(delivery{subscription: s, items: []Item{e.lifecycleItem(s, event)}, lifecycle: true})
	if err != nil {
		e.recorder.update(func(st *Stats) { st.LifecycleLost++ })
		return fmt.Errorf("send %s: %w", event, err)
	}
	return nil
}

// RemoveSubscription removes a subscription, as Graph may do at any time. If announced, subscriptionRemoved is sent to its lifecycle
// endpoint. Its pending items are lost.
func (e *Emulator) RemoveSubscription(ctx context.Context, id string, announced bool) error {
	s, ok := e.subs.remove(id)
	if !ok {
		return ErrNoSubscription
	}
	if !announced || s.LifecycleNotificationURL == "" {
		return nil
	}
	return e.sendLifecycle(ctx, s, SubscriptionRemoved)
}

// ExpireSubscription sets the expiration of a subscription to at, which may be in the past.
func (e *Emulator) ExpireSubscription(id string, at time.Time) error {
	if _, ok := e.subs.change(id, func(s *Subscription) { s.Expiration = at }); !ok {
		return ErrNoSubscription
	}
	e.subs.removeExpired()
	return nil
}

// ExpireAuthorization ends the authorization of a subscription. Delivery pauses until a PATCH or reauthorize; nothing is lost within
// RetryFor.
func (e *Emulator) ExpireAuthorization(id string) error {
	if _, ok := e.subs.change(id, func(s *Subscription) { s.Authorized = time.Time{} }); !ok {
		return ErrNoSubscription
	}
	return nil
}

// AddSubscription adds a subscription without the checks and the handshake of a request, as if it had existed before the test
// began. It must have an Expiration in the future; an empty ID is filled in.
func (e *Emulator) AddSubscription(s Subscription) (Subscription, error) {
	if s.ID == "" {
		s.ID = newGUID()
	}
	if s.TLSVersion == "" {
		s.TLSVersion = "v1_2"
	}
	now := time.Now()
	s.Created, s.Authorized = now, now
	if apiErr := e.subs.add(s); apiErr != nil {
		return Subscription{}, fmt.Errorf("add a subscription: %s", apiErr.message)
	}
	return s, nil
}

// Subscriptions returns the subscriptions that have not ended, oldest first, with their client state.
func (e *Emulator) Subscriptions() []Subscription { return e.subs.active() }
