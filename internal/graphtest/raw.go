package graphtest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// Collection returns the authentic notification of the interactions for the oldest live subscription, for a test to change before it
// posts it. Nothing is sent.
func (e *Emulator) Collection(interactions ...Interaction) (Collection, error) {
	s, err := e.oldest()
	if err != nil {
		return Collection{}, err
	}
	var items []Item
	for _, i := range interactions {
		one, err := i.essence()
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

// LifecycleCollection returns the authentic notification of a lifecycle event for the oldest live subscription.
func (e *Emulator) LifecycleCollection(event string) (Collection, error) {
	s, err := e.oldest()
	if err != nil {
		return Collection{}, err
	}
	return Collection{Value: []Item{e.lifecycleItem(s, event)}}, nil
}

// Post sends the notification once to the oldest live subscription and returns the status of the answer.
func (e *Emulator) Post(ctx context.Context, c Collection) (int, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return 0, fmt.Errorf("post: %w", err)
	}
	return e.PostRaw(ctx, body, nil)
}

// PostRaw sends any body once to the notification URL of the oldest live subscription and returns the status of the answer. The
// header's fields replace the usual ones.
func (e *Emulator) PostRaw(ctx context.Context, body []byte, header http.Header) (int, error) {
	s, err := e.oldest()
	if err != nil {
		return 0, err
	}
	return e.PostTo(ctx, s.NotificationURL, body, header)
}

// PostTo sends any body once to any URL.
func (e *Emulator) PostTo(ctx context.Context, target string, body []byte, header http.Header) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, e.settings.RetryTimeout)
	defer cancel()
	a := Acknowledgement{Attempt: 1, At: time.Now()}
	a.Status, a.Err = e.exchange(ctx, target, body, header)
	a.Latency = time.Since(a.At)
	e.records.acknowledged(a)
	if a.Err != nil {
		return 0, fmt.Errorf("post: %w", a.Err)
	}
	return a.Status, nil
}

func (e *Emulator) oldest() (Subscription, error) {
	live := e.subs.live()
	if len(live) == 0 {
		return Subscription{}, ErrNoSubscription
	}
	return live[0], nil
}
