package backfill_test

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// fakeIntake counts how often each interaction came.
type fakeIntake struct {
	mu     sync.Mutex
	times  map[string]int
	last   interaction.Received
	refuse func() error
	tries  int
	// slow is how long each call takes.
	slow time.Duration
}

func (i *fakeIntake) Deliver(ctx context.Context, received []interaction.Received) (delivered int, _ error) {
	select {
	case <-time.After(i.slow):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.tries++
	if i.refuse != nil {
		if err := i.refuse(); err != nil {
			return 0, err
		}
	}
	for _, r := range received {
		key := r.UserID + " " + r.ID
		if i.times[key] == 0 {
			delivered++
		}
		i.times[key]++
		i.last = r
	}
	return delivered, nil
}

// snapshot is what came so far.
func (i *fakeIntake) snapshot() *fakeIntake {
	i.mu.Lock()
	defer i.mu.Unlock()
	return &fakeIntake{last: i.last, tries: i.tries}
}

func (i *fakeIntake) distinct() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.times)
}

type fakeTelemetry struct {
	mu             sync.Mutex
	opened, closed map[backfill.Reason]int
	lost           map[backfill.Reason]time.Duration
	found          int
}

func (f *fakeTelemetry) copy() *fakeTelemetry {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &fakeTelemetry{opened: maps.Clone(f.opened), closed: maps.Clone(f.closed), lost: maps.Clone(f.lost), found: f.found}
}

func (f *fakeTelemetry) GapOpened(_ context.Context, r backfill.Reason) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opened[r]++
}

func (f *fakeTelemetry) GapClosed(_ context.Context, r backfill.Reason) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed[r]++
}

func (f *fakeTelemetry) GapLost(_ context.Context, r backfill.Reason, lost time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost[r] += lost
}

func (f *fakeTelemetry) HistoryInteractions(_ context.Context, found int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.found += found
}
