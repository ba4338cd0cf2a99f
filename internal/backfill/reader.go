package backfill

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

const (
	// Overlap is how much earlier than its gap a reading begins, since an interaction may appear with a time before others
	// that were there already.
	Overlap = 300 * time.Second
	// margin widens the end, as Graph takes whole seconds and excludes them.
	margin = time.Second
	// mostPages bounds what is read of one user in one go: a million interactions.
	mostPages = 10_000

	longestRefusal = 30 * time.Second
	// handOver is how long a delivery under way may take after the end: what the pipeline takes while nobody waits any more
	// would be delivered again by the next run.
	handOver = 10 * time.Second
)

// passStats is what happened in a reading.
type passStats struct {
	// found counts all interactions that were taken, fresh those that were not delivered before.
	found, fresh, refused, unreadable atomic.Int64
	// without counts the users who have no history: no license, or nobody has that id.
	without atomic.Int64
	// failure is the last one of a single user, nil for none.
	failure atomic.Pointer[Failure]
}

// readUser reads what happened to a user between two times, and hands it on page by page. A failure between pages fails all
// of it, and the next try begins anew: a page may be missing, and links to pages end.
func (f *Backfiller) readUser(ctx context.Context, name string, from, to time.Time, t *passStats) error {
	from = from.Add(-Overlap).Truncate(time.Second)
	to = to.Add(time.Second - 1).Truncate(time.Second).Add(margin)
	next, seen := "", map[string]bool{}
	for range mostPages {
		page, err := f.ask(ctx, name, from, to, next)
		if err != nil {
			return err
		}
		if err := f.deliver(ctx, f.receive(name, page.Items, t), t); err != nil {
			return err
		}
		if page.Next == "" {
			return nil
		}
		if next = page.Next; seen[next] {
			return errEndless
		}
		seen[next] = true
	}
	return errEndless
}

// ask reads one page, however long Graph asks to wait for it.
func (f *Backfiller) ask(ctx context.Context, name string, from, to time.Time, next string) (graph.HistoryPage, error) {
	for {
		if err := f.throttle.Wait(ctx); err != nil {
			return graph.HistoryPage{}, err
		}
		started := time.Now()
		page, err := f.s.Graph.History(ctx, name, from, to, next)
		if err != nil && ctx.Err() != nil {
			return graph.HistoryPage{}, ctx.Err()
		}
		if v := f.throttle.Observe(started, name, err); v != throttled && v != denied {
			return page, err
		}
	}
}

// receive decodes what Graph sent of a user. What can't be read is counted and left out.
func (f *Backfiller) receive(name string, items []json.RawMessage, t *passStats) []interaction.Received {
	now := time.Now()
	received := make([]interaction.Received, 0, len(items))
	for _, item := range items {
		i, err := interaction.Parse(item)
		if err != nil {
			if t.unreadable.Add(1) == 1 {
				f.s.Logger.Warn("history holds an interaction that can't be read and is skipped; further ones are counted only", zap.Error(err))
			}
			continue
		}
		change := interaction.Created
		if i.ETag != "" && i.ETag != i.ID {
			change = interaction.Updated
		}
		received = append(received, interaction.Received{
			Interaction: *i,
			TenantID:    f.s.TenantID,
			Change:      change,
			Source:      interaction.FromHistory,
			At:          now,
			UserID:      name,
			UserSource:  interaction.UserFromHistory,
		})
	}
	return received
}

// take hands interactions in, and waits for that beyond the end of ctx.
func (f *Backfiller) take(ctx context.Context, received []interaction.Received) (fresh int, _ error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	lasting, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	forget := context.AfterFunc(ctx, func() { time.AfterFunc(handOver, end) })
	defer forget()
	return f.s.Intake.Deliver(lasting, received)
}

// deliver hands interactions in until they are taken, or refused for good.
func (f *Backfiller) deliver(ctx context.Context, received []interaction.Received, t *passStats) error {
	if len(received) == 0 {
		return nil
	}
	for try := 1; ; try++ {
		fresh, err := f.take(ctx, received)
		if err == nil {
			t.fresh.Add(int64(fresh))
			f.refusing.Store(false)
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if f.s.Permanent(err) {
			if t.refused.Add(int64(len(received))) == int64(len(received)) {
				f.s.Logger.Warn("pipeline refuses interactions of the history for good; further ones are counted only", zap.Error(err))
			}
			break
		}
		if !f.refusing.Swap(true) {
			f.s.Logger.Warn("pipeline does not take interactions of the history, which are handed in again until it does", zap.Error(err))
		}
		if err := sleep(ctx, backoff(try, longestRefusal)); err != nil {
			return err
		}
	}
	t.found.Add(int64(len(received)))
	f.s.Telemetry.HistoryInteractions(ctx, len(received))
	return nil
}
