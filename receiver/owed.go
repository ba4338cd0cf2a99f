package receiver

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
)

// addPending is called with mu held, as is all of this file. What begins earlier for the same reason contains it.
func (c *gapTracker) addPending(reason backfill.Reason, from time.Time) {
	contains := func(d pendingGap) bool { return d.Reason == reason && !d.From.After(from) }
	if !slices.ContainsFunc(c.pending, contains) {
		c.pending = append(c.pending, pendingGap{Reason: reason, From: from})
	}
}

// openPending opens what was owed, now that a subscription lives, and tells whether everything is on record.
func (c *gapTracker) openPending(ctx context.Context, at time.Time) bool {
	first := at
	for _, d := range c.pending {
		from := d.From
		if from.Before(begin()) {
			from = at.Add(-c.fallbackLookback)
		}
		c.gaps.Open(backfill.Gap{Reason: d.Reason, From: from, To: at.Add(subscriptionWarmup)})
		if from.Before(first) {
			first = from
		}
	}
	if len(c.pending) > 0 && c.explain != nil {
		c.explain(first, at.Add(subscriptionWarmup))
	}
	c.opened, c.pending = append(c.opened, c.pending...), nil
	return c.allStored(ctx)
}

// begin is long before there was anything to receive: a clock that shows an earlier time has not been set yet.
func begin() time.Time { return time.Date(1990, time.January, 1, 0, 0, 0, 0, time.UTC) }

// allStored tells whether every gap that was opened is in the book's storage, and all else that is owed in this one's.
func (c *gapTracker) allStored(ctx context.Context) bool {
	if len(c.opened) > 0 {
		ctx, cancel := context.WithTimeout(ctx, recordTimeout)
		defer cancel()
		if c.gaps.Flush(ctx) != nil {
			return false // which is logged, and tried again at the next check
		}
		c.opened = nil
		c.unsaved = true
	}
	if c.unsaved {
		c.storePending(ctx)
	}
	return !c.unsaved && c.loaded
}

// unopened is what is owed and not in the book.
func (c *gapTracker) unopened() []pendingGap {
	return slices.AppendSeq(slices.Clone(c.pending), maps.Values(c.down))
}

// maxStoredResources is how many subscriptions are written down one by one. With more that are down, each of them would write
// them all, and a second time when it is restored.
const maxStoredResources = 100

// storedGaps is what the next run has to know, in an order of its own. Where it is much, the next run reads for all users what
// is missing of any of them.
func (c *gapTracker) storedGaps() []pendingGap {
	var owed []pendingGap
	if len(c.down) <= maxStoredResources {
		owed = append(c.unopened(), c.opened...)
	} else {
		owed = slices.Concat(c.pending, c.opened)
		first := map[backfill.Reason]time.Time{}
		for _, d := range c.down {
			if from, found := first[d.Reason]; !found || d.From.Before(from) {
				first[d.Reason] = d.From
			}
		}
		for reason, from := range first {
			owed = append(owed, pendingGap{Reason: reason, From: from})
		}
	}
	for i := range owed {
		owed[i].From = owed[i].From.Round(0).UTC()
	}
	slices.SortFunc(owed, func(a, b pendingGap) int {
		return cmp.Or(cmp.Compare(a.Reason, b.Reason), a.From.Compare(b.From), cmp.Compare(a.Resource, b.Resource))
	})
	return owed
}

// storePending keeps what is owed for the next run.
func (c *gapTracker) storePending(ctx context.Context) {
	owed := c.storedGaps()
	wasBehind := c.unsaved
	if c.unsaved = !c.loaded; c.unsaved || len(owed) == 0 && !c.kept || len(owed) > 0 && slices.Equal(owed, c.recorded) {
		return
	}
	err := c.records.setPendingGaps(ctx, owed)
	c.kept = err != nil || len(owed) > 0
	c.unsaved = err != nil
	if c.recorded = owed; err != nil {
		c.recorded = nil
	}
	if err != nil && !wasBehind {
		c.logger.Warn("the gaps that are about to be opened can't be kept: a restart now forgets them", zap.Error(err))
	}
}

func (c *gapTracker) writeCheckpoint(ctx context.Context, at time.Time) {
	c.checkpoint = at
	err := c.records.setInstant(ctx, checkpointKey, at)
	wasFailing := c.failing
	if c.failing = err != nil; err != nil && !wasFailing {
		c.logger.Warn("the mark of the last good check can't be kept: a restart will read more history than it has to", zap.Error(err))
	}
}
