package backfill

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// progressInterval is the time between two lines about a reading under way.
const progressInterval = 30 * time.Second

// read reads the current reading to its end, or until the context ends: then it goes on with the next start.
func (f *Backfiller) read(ctx context.Context, r *pass) {
	list, err := f.selectUsers(ctx, r)
	if err != nil {
		return
	}
	suspicious := forbiddenMeansAll
	if r.kind() == kindFailedUsers {
		suspicious = 0
	}
	q := newQueue(list.todo, list.total, suspicious)
	q.done -= len(list.late)
	q.late = list.late
	q.probeUser = f.probeUser()
	t := &passStats{}
	p := newEstimate(q)
	f.estimate.Store(p)
	defer f.estimate.Store(nil)
	f.log("reading history", r, zap.Int("users_done", p.before), zap.Int("users", list.total), zap.Bool("all_users_known", list.known))

	over := make(chan struct{})
	var telling, workers sync.WaitGroup
	telling.Go(func() { f.logProgress(r, p, t, over) })
	for range min(f.s.Concurrency, len(list.todo)) {
		workers.Go(func() { f.work(ctx, r, q, t) })
	}
	workers.Wait()
	close(over)
	telling.Wait()
	if ctx.Err() != nil {
		return
	}
	f.finish(ctx, r, passResult{partial: !list.known, failed: f.failedUsers(r, q.late)}, t.failure.Load())
	done, late, total := q.state()
	f.log("history read", r, zap.Int("users_done", done), zap.Int("users_left_for_later", late), zap.Int("users", total),
		zap.Int64("users_without_history", t.without.Load()),
		zap.Int64("interactions", t.found.Load()), zap.Int64("interactions_new", t.fresh.Load()), zap.Int64("refused", t.refused.Load()), zap.Int64("unreadable", t.unreadable.Load()),
		zap.Stringer("took", time.Since(p.began).Round(time.Millisecond)))
}

// work reads users until none is left.
func (f *Backfiller) work(ctx context.Context, r *pass, q *queue, t *passStats) {
	for {
		one, found := q.next(ctx)
		if !found {
			return
		}
		name := f.names.of(one.user)
		from, to := f.window(r, one.user)
		err := f.readUser(ctx, name, from, to, t)
		if ctx.Err() != nil && err != nil {
			q.giveBack()
			return
		}
		v := classify(err)
		if v > unlicensed {
			t.failure.Store(newFailure(err, name))
		}
		switch {
		case one.again: // it is in the list of those done already
		case v == unlicensed:
			t.without.Add(1)
			f.unlicensed.put(one.user, time.Now(), time.Now().Add(-leaveAlone))
			f.progress().add(one.user)
		case v == ok:
			f.unlicensed.take(one.user)
			f.progress().add(one.user)
		}
		q.settle(one, v, func() { f.throttle.Pause(err, name) })
		f.signal()
	}
}

// finish notes in the book that a reading is over. The failure is an example for the users that could not be read.
func (f *Backfiller) finish(ctx context.Context, r *pass, e passResult, failure *Failure) {
	var c change
	f.mu.Lock()
	f.gaps.finish(e, time.Now(), &c)
	f.done.start(0)
	f.unsaved = true
	f.mu.Unlock()
	f.signal()
	f.report(ctx, c)
	if len(e.failed) > 0 && r.kind() != kindFailedUsers {
		fields := []zap.Field{zap.Int("users", len(e.failed))}
		if failure != nil {
			fields = append(fields, present("code", graph.Code(failure.Err)), zap.String("hint", graph.Hint(failure.Err)),
				zap.String("error", failure.text))
		}
		f.s.Logger.Warn("the history of some users can't be read, their gaps stay open, will be tried again", fields...)
	}
}

func (f *Backfiller) failedUsers(r *pass, users []user) []failedUser {
	late := make([]failedUser, 0, len(users))
	for _, u := range users {
		from, to := f.window(r, u)
		late = append(late, failedUser{user: u, from: from, to: to})
	}
	return late
}

// logProgress logs the progress of a reading until it is over, as long as there is any.
func (f *Backfiller) logProgress(r *pass, p *estimate, t *passStats, over <-chan struct{}) {
	ticker := time.NewTicker(progressInterval)
	defer ticker.Stop()
	last := p.before
	for {
		select {
		case <-over:
			return
		case <-ticker.C:
		}
		now := p.progress(time.Now())
		if now.Done == last {
			continue
		}
		last = now.Done
		f.log("history is being read", r, zap.Int("users_done", now.Done), zap.Int("users_left_for_later", now.Late),
			zap.Int("users", now.Done+now.Late+now.Left), zap.Int64("interactions", t.found.Load()), zap.Stringer("time_left", now.TimeLeft.Round(time.Second)))
	}
}

func (f *Backfiller) log(message string, r *pass, fields ...zap.Field) {
	from, to := r.bounds()
	var reasons []string
	for _, reason := range r.reasons().sorted() {
		reasons = append(reasons, string(reason))
	}
	level := zapcore.InfoLevel
	if r.kind() == kindSecondPass || len(reasons) == 1 && reasons[0] == string(Poll) {
		level = zapcore.DebugLevel // it happens all the time, and says nothing unless something is looked for
	}
	f.s.Logger.Log(level, message, append([]zap.Field{
		zap.Strings("reasons", reasons), zap.Time("from", from), zap.Time("to", to), zap.Bool("second_reading", r.kind() == kindSecondPass),
	}, fields...)...)
}
