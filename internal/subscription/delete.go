package subscription

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Delete deletes the subscriptions in use, and one whose creation was cut off by the end of Run but succeeded all the
// same. It is called after Run returned.
func (k *Manager) Delete(ctx context.Context) error {
	var errs []error
	for _, w := range k.resources {
		if !w.active {
			continue
		}
		if err := k.remove(ctx, w.sub.ID); err != nil {
			errs = append(errs, fmt.Errorf("delete subscription %s: %w", w.sub.ID, err))
			continue
		}
		w.end(time.Now())
		k.event("subscription deleted", w)
	}
	if k.cutOff {
		errs = append(errs, k.deleteCutOff(ctx))
	}
	k.publish()
	return errors.Join(errs...)
}

func (k *Manager) deleteCutOff(ctx context.Context) error {
	have, err := k.s.Graph.ListSubscriptions(ctx)
	if err != nil {
		return fmt.Errorf("look for the subscription whose creation was cut off: %w", err)
	}
	var errs []error
	for _, w := range k.resources {
		want := k.s.wanted(w.resource)
		for _, h := range have {
			if !k.facts().serves(h, want) {
				continue
			}
			if err := k.remove(ctx, h.ID); err != nil {
				errs = append(errs, fmt.Errorf("delete subscription %s: %w", h.ID, err))
			}
		}
	}
	k.cutOff = len(errs) > 0
	return errors.Join(errs...)
}
