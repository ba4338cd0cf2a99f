// SPDX-License-Identifier: Apache-2.0

package backfill

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

const (
	// storeInterval and logInterval are the times between two updates of the stored progress, and two log lines about it.
	storeInterval, logInterval = time.Second, 30 * time.Second
	// maxUserAttempts is how often a user is tried in a pass. Once maxFailed have failed, the pass waits until users can be read.
	maxUserAttempts, maxFailed = 3, 1000
	maxUserBackoff             = 5 * time.Minute
	forbiddenThreshold         = 20 // forbidden users mean a missing permission where no user could be read
	// maxPace bounds how long the next pass for the same reason waits because this one took so long: it may have waited for Graph.
	maxPace = time.Hour
)

// reading is a pass while it is read.
type reading struct {
	b     *Backfiller
	pass  *gap.Pass
	began time.Time
	from  time.Time // from which on each user is read, without the overlap
	// all are the users in order, todo those of them that are left to read.
	all, todo        []gap.User
	storing, logging rate.Sometimes

	mu           sync.Mutex             // guards what follows
	next, stored int                    // the first of todo who was neither read nor has failed, now and when the progress was stored
	ended        map[int]gap.Comparison // those after next
	// done and failed are about the whole pass, before counts those of an earlier run.
	done, before int
	failed       []gap.User
	failure      error // of the last user who failed
	answered     bool  // whether the history of a user could be read
	forbidden    int

	found, fresh, refused, unreadable, unlicensed atomic.Int64 // for the log
}

// read reads a pass to its end, or until the context ends: then the next run goes on with it.
func (b *Backfiller) read(ctx context.Context, p *gap.Pass) {
	r := &reading{
		b: b, pass: p, began: time.Now(), from: p.From, failed: slices.Clone(p.Failed), ended: map[int]gap.Comparison{},
		storing: rate.Sometimes{Interval: storeInterval}, logging: rate.Sometimes{Interval: logInterval},
	}
	if r.compares() {
		r.from = r.comparedFrom()
	}
	if r.selectUsers(ctx) != nil {
		return
	}
	b.current.Store(r)
	defer b.current.Store(nil)
	r.log("reading history", zap.Bool("all_users_known", !p.Partial))
	missing := r.readUsers(ctx)
	if ctx.Err() != nil {
		return
	}
	took := time.Since(r.began)
	end := gap.End{Partial: p.Partial, Failed: gap.SortUsers(r.failed), Took: min(took, maxPace)}
	if missing != nil {
		b.s.Graph.PermissionMissing(missing)
		b.s.Gaps.Update(ctx, (*gap.State).Abort)
		return
	}
	end.Outcome = r.outcome()
	b.s.Gaps.Update(ctx, func(s *gap.State, now time.Time) { s.Finish(end, now) })
	if r.failure != nil {
		b.someUsers.Report(r.failure, graph.CodeField(r.failure), zap.Int("users", len(r.failed)))
	} else if p.Scope().All() || p.Retry() {
		b.someUsers.Report(nil)
	}
	r.log("history read", zap.Int64("users_without_history", r.unlicensed.Load()),
		zap.Int64("interactions", r.found.Load()), zap.Int64("interactions_new", r.fresh.Load()), zap.Int64("refused", r.refused.Load()),
		zap.Int64("unreadable", r.unreadable.Load()), zap.Stringer("took", took.Round(time.Millisecond)))
}

// selectUsers selects the users to read. It returns the context's error.
func (r *reading) selectUsers(ctx context.Context) (err error) {
	scope, known := r.pass.Scope(), true
	switch {
	case !r.from.Before(r.pass.To): // nothing is read of anybody
	case len(scope.Users) > 0:
		r.all = scope.Users
	case len(r.b.s.Users) > 0:
		r.all = r.b.s.Users
	default:
		if r.all, known, err = r.b.s.Directory.List(ctx, scope.SeenSince); err != nil {
			return err
		}
	}
	r.pass.Partial = r.pass.Partial || !known
	left := slices.Clone(r.all)
	if cursor := r.pass.Cursor; cursor != nil {
		left = slices.DeleteFunc(left, func(u gap.User) bool { return u.Compare(*cursor) <= 0 })
	}
	r.answered = len(r.all)-len(left) > len(r.failed)
	unread := r.pass.From
	if r.compares() {
		unread = time.Now() // The interval is not known to be missing.
	}
	r.todo = r.b.s.Directory.Awake(left, unread)
	r.before = len(r.all) - len(r.todo)
	r.done = r.before - len(r.failed)
	return nil
}

