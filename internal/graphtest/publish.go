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
// lives. It blocks while MaxPending notifications are on their way; an error means that some were not offered. What no
// subscription was offered counts as Unheard and is among the Lost.
func (e *Emulator) Publish(ctx context.Context, interactions ...Interaction) (int, error) {
	happened, err := e.happen(interactions)
	if err != nil {
		return 0, err
	}
	e.records.update(func(s *Stats) { s.Published += len(happened) })
	faults := e.faults.delivering()
	if e.faults.happens(faults.Reorder) {
		e.faults.shuffle(happened)
	}
	return e.notify(ctx, happened)
}

// notify offers what happened to the subscriptions that want it.
func (e *Emulator) notify(ctx context.Context, happened []essence) (offered int, err error) {
	heard := make(map[change]bool, len(happened))
	defer func() { e.records.unheard(unheard(happened, heard)...) }()
	for _, s := range e.subs.live() {
		for batch := range slices.Chunk(e.wanted(s, happened), e.settings.BatchSize) {
			if err := e.offer(ctx, s, batch); err != nil {
				return offered, err
			}
			offered += len(batch)
			for _, i := range batch {
				heard[i.change()] = true
			}
		}
	}
	return offered, nil
}

// change tells one of what happened from the others.
type change struct{ session, id, kind string }

func (e essence) change() change { return change{e.session, e.id, e.Change} }

func unheard(happened []essence, heard map[change]bool) []string {
	var ids []string
	for _, h := range happened {
		if !heard[h.change()] {
			ids = append(ids, h.id)
		}
	}
	return ids
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
		e.records.update(func(st *Stats) { st.Offered -= len(batch) })
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
