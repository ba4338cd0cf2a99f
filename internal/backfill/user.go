// SPDX-License-Identifier: Apache-2.0

package backfill

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

const (
	// Overlap is how much earlier than its gap a pass begins, since an interaction may appear after others that have a later
	// time. margin extends the end, since Graph takes whole seconds and excludes the end.
	Overlap, margin    = 300 * time.Second, time.Second
	maxDeliveryBackoff = 30 * time.Second
	// deliveryGrace is how long a delivery in flight may take after the context ended, so that the next run does not repeat it.
	deliveryGrace = 10 * time.Second
)

// readUser reads and delivers a user's interactions page by page, each after the next one was learnt, which may have the prompts of
// its responses. A failure of any page fails the user, since page links expire; those before it are delivered, since it may last. It
// returns what was compared, where the pass compares.
func (r *reading) readUser(ctx context.Context, user gap.User) (compared gap.Comparison, err error) {
	from := r.from.Add(-Overlap).Truncate(time.Second)
	to := r.pass.To.Add(time.Second - 1).Truncate(time.Second).Add(margin)
	var page []interaction.Received
	for items, err := range r.b.s.Graph.History(ctx, user.String(), from, to) {
		next := r.receive(user, items)
		r.b.s.Learn(next)
		if failed := r.deliver(ctx, page); failed != nil {
			return gap.Comparison{}, failed
		}
		if err != nil {
			return gap.Comparison{}, err
		}
		page = next
		switch {
		case r.compares():
			page = slices.DeleteFunc(page, r.incomparable)
		case r.pass.Reasons()[0] == gap.Replay:
			page = slices.DeleteFunc(page, func(i interaction.Received) bool { return !r.asked(user, i) })
		}
		compared.Interactions += len(page)
	}
	if err := r.deliver(ctx, page); err != nil {
		return gap.Comparison{}, err
	}
	compared.Users = 1
	return compared, nil
}

// asked reports whether an interaction of a user is to be replayed: by a gap of the pass, or by the configuration, since a gap may be a
// part of an entry.
func (r *reading) asked(user gap.User, i interaction.Received) bool {
	at, known := i.CreatedAt()
	in := func(o gap.Interval) bool {
		return !at.Before(o.From) && at.Before(o.To) && (len(o.Users) == 0 || slices.Contains(o.Users, user))
	}
	return !known || slices.ContainsFunc(r.b.s.Gaps.Rules().Replays, in) ||
		slices.ContainsFunc(r.pass.Gaps, func(g gap.Gap) bool { return in(gap.Interval{From: g.From, To: g.To, Users: g.Scope.Users}) })
}

// receive decodes the items of a user. Unreadable items are counted and skipped.
func (r *reading) receive(user gap.User, items []json.RawMessage) []interaction.Received {
	now := time.Now()
	received := make([]interaction.Received, 0, len(items))
	for _, raw := range items {
		i, err := interaction.Parse(raw)
		if err != nil {
			if r.unreadable.Add(1) == 1 {
				r.b.s.Logger.Warn("history contains an interaction that can't be read and is skipped; further ones are only counted",
					append(failure.New(failure.HistoryUnreadable).Fields(), zap.Error(err))...)
			}
			continue
		}
		received = append(received, interaction.Received{
			Interaction: *i, TenantID: r.b.s.TenantID, Change: interaction.Created, Source: interaction.FromHistory, At: now,
			UserID: user.String(), UserSource: interaction.UserFromHistory,
		})
	}
	return received
}

// deliver delivers interactions until they are accepted, or refused permanently. The error is the context's.
func (r *reading) deliver(ctx context.Context, received []interaction.Received) error {
	reason, delays := r.pass.Reasons()[0], graph.NewBackOff(maxDeliveryBackoff)
	var delivered Delivered
	for len(received) > 0 {
		var err error
		delivered, err = r.deliverOnce(ctx, received, reason)
		if err != nil && ctx.Err() == nil && failure.Permanent(err) {
			if n := int64(len(received)); r.refused.Add(n) == n {
				r.b.s.Logger.Warn("pipeline refuses interactions of the history permanently; further ones are only counted",
					append(failure.Of(failure.WithDefault(err, failure.LogsPipelineRefusing)).Fields(), zap.Error(err))...)
			}
			break
		}
		if err == nil || ctx.Err() == nil {
			r.b.pipeline.Report(err)
		}
		if err == nil {
			break
		}
		if err := graph.Sleep(ctx, delays.NextBackOff()); err != nil {
			return err
		}
	}
	r.found.Add(int64(len(received)))
	r.fresh.Add(int64(delivered.New))
	r.mu.Lock()
	r.pass.Comparison.Recovered += delivered.Recovered
	r.mu.Unlock()
	if reason != gap.Replay && len(received) > 0 {
		r.b.s.Telemetry.HistoryInteractions(ctx, len(received))
	}
	if reason.CountsAsRecovered() && delivered.Recovered > 0 {
		r.b.s.Telemetry.Recovered(ctx, reason, delivered.Recovered)
	}
	return nil
}

// deliverOnce delivers interactions. A delivery in flight may outlast ctx by deliveryGrace.
func (r *reading) deliverOnce(ctx context.Context, received []interaction.Received, reason gap.Reason) (Delivered, error) {
	if err := ctx.Err(); err != nil {
		return Delivered{}, err
	}
	lasting, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	forget := context.AfterFunc(ctx, func() { time.AfterFunc(deliveryGrace, end) })
	defer forget()
	return r.b.s.Deliver(lasting, received, reason)
}
