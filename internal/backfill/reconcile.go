// SPDX-License-Identifier: Apache-2.0

package backfill

import (
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// compares reports whether the pass is a reconciliation, which ignores what it can't compare.
func (r *reading) compares() bool { return r.pass.Reasons()[0] == gap.Reconcile }

// comparedFrom returns the time from which on it is known what was delivered, and which is not too old, at most the end of the pass.
func (r *reading) comparedFrom() time.Time {
	return gap.Earlier(gap.Later(r.pass.From, gap.Later(r.b.s.Cache.CompleteFrom(), r.horizon())), r.pass.To)
}

// horizon returns how far back a reconciliation reads now: the cache keeps what was delivered little longer.
func (r *reading) horizon() (horizon time.Time) {
	r.b.s.Gaps.View(func(_ *gap.State, now time.Time) { horizon = now.Add(-r.b.s.Gaps.Rules().MaxGap) })
	return horizon
}

// incomparable reports whether an interaction can't be compared; the cache may have evicted entries since the pass began.
func (r *reading) incomparable(i interaction.Received) bool {
	at, known := i.CreatedAt()
	return !known || at.Before(r.comparedFrom()) || !at.Before(r.pass.To)
}

// outcome ends a reconciliation: it decides and logs what was proved. It is empty where the outcome of the day does not change.
func (r *reading) outcome() gap.Outcome {
	if !r.compares() || r.pass.Second() {
		return ""
	}
	p, compared, from := r.pass, r.pass.Comparison, r.comparedFrom()
	notified := r.b.s.Cache.Notified(from, p.To, r.usersRead())
	fields := []zap.Field{
		zap.Time("from", p.From), zap.Time("to", p.To), zap.Int("users", compared.Users), zap.Int("users_failed", len(r.failed)),
		zap.Bool("all_users_known", !p.Partial), zap.Int("interactions", compared.Interactions),
		zap.Int("recovered", compared.Recovered), zap.Int("notified", notified),
	}
	outcome, level, reason := gap.Incomplete, zapcore.WarnLevel, failure.Failure{}
	switch {
	case p.Scope().All() && 10*compared.Interactions < 9*notified:
		outcome, reason = gap.Inconclusive, failure.New(failure.HistoryInconclusive)
	case from.After(p.From):
		why, more := r.incomplete(from)
		reason, fields = why, append(fields, more...)
		fields = append(fields, zap.Time("incomplete_from", p.From), zap.Time("incomplete_to", from))
	case len(r.failed) > 0:
		reason = failure.New(failure.HistoryOfUsersFailing)
	default:
		outcome, level = gap.Complete, zapcore.InfoLevel
	}
	fields = append(fields, zap.String("result", string(outcome)))
	r.b.s.Logger.Log(level, "history reconciled", append(fields, reason.Fields()...)...)
	if !p.Scope().All() {
		return "" // Users who had failed are compared late, and the day stays incomplete.
	}
	return outcome
}

// incomplete returns why nothing is compared before a time, with the number to set where that is the reason.
func (r *reading) incomplete(from time.Time) (why failure.Failure, fields []zap.Field) {
	entries, allowed := r.b.s.Cache.EntriesFor(time.Since(r.pass.From))
	switch {
	case !r.horizon().Before(from):
		return failure.New(failure.HistoryTooOld), nil
	case entries == 0:
		return failure.New(failure.DeliveriesUnknown), nil
	case !allowed:
		return failure.New(failure.DedupeCacheTooSmall, "shorten history.reconcile.interval, since dedupe.max_entries can't be as large as needed"), nil
	}
	return failure.New(failure.DedupeCacheTooSmall, fmt.Sprintf("raise dedupe.max_entries to %d", entries)),
		[]zap.Field{zap.Int("max_entries", entries)}
}

// usersRead returns the users whose history was read.
func (r *reading) usersRead() []gap.User {
	failed := map[gap.User]bool{}
	for _, user := range r.failed {
		failed[user] = true
	}
	return slices.DeleteFunc(r.b.s.Directory.Awake(slices.Clone(r.all), time.Now()), func(user gap.User) bool { return failed[user] })
}
