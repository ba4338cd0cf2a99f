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

// progressInterval is the time between two log lines about the progress of a pass.
const progressInterval = 30 * time.Second

// read reads the current pass to its end, or until the context ends: then the next start resumes it.
func (b *Backfiller) read(ctx context.Context, p *pass) {
	list, err := b.selectUsers(ctx, p)
	if err != nil {
		return
	}
	forbiddenLimit := forbiddenThreshold
	if p.kind() == kindFailedUsers {
		forbiddenLimit = 0
	}
	q := newQueue(list.todo, list.total, forbiddenLimit)
	q.done -= len(list.failed)
	q.failed = list.failed
	q.probeUser = b.probeUser()
	stats := &passStats{}
	est := newEstimate(q)
	b.estimate.Store(est)
	defer b.estimate.Store(nil)
	b.log("reading history", p, zap.Int("users_done", est.before), zap.Int("users", list.total), zap.Bool("all_users_known", list.known))

	finished := make(chan struct{})
	var logging, workers sync.WaitGroup
	logging.Go(func() { b.logProgress(p, est, stats, finished) })
	for range min(b.s.Concurrency, len(list.todo)) {
		workers.Go(func() { b.work(ctx, p, q, stats) })
	}
	workers.Wait()
	close(finished)
	logging.Wait()
	if ctx.Err() != nil {
		return
	}
	b.finish(ctx, p, passResult{partial: !list.known, failed: b.failedUsers(p, q.failed)}, stats.failure.Load())
	done, failed, total := q.state()
	b.log("history read", p, zap.Int("users_done", done), zap.Int("users_left_for_later", failed), zap.Int("users", total),
		zap.Int64("users_without_history", stats.withoutHistory.Load()),
		zap.Int64("interactions", stats.found.Load()), zap.Int64("interactions_new", stats.fresh.Load()), zap.Int64("refused", stats.refused.Load()), zap.Int64("unreadable", stats.unreadable.Load()),
		zap.Stringer("took", time.Since(est.began).Round(time.Millisecond)))
}

// work reads users until none is left.
func (b *Backfiller) work(ctx context.Context, p *pass, q *queue, stats *passStats) {
	for {
		one, found := q.next(ctx)
		if !found {
			return
		}
		name := b.names.of(one.user)
		from, to := b.timeRange(p, one.user)
		err := b.readUser(ctx, name, from, to, stats)
		if ctx.Err() != nil && err != nil {
			q.release()
			return
		}
		v := classify(err)
		if v > unlicensed {
			stats.failure.Store(newFailure(err, name))
		}
		switch {
		case one.probe: // the user is in the list of those done already
		case v == unlicensed:
			stats.withoutHistory.Add(1)
			b.unlicensed.put(one.user, time.Now(), time.Now().Add(-unlicensedRecheck))
			b.progress().add(one.user)
		case v == ok:
			b.unlicensed.remove(one.user)
			b.progress().add(one.user)
		}
		q.complete(one, v, func() { b.throttle.Pause(err, name) })
		b.signal()
	}
}

// finish closes a pass. The failure is an example for the users that could not be read.
func (b *Backfiller) finish(ctx context.Context, p *pass, result passResult, failure *Failure) {
	var c change
	b.mu.Lock()
	b.gaps.finish(result, time.Now(), &c)
	b.done.start(0)
	b.unsaved = true
	b.mu.Unlock()
	b.signal()
	b.report(ctx, c)
	if len(result.failed) > 0 && p.kind() != kindFailedUsers {
		fields := []zap.Field{zap.Int("users", len(result.failed))}
		if failure != nil {
			fields = append(fields, optionalString("code", graph.Code(failure.Err)), zap.String("hint", graph.Hint(failure.Err)),
				zap.String("error", failure.text))
		}
		b.s.Logger.Warn("the history of some users can't be read, their gaps stay open, will be tried again", fields...)
	}
}

func (b *Backfiller) failedUsers(p *pass, users []user) []failedUser {
	failed := make([]failedUser, 0, len(users))
	for _, u := range users {
		from, to := b.timeRange(p, u)
		failed = append(failed, failedUser{user: u, from: from, to: to})
	}
	return failed
}

// logProgress logs the progress of a pass until it has finished, if there is any.
func (b *Backfiller) logProgress(p *pass, est *estimate, stats *passStats, finished <-chan struct{}) {
	ticker := time.NewTicker(progressInterval)
	defer ticker.Stop()
	last := est.before
	for {
		select {
		case <-finished:
			return
		case <-ticker.C:
		}
		now := est.progress(time.Now())
		if now.Done == last {
			continue
		}
		last = now.Done
		b.log("history is being read", p, zap.Int("users_done", now.Done), zap.Int("users_left_for_later", now.Failed),
			zap.Int("users", now.Done+now.Failed+now.Left), zap.Int64("interactions", stats.found.Load()), zap.Stringer("time_left", now.TimeLeft.Round(time.Second)))
	}
}

