package backfill

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
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
