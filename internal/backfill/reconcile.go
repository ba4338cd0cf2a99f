package backfill

import (
	"slices"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// compares reports whether the pass is a reconciliation: it compares the history with what was delivered, and ignores what it
// can't compare.
func (r *reading) compares() bool { return r.pass.Reasons()[0] == gap.Reconcile }

// comparable returns the parts of the pass of which it is known what was delivered, in order.
func (r *reading) comparable() (parts []Interval) {
	from := r.pass.From
	for _, unknown := range append(r.b.s.Cache.Incomplete(r.pass.From, r.pass.To), Interval{From: r.pass.To}) {
		if from.Before(unknown.From) {
			parts = append(parts, Interval{from, unknown.From})
		}
		from = later(from, unknown.To)
	}
	return parts
}

// incomparable reports whether an interaction can't be compared. That is decided when it is delivered, since the cache may have
// evicted entries meanwhile.
func (r *reading) incomparable(i interaction.Received) bool {
	at, known := i.CreatedAt()
	return !known || at.Before(r.interval.From) || !at.Before(r.interval.To) || !r.b.s.Cache.Complete(at)
}

// outcome ends a reconciliation: it decides and logs what was proved. It is empty where the outcome of the day does not change.
func (r *reading) outcome() gap.Outcome {
	if !r.compares() || r.pass.Second() {
		return ""
	}
	p, cache, compared := r.pass, r.b.s.Cache, r.pass.Comparison
	incomplete := cache.Incomplete(p.From, p.To)
	notified, entries := r.notified(), 0
	outcome, level, hint := gap.Incomplete, zapcore.WarnLevel, zap.Skip()
	switch {
	case p.Scope().All() && 10*compared.Interactions < 9*notified:
		outcome = gap.Inconclusive
		hint = zap.String("hint", "the history has far fewer interactions than notifications have brought, so it proves nothing, and the time is compared once more: "+
			"check that AiEnterpriseInteraction.Read.All is granted, and whether a retention policy deletes interactions")
	case len(incomplete) > 0:
		if entries = cache.EntriesFor(time.Since(p.From)); entries > 0 {
			hint = zap.String("hint", "the dedupe cache is too small to know what was delivered: raise dedupe.max_entries to max_entries")
		} else {
			hint = zap.String("hint", "after an unclean end, or a damaged value in storage, it is not known what was delivered: check the storage extension")
		}
	case len(r.failed) > 0:
		hint = zap.String("hint", "the history of some users can't be read, and is compared as soon as it can be")
	default:
		outcome, level = gap.Complete, zapcore.InfoLevel
	}
	fields := []zap.Field{
		zap.String("result", string(outcome)), zap.Time("from", p.From), zap.Time("to", p.To), zap.Int("users", compared.Users),
		zap.Int("users_failed", len(r.failed)), zap.Bool("all_users_known", !p.Partial), zap.Int("interactions", compared.Interactions),
		zap.Int("recovered", compared.Recovered), zap.Int("notified", notified), hint,
	}
	if len(incomplete) > 0 {
		fields = append(fields, zap.Time("incomplete_from", incomplete[0].From), zap.Time("incomplete_to", incomplete[len(incomplete)-1].To))
	}
	if entries > 0 {
		fields = append(fields, zap.Int("max_entries", entries))
	}
	r.b.s.Logger.Log(level, "history reconciled", fields...)
	if !p.Scope().All() {
		return "" // Users who had failed are compared late, and the day stays incomplete.
	}
	return outcome
}

// notified returns how many interactions the notifications brought of what was compared.
func (r *reading) notified() (n int) {
	failed := gap.SortUsers(slices.Clone(r.failed))
	read := slices.DeleteFunc(r.b.s.Directory.Awake(slices.Clone(r.all), time.Now()), func(u gap.User) bool {
		_, found := slices.BinarySearchFunc(failed, u, gap.User.Compare)
		return found
	})
	for _, part := range r.comparable() {
		n += r.b.s.Cache.Notified(part.From, part.To, read)
	}
	return n
}

func sum(a, b gap.Comparison) gap.Comparison {
	return gap.Comparison{Users: a.Users + b.Users, Interactions: a.Interactions + b.Interactions, Recovered: a.Recovered + b.Recovered}
}