func (b *Backfiller) log(message string, p *pass, fields ...zap.Field) {
	from, to := p.bounds()
	var reasons []string
	for _, reason := range p.reasons().sorted() {
		reasons = append(reasons, string(reason))
	}
	level := zapcore.InfoLevel
	if p.kind() == kindSecondPass || len(reasons) == 1 && reasons[0] == string(Poll) {
		level = zapcore.DebugLevel // routine: of interest only while debugging
	}
	b.s.Logger.Log(level, message, append([]zap.Field{
		zap.Strings("reasons", reasons), zap.Time("from", from), zap.Time("to", to), zap.Bool("second_pass", p.kind() == kindSecondPass),
	}, fields...)...)
}

const (
	// Overlap is how much earlier than its gap a pass begins, since an interaction may appear after others that have a
	// later time.
	Overlap = 300 * time.Second
	// margin extends the end, since Graph takes whole seconds and excludes the end.
	margin = time.Second
	// maxPages limits what is read of one user: a million interactions.
	maxPages = 10_000

	maxDeliveryBackoff = 30 * time.Second
	// deliveryGrace is how long a delivery in flight may take after the context ended: the next run would deliver again
	// what the pipeline accepted after that.
	deliveryGrace = 10 * time.Second
)

// passStats counts the results of one pass.
type passStats struct {
	// found counts all interactions that were delivered, fresh those that were new.
	found, fresh, refused, unreadable atomic.Int64
	// withoutHistory counts users without history: no license, or no such user.
	withoutHistory atomic.Int64
	// failure is the last failure of a single user, nil if there is none.
	failure atomic.Pointer[Failure]
}

// readUser reads a user's interactions between two times and delivers them page by page. A failure of any page fails
// the user, and the next attempt starts over, since page links expire.
func (b *Backfiller) readUser(ctx context.Context, name string, from, to time.Time, stats *passStats) error {
	from = from.Add(-Overlap).Truncate(time.Second)
	to = to.Add(time.Second - 1).Truncate(time.Second).Add(margin)
	next, seen := "", map[string]bool{}
	for range maxPages {
		page, err := b.requestPage(ctx, name, from, to, next)
		if err != nil {
			return err
		}
		if err := b.deliver(ctx, b.receive(name, page.Items, stats), stats); err != nil {
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

// requestPage reads one page. It waits as long as Graph asks for.
func (b *Backfiller) requestPage(ctx context.Context, name string, from, to time.Time, next string) (graph.HistoryPage, error) {
	for {
		if err := b.throttle.Wait(ctx); err != nil {
			return graph.HistoryPage{}, err
		}
		started := time.Now()
		page, err := b.s.Graph.History(ctx, name, from, to, next)
		if err != nil && ctx.Err() != nil {
			return graph.HistoryPage{}, ctx.Err()
		}
		if v := b.throttle.Observe(started, name, err); v != throttled && v != denied {
			return page, err
		}
	}
}

// receive decodes the items of a user. Unreadable items are counted and skipped.
func (b *Backfiller) receive(name string, items []json.RawMessage, stats *passStats) []interaction.Received {
	now := time.Now()
	received := make([]interaction.Received, 0, len(items))
	for _, raw := range items {
		i, err := interaction.Parse(raw)
		if err != nil {
			if stats.unreadable.Add(1) == 1 {
				b.s.Logger.Warn("history contains an interaction that can't be read and is skipped; further ones are only counted", zap.Error(err))
			}
			continue
		}
		change := interaction.Created
		if i.ETag != "" && i.ETag != i.ID {
			change = interaction.Updated
		}
		received = append(received, interaction.Received{
			Interaction: *i,
			TenantID:    b.s.TenantID,
			Change:      change,
			Source:      interaction.FromHistory,
			At:          now,
			UserID:      name,
			UserSource:  interaction.UserFromHistory,
		})
	}
	return received
}

// deliverOnce delivers interactions. A delivery in flight may outlast ctx by deliveryGrace.
func (b *Backfiller) deliverOnce(ctx context.Context, received []interaction.Received) (fresh int, _ error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	lasting, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	forget := context.AfterFunc(ctx, func() { time.AfterFunc(deliveryGrace, end) })
	defer forget()
	return b.s.Intake.Deliver(lasting, received)
}

// deliver delivers interactions until they are accepted, or refused permanently.
func (b *Backfiller) deliver(ctx context.Context, received []interaction.Received, stats *passStats) error {
	if len(received) == 0 {
		return nil
	}
	for try := 1; ; try++ {
		fresh, err := b.deliverOnce(ctx, received)
		if err == nil {
			stats.fresh.Add(int64(fresh))
			b.refusing.Store(false)
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if b.s.Permanent(err) {
			if stats.refused.Add(int64(len(received))) == int64(len(received)) {
				b.s.Logger.Warn("pipeline refuses interactions of the history permanently; further ones are only counted", zap.Error(err))
			}
			break
		}
		if !b.refusing.Swap(true) {
			b.s.Logger.Warn("pipeline does not accept interactions of the history, delivery is retried until it does", zap.Error(err))
		}
		if err := sleep(ctx, backoff(try, maxDeliveryBackoff)); err != nil {
			return err
		}
	}
	stats.found.Add(int64(len(received)))
	b.s.Telemetry.HistoryInteractions(ctx, len(received))
	return nil
}