// readUsers reads the users, several at once, and stores the progress. It returns the refusal if a permission is missing.
func (r *reading) readUsers(ctx context.Context) error {
	r.logging.Do(func() {}) // nothing is logged before the first interval is over
	workers, working := errgroup.WithContext(ctx)
	workers.SetLimit(r.b.s.Concurrency)
	for i := 0; i < len(r.todo) && working.Err() == nil; i++ {
		workers.Go(func() error { return r.work(working, i) })
	}
	err := workers.Wait()
	r.store(ctx)
	return err
}

// work tries a user until the history was read or the user has failed. It returns the refusal if a permission is missing.
func (r *reading) work(ctx context.Context, i int) error {
	delays := graph.NewBackOff(maxUserBackoff)
	for try := 1; ; try++ {
		compared, err := r.readUser(ctx, r.todo[i])
		if err != nil && ctx.Err() != nil {
			return nil
		}
		// A permission is not granted within seconds, and a gap that is tried again will be once more.
		last := graph.Forbidden(err) || r.pass.Retry() || try >= maxUserAttempts
		if err == nil || graph.Unlicensed(err) || last {
			if ended, missing := r.end(i, err, compared); missing {
				return err
			} else if ended {
				r.storing.Do(func() { r.store(ctx) })
				r.logging.Do(func() { r.log("history is being read", zap.Stringer("time_left", r.progress().TimeLeft)) })
				return nil
			}
			r.b.s.Graph.Failing(err)
		}
		if graph.Sleep(ctx, delays.NextBackOff()) != nil {
			return nil
		}
	}
}

// end notes the outcome of a user, unless too many have failed: then this one is tried again. It returns whether a permission must
// be missing.
func (r *reading) end(i int, err error, compared gap.Comparison) (ended, missing bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch user := r.todo[i]; {
	case err == nil:
		r.done, r.answered = r.done+1, true
		r.b.s.Directory.HasHistory(user)
	case graph.Unlicensed(err):
		r.done, r.answered = r.done+1, true
		r.unlicensed.Add(1)
		r.b.s.Directory.Rest(user, r.pass.From)
	case len(r.failed) >= maxFailed:
		return false, false
	default:
		r.failed, r.failure = append(r.failed, user), err
	}
	if graph.Forbidden(err) {
		r.forbidden++
	}
	r.ended[i] = compared
	for one, found := r.ended[r.next]; found; one, found = r.ended[r.next] {
		r.pass.Comparison.Users += one.Users
		r.pass.Comparison.Interactions += one.Interactions
		delete(r.ended, r.next)
		r.next++
	}
	// Where single users are tried again, it is they who may not be read.
	applies := !r.answered && (r.pass.Scope().All() || !r.pass.Retry())
	return true, applies && graph.Forbidden(err) && r.forbidden >= min(forbiddenThreshold, len(r.todo))
}

// store stores the progress, for the case of a restart. Rests are stored before, since their users count as read.
func (r *reading) store(ctx context.Context) {
	r.mu.Lock()
	if r.next == r.stored {
		r.mu.Unlock()
		return
	}
	r.stored, r.pass.Cursor = r.next, &r.todo[r.next-1]
	p := *r.pass
	p.Failed = slices.DeleteFunc(slices.Clone(r.failed), func(u gap.User) bool { return u.Compare(*p.Cursor) > 0 })
	r.mu.Unlock()
	_ = r.b.s.Directory.Save(ctx) // a failure is logged there, and the write is repeated later
	r.b.s.Gaps.Record(ctx, func(s *gap.State, _ time.Time) { s.Pass = &p })
}

func (r *reading) progress() Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	ended := r.done + len(r.failed)
	p := Progress{Done: r.done, Failed: len(r.failed), Left: len(r.all) - ended}
	if n := ended - r.before; n > 0 {
		p.TimeLeft = time.Duration(float64(time.Since(r.began)) / float64(n) * float64(p.Left)).Round(time.Second)
	}
	return p
}

// log logs an event of the pass. What happens all the time is of interest only while debugging.
func (r *reading) log(message string, fields ...zap.Field) {
	p, reasons, level, users := r.pass, r.pass.Reasons(), zapcore.InfoLevel, r.progress()
	if p.Second() || reasons[0] == gap.Poll || reasons[0] == gap.Reconcile || p.Gaps[0].Rested() {
		level = zapcore.DebugLevel
	}
	r.b.s.Logger.Log(level, message, append([]zap.Field{
		zap.Any("reasons", reasons), zap.Time("from", p.From), zap.Time("to", p.To), zap.Bool("second_pass", p.Second()),
		zap.Int("users_done", users.Done), zap.Int("users_left_for_later", users.Failed), zap.Int("users", len(r.all)),
	}, fields...)...)
}
