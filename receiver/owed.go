package receiver

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/history"
)

// owe is called with mu held, as is all of this file. What begins earlier for the same reason contains it.
func (c *continuity) owe(reason history.Reason, from time.Time) {
	contains := func(d debt) bool { return d.Reason == reason && !d.From.After(from) }
	if !slices.ContainsFunc(c.owed, contains) {
		c.owed = append(c.owed, debt{Reason: reason, From: from})
	}
}

// settle opens what was owed, now that a subscription lives, and tells whether everything is on record.
func (c *continuity) settle(ctx context.Context, at time.Time) bool {
	first := at
	for _, d := range c.owed {
		from := d.From
		if from.Before(begin()) {
			from = at.Add(-c.doubt)
		}
		c.gaps.Open(history.Gap{Reason: d.Reason, From: from, To: at.Add(settling)})
		if from.Before(first) {
			first = from
		}
	}
	if len(c.owed) > 0 && c.explain != nil {
		c.explain(first, at.Add(settling))
	}
	c.opened, c.owed = append(c.opened, c.owed...), nil
	return c.written(ctx)
}

// begin is long before there was anything to receive: a clock that shows an earlier time has not been set yet.
func begin() time.Time { return time.Date(1990, time.January, 1, 0, 0, 0, 0, time.UTC) }

// written tells whether every gap that was opened is in the book's storage, and all else that is owed in this one's.
func (c *continuity) written(ctx context.Context) bool {
	if len(c.opened) > 0 {
		ctx, cancel := context.WithTimeout(ctx, recordTimeout)
		defer cancel()
		if c.gaps.Flush(ctx) != nil {
			return false // which is logged, and tried again at the next check
		}
		c.opened = nil
		c.behind = true
	}
	if c.behind {
		c.remember(ctx)
	}
	return !c.behind && c.loaded
}

// pending is what is owed and not in the book.
func (c *continuity) pending() []debt {
	return slices.AppendSeq(slices.Clone(c.owed), maps.Values(c.down))
}

// mostKept is how many subscriptions are written down one by one. With more that are down, each of them would write
// them all, and a second time when it is restored.
const mostKept = 100

// toKeep is what the next run has to know, in an order of its own. Where it is much, the next run reads for all users what
// is missing of any of them.
func (c *continuity) toKeep() []debt {
	var owed []debt
	if len(c.down) <= mostKept {
		owed = append(c.pending(), c.opened...)
	} else {
		owed = slices.Concat(c.owed, c.opened)
		first := map[history.Reason]time.Time{}
		for _, d := range c.down {
			if from, found := first[d.Reason]; !found || d.From.Before(from) {
				first[d.Reason] = d.From
			}
		}
		for reason, from := range first {
			owed = append(owed, debt{Reason: reason, From: from})
		}
	}
	for i := range owed {
		owed[i].From = owed[i].From.Round(0).UTC()
	}
	slices.SortFunc(owed, func(a, b debt) int {
		return cmp.Or(cmp.Compare(a.Reason, b.Reason), a.From.Compare(b.From), cmp.Compare(a.Resource, b.Resource))
	})
	return owed
}

// remember keeps what is owed for the next run.
func (c *continuity) remember(ctx context.Context) {
	owed := c.toKeep()
	wasBehind := c.behind
	if c.behind = !c.loaded; c.behind || len(owed) == 0 && !c.kept || len(owed) > 0 && slices.Equal(owed, c.recorded) {
		return
	}
	err := c.records.setOwed(ctx, owed)
	c.kept = err != nil || len(owed) > 0
	c.behind = err != nil
	if c.recorded = owed; err != nil {
		c.recorded = nil
	}
	if err != nil && !wasBehind {
		c.logger.Warn("the gaps that are about to be opened can't be kept: a restart now forgets them", zap.Error(err))
	}
}

func (c *continuity) write(ctx context.Context, at time.Time) {
	c.mark = at
	err := c.records.setInstant(ctx, markKey, at)
	wasFailing := c.failing
	if c.failing = err != nil; err != nil && !wasFailing {
		c.logger.Warn("the mark of the last good check can't be kept: a restart will read more history than it has to", zap.Error(err))
	}
}
