package graphtest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"
)

// maxAnswerBytes of an answer are read, so that the connection can be used again.
const maxAnswerBytes = 64 << 10

// delivery is one notification on its way.
type delivery struct {
	subscription Subscription
	items        []Item
	// ids are those of the interactions; empty for lifecycle events.
	ids       []string
	lifecycle bool
}

// deliver posts until the endpoint acknowledges, RetryFor is over, the subscription is gone or the emulator closes:
// https://learn.microsoft.com/graph/change-notifications-delivery-webhooks#processing-the-change-notification
func (e *Emulator) deliver(ctx context.Context, d delivery) {
	deadline := time.Now().Add(e.settings.RetryFor)
	for attempt, wait := 1, e.settings.RetryDelay; ; {
		s, ok := e.addressee(d)
		if !ok {
			e.records.lose(d.ids...)
			return
		}
		if d.lifecycle || e.authorized(s) {
			if e.attempt(ctx, s, d, attempt).Delivered() {
				e.delivered(ctx, s, d, attempt)
				return
			}
			if attempt++; attempt > 2 {
				wait = min(2*wait, e.settings.MaxRetryDelay)
			}
		} else {
			e.records.update(func(s *Stats) { s.Paused++ })
		}
		if time.Now().Add(wait).After(deadline) {
			e.giveUp(d)
			return
		}
		if !pause(ctx, wait) {
			return
		}
	}
}

// addressee returns the subscription as it is now. Items die with it; a lifecycle event tells of its end.
func (e *Emulator) addressee(d delivery) (Subscription, bool) {
	if s, ok := e.subs.get(d.subscription.ID); ok {
		return s, true
	}
	return d.subscription, d.lifecycle
}

// authorized tells whether the token under which the endpoint is called still counts.
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
	e.records.acknowledged(a)
	return a
}

// post fills in the answer.
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

// exchange posts and returns the status; an answer that does not end in time is none.
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
	if _, err := io.Copy(io.Discard, io.LimitReader(response.Body, maxAnswerBytes)); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil { // a response may still slip through after the end of its time
		return 0, err
	}
	return response.StatusCode, nil
}

func (e *Emulator) delivered(ctx context.Context, s Subscription, d delivery, attempt int) {
	again := !d.lifecycle && e.faults.happens(e.faults.delivering().Duplicate)
	e.records.update(func(st *Stats) {
		if d.lifecycle {
			st.LifecycleAcknowledged++
			return
		}
		st.Acknowledged += len(d.items)
		if again {
			st.Duplicates += len(d.items)
		}
	})
	if again {
		e.attempt(ctx, s, d, attempt+1)
	}
}

func (e *Emulator) giveUp(d delivery) {
	if d.lifecycle {
		e.records.update(func(s *Stats) { s.LifecycleLost++ })
		return
	}
	e.records.lose(d.ids...)
}
