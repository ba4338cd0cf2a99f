package graphtest

import (
	"context"
	"fmt"
	"slices"
)

// DeliveryFaults are what at-least-once delivery without order may do, each with a chance between 0 and 1.
type DeliveryFaults struct {
	// Duplicate sends a notification again although it was acknowledged.
	Duplicate float64
	// Reorder mixes up the interactions of a Publish.
	Reorder float64
	// Drop loses a notification without a try. Graph does that to an endpoint in drop state.
	Drop float64
}

// SetDeliveryFaults changes how notifications travel from now on.
func (e *Emulator) SetDeliveryFaults(faults DeliveryFaults) {
	e.faults.mu.Lock()
	defer e.faults.mu.Unlock()
	e.faults.delivery = faults
}

// Publish makes the interactions happen. They enter the history of their users, and every subscription that wants them is notified
// in the background, up to BatchSize in a notification. It returns the number of items offered to subscriptions: 0 when none
// lives. It blocks while MaxPending notifications are on their way; an error means that some were not offered.
func (e *Emulator) Publish(ctx context.Context, interactions ...Interaction) (int, error) {
	happened := make([]essence, 0, len(interactions))
	for _, i := range interactions {
		one, err := i.essence()
		if err != nil {
			return 0, err
		}
		e.users.attribute(&one)
		happened = append(happened, one)
	}
	e.history.add(happened...)
	e.records.update(func(s *Stats) { s.Published += len(happened) })
	faults := e.faults.delivering()
	if e.faults.happens(faults.Reorder) {
		e.faults.shuffle(happened)
	}
	offered := 0
	for _, s := range e.subs.live() {
		for batch := range slices.Chunk(e.wanted(s, happened), e.settings.BatchSize) {
			if err := e.offer(ctx, s, batch); err != nil {
				return offered, err
			}
			offered += len(batch)
		}
	}
	return offered, nil
}

// wanted returns what the subscription is told of.
func (e *Emulator) wanted(s Subscription, happened []essence) []essence {
	resource, _ := parseResource(s.Resource)
	var wanted []essence
	for _, i := range happened {
		mine := resource.user == "" || resource.user == i.UserID
		if mine && s.wants(i.Change) && resource.filter.passes(i.JSON) {
			wanted = append(wanted, i)
		}
	}
	return wanted
}

// offer seals the batch and sends it in the background.
func (e *Emulator) offer(ctx context.Context, s Subscription, batch []essence) error {
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
	e.records.update(func(st *Stats) { st.Offered += len(batch) })
	if e.faults.happens(e.faults.delivering().Drop) {
		<-e.pending
		e.records.lose(d.ids...)
		return nil
	}
	if err := e.send(d); err != nil {
		e.records.lose(d.ids...)
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

// reserve takes room for one more delivery. Room that is free is taken even when ctx has ended.
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

// send hands the delivery, for which room was reserved, to a goroutine of its own.
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
