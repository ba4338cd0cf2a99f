package graphtest

import (
	"context"
	"fmt"
	"slices"
)

// Stats returns the counts so far.
func (e *Emulator) Stats() Stats {
	e.subs.sweep()
	return e.records.snapshot()
}

// Requests returns the calls of clients in the order of their end; of all operations when none is named.
func (e *Emulator) Requests(operations ...Operation) []Request {
	e.records.mu.Lock()
	defer e.records.mu.Unlock()
	var requests []Request
	for _, r := range e.records.requests {
		if len(operations) == 0 || slices.Contains(operations, r.Operation) {
			requests = append(requests, r)
		}
	}
	return requests
}

// Acknowledgements returns the answers to handshakes and notifications in the order in which they came.
func (e *Emulator) Acknowledgements() []Acknowledgement {
	e.records.mu.Lock()
	defer e.records.mu.Unlock()
	return slices.Clone(e.records.acks)
}

// Lost returns the ids of the interactions that only the history has: not acknowledged within RetryFor, or their subscription
// went (Stats.Lost), or none was there for them (Stats.Unheard).
func (e *Emulator) Lost() []string {
	e.records.mu.Lock()
	defer e.records.mu.Unlock()
	return slices.Clone(e.records.lost)
}

// Violations returns what a client did that Microsoft warns of without refusing it.
func (e *Emulator) Violations() []string {
	e.records.mu.Lock()
	defer e.records.mu.Unlock()
	return slices.Clone(e.records.violations)
}

// Wait blocks until done says so of the counts, or ctx ends.
func (e *Emulator) Wait(ctx context.Context, done func(Stats) bool) error {
	if err := e.records.wait(ctx, done); err != nil {
		return fmt.Errorf("wait for the emulator: %w", err)
	}
	return nil
}

// WaitSubscribed blocks until a subscription lives and returns the oldest one.
func (e *Emulator) WaitSubscribed(ctx context.Context) (Subscription, error) {
	var found Subscription
	err := e.Wait(ctx, func(Stats) bool {
		live := e.subs.live()
		if len(live) > 0 {
			found = live[0]
		}
		return len(live) > 0
	})
	return found, err
}

// WaitDelivered blocks until n items in all were acknowledged with 2xx.
func (e *Emulator) WaitDelivered(ctx context.Context, n int) error {
	return e.Wait(ctx, func(s Stats) bool { return s.Acknowledged >= n })
}

// WaitIdle blocks until nothing is on its way: every item offered was acknowledged or lost.
func (e *Emulator) WaitIdle(ctx context.Context) error {
	return e.Wait(ctx, func(s Stats) bool {
		return s.Offered == s.Acknowledged+s.Lost && s.LifecycleOffered == s.LifecycleAcknowledged+s.LifecycleLost
	})
}

// WaitRequests blocks until the operation was called n times in all.
func (e *Emulator) WaitRequests(ctx context.Context, op Operation, n int) error {
	return e.Wait(ctx, func(s Stats) bool { return s.Requests[op] >= n })
}
