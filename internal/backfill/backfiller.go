// Package backfill reads known gaps from the history API of Microsoft Graph, and polls it where there is no webhook.
package backfill

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/health"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

const (
	// checkInterval is the longest time between two checks for due work.
	checkInterval = 15 * time.Minute
	// saveInterval is the shortest time between two writes of gaps and progress, usersSaveInterval that of users.
	saveInterval      = time.Second
	usersSaveInterval = 5 * time.Second
)

// Backfiller reads gaps. Open, Item, Seen and Missing are safe for concurrent use, also before Run and after it.
type Backfiller struct {
	s          Settings
	configured []user
	names      names
	throttle   *throttle
	directory  *directory
	seen       *userTimes
	// unlicensed are the users without history, with the time at which that was found.
	unlicensed *userTimes
	estimate   atomic.Pointer[estimate] // of the current pass, nil if there is none
	storeHangs health.Reminder          // whether the last Flush ended before it could write
	refusing   atomic.Bool              // whether the pipeline currently refuses interactions
	// newUsers is set while users seen since the last pass remain to be read in intervals of unknown users. Only Run
	// uses it.
	newUsers bool

	wake    chan struct{} // signals that something may be due
	changed chan struct{} // signals that something may have to be persisted

	saving     chan struct{}   // a semaphore: holds a value during a write
	storeFails health.Reminder // whether the store returned an error last

	mu      sync.Mutex // guards what follows
	loaded  bool       // whether the stored state was loaded
	gaps    gapStore
	done    *progress // users done in the current pass
	unsaved bool      // whether gaps changed since they were stored
}

// New returns a Backfiller. It does nothing until Run.
func New(s Settings) *Backfiller {
	s = s.withDefaults()
	b := &Backfiller{
		s:          s,
		throttle:   newThrottle(s),
		seen:       newUserTimes(seenKey),
		unlicensed: newUserTimes(unlicensedKey),
		wake:       make(chan struct{}, 1),
		changed:    make(chan struct{}, 1),
		saving:     make(chan struct{}, 1),
		gaps:       s.newGapStore(),
		done:       &progress{},
	}
	b.configured, b.names = parseUsers(s.Users)
	b.directory = &directory{graph: s.Graph, throttle: b.throttle, logger: s.Logger}
	return b
}

// Open adds gaps. Gaps that are empty, or open for the same reason already, change nothing. It never blocks: Run
// persists them within a second, and before it reads them. A caller that must know that they survive a kill calls
// Flush.
func (b *Backfiller) Open(gaps ...Gap) {
	b.open(func(now time.Time, c *change) {
		for _, g := range gaps {
			k := kindFull
			if g.Reason == UsersUnknown {
				k = kindUnknownUsers
			}
			b.gaps.open(g, k, now, c)
		}
	})
}

// Item adds a gap for an item that can't be used: the minute of its id if that is a plausible time, the last hour if it
// is not, both if the time differs much from the clock. Such gaps are read at most once an hour. It never blocks.
func (b *Backfiller) Item(reason Reason, itemID string, now time.Time) {
	b.open(func(_ time.Time, c *change) {
		for _, gap := range itemGaps(reason, itemID, now) {
			b.gaps.open(gap, kindItem, now, c)
		}
	})
}

func (b *Backfiller) open(note func(now time.Time, c *change)) {
	var c change
	b.mu.Lock()
	note(time.Now(), &c)
	changed := len(c.opened) > 0
	b.unsaved = b.unsaved || changed
	b.mu.Unlock()
	if changed {
		b.report(context.Background(), c)
		notify(b.wake)
		b.signal()
	}
}

// Seen records users by their Entra object ids; other ids are ignored. It never blocks. The first 100,000 are kept.
func (b *Backfiller) Seen(userIDs ...string) {
	fresh := false
	for _, id := range userIDs {
		u, ok := parseGUID(id)
		if !ok {
			continue
		}
		b.noteLicensed(u)
		if _, known := b.seen.at(u); !known {
			fresh = b.seen.put(u, time.Now(), time.Time{}) || fresh
		}
	}
	if fresh {
		b.signal()
	}
}

// Run reads gaps until the context ends. No failure ends it earlier. It is called once.
func (b *Backfiller) Run(ctx context.Context) {
	var writer sync.WaitGroup
	writer.Go(func() { b.write(ctx) })
	defer writer.Wait()
	for ctx.Err() == nil {
		if b.step(ctx) {
			continue
		}
		timer := time.NewTimer(b.untilNext())
		select {
		case <-ctx.Done():
		case <-b.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// step reads what is due. It returns false if nothing is.
func (b *Backfiller) step(ctx context.Context) bool {
	if b.s.Disabled {
		b.expire(ctx)
		return false
	}
	directory, newUsers := b.refreshDirectory(ctx)
	var c change
	b.mu.Lock()
	now := time.Now()
	before := len(b.gaps.intervals)
	b.gaps.expire(now, &c)
	b.gaps.poll(now, b.s.PollInterval, &c)
	if b.gaps.pass == nil && b.gaps.begin(now, directory, newUsers, &c) {
		b.done.start(b.gaps.pass.id)
		b.unsaved = true
		b.newUsers = b.newUsers && !b.gaps.pass.newUsersOnly
	}
	r := b.gaps.pass
	b.unsaved = b.unsaved || before != len(b.gaps.intervals) || len(c.opened)+len(c.closed)+len(c.lost) > 0
	b.mu.Unlock()
	b.report(ctx, c)
	if r == nil || ctx.Err() != nil {
		return false
	}
	_ = b.flush(ctx, false) // A failure is logged, and the write is repeated later.
	b.read(ctx, r)
	return true
}

// expire drops gaps that are older than MaxGap. It is used where reading is disabled.
func (b *Backfiller) expire(ctx context.Context) {
	var c change
	b.mu.Lock()
	before := len(b.gaps.intervals)
	b.gaps.expire(time.Now(), &c)
	changed := before != len(b.gaps.intervals) || len(c.closed)+len(c.lost) > 0
	b.unsaved = b.unsaved || changed
	b.mu.Unlock()
	b.report(ctx, c)
	if changed {
		b.signal()
	}
}

// never is later than any planned time.
func never() time.Time { return time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC) }

// refreshDirectory lists the directory if intervals wait for it. It returns the time from which on they can be read,
// and whether only for newly seen users.
func (b *Backfiller) refreshDirectory(ctx context.Context) (from time.Time, newUsers bool) {
	b.mu.Lock()
	waiting, passRunning, since := b.gaps.has(kindUnknownUsers), b.gaps.pass != nil, b.gaps.asOf()
	b.mu.Unlock()
	if !waiting || passRunning {
		return never(), false
	}
	if len(b.configured) > 0 {
		return time.Time{}, false
	}
	due := !time.Now().Before(b.directory.retryAt)
	_, known, err := b.directory.list(ctx)
	switch {
	case err != nil:
		return never(), false
	case known:
		return time.Time{}, false
	case due:
		b.newUsers = b.seen.anySince(since)
	}
	if b.newUsers {
		return time.Time{}, true
	}
	return never(), false
}

// untilNext returns the time until something may be due.
func (b *Backfiller) untilNext() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := time.Now().Add(checkInterval)
	if b.s.Disabled {
		return checkInterval
	}
	if at, found := b.gaps.nextAt(b.directory.retryAt); found {
		next = earliest(next, at)
	}
	if b.s.PollInterval > 0 {
		next = earliest(next, b.gaps.pollAt(b.s.PollInterval))
	}
	return max(time.Until(next), 10*time.Millisecond)
}

// write persists changes, at most every saveInterval, until the context ends.
func (b *Backfiller) write(ctx context.Context) {
	var users time.Time
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-b.changed:
		}
		due := time.Since(users) >= usersSaveInterval
		if due {
			users = time.Now()
		}
		failed := b.flush(ctx, due) != nil
		if sleep(ctx, saveInterval) != nil {
			return
		}
		if failed || b.seen.changed() || b.unlicensed.changed() {
			b.signal()
		}
	}
}

// report counts and logs changes of gaps.
func (b *Backfiller) report(ctx context.Context, c change) {
	for reason, n := range c.opened {
		for range n {
			b.s.Telemetry.GapOpened(ctx, reason)
		}
	}
	for reason, n := range c.closed {
		for range n {
			b.s.Telemetry.GapClosed(ctx, reason)
		}
	}
	for _, l := range c.lost {
		b.s.Telemetry.GapLost(ctx, l.reason, l.to.Sub(l.from))
		b.s.Logger.Warn("history is further back than history.max_gap and is not read: these interactions are lost",
			zap.String("reason", string(l.reason)), zap.Time("from", l.from), zap.Time("to", l.to), zap.Int("users", l.users))
	}
}

// signal tells the writer that something has changed.
func (b *Backfiller) signal() { notify(b.changed) }

func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Settings configures a Backfiller. TenantID, Graph and Intake are required.
type Settings struct {
	// TenantID is the tenant whose history is read, in lower case.
	TenantID string
	// MaxGap is how far back gaps are read: 168 h unless set.
	MaxGap time.Duration
	// Disabled prevents reading: gaps are reported and kept until they are older than MaxGap.
	Disabled bool
	// PollInterval is the interval at which the history is polled; 0 disables polling.
	PollInterval time.Duration
	// Users are the users whose history is read. Empty: the licensed users of the directory and those seen.
	Users []string
	// RequestsPerSecond limits the requests to Graph: 25 unless set. Graph accepts 30:
	// https://learn.microsoft.com/graph/throttling-limits
	RequestsPerSecond float64
	// Concurrency is how many users are read at once: 4 unless set. Each holds one page of up to 100 interactions.
	Concurrency int

	// Graph is the API to read from.
	Graph Graph
	// Intake receives the interactions.
	Intake Intake
	// Permanent reports whether Intake would return the same error again for the same interactions, so that a retry is
	// pointless. Unless set it is consumererror.IsPermanent, which does not look into joined errors.
	Permanent func(error) bool
	// Store persists gaps and progress. Nil persists nothing.
	Store Store
	// Logger may be nil.
	Logger *zap.Logger
	// Telemetry may be nil.
	Telemetry Telemetry
	// Status is called when the health changes, and only then: with a *Failure while no history can be read, with nil
	// when it can be read again. It must not block. It may be nil.
	Status func(error)
}

// Graph is the part of Microsoft Graph that is used. *graph.Client implements it.
type Graph interface {
	// History reads a page of a user's interactions between two times, both excluded. Next is that of the previous
	// page, empty for the first.
	History(ctx context.Context, user string, from, to time.Time, next string) (graph.HistoryPage, error)
	// LicensedUsers reads a page of the users with a Copilot license.
	LicensedUsers(ctx context.Context, next string) (graph.UserPage, error)
}

// Intake receives interactions.
type Intake interface {
	// Deliver returns nil once all interactions were delivered, now or before, and how many of them were new.
	Deliver(ctx context.Context, received []interaction.Received) (delivered int, _ error)
}

// Telemetry counts changes of gaps. Its methods are called concurrently and must not block.
type Telemetry interface {
	// GapOpened counts a new gap.
	GapOpened(ctx context.Context, reason Reason)
	// GapClosed counts a gap that was read for all users, twice where necessary, or given up.
	GapClosed(ctx context.Context, reason Reason)
	// GapLost counts time that is not read at all, or not for some users, because it is older than Settings.MaxGap.
	GapLost(ctx context.Context, reason Reason, lost time.Duration)
	// HistoryInteractions counts interactions that were read and delivered.
	HistoryInteractions(ctx context.Context, found int)
}

type noopTelemetry struct{}

func (noopTelemetry) GapOpened(context.Context, Reason)              {}
func (noopTelemetry) GapClosed(context.Context, Reason)              {}
func (noopTelemetry) GapLost(context.Context, Reason, time.Duration) {}
func (noopTelemetry) HistoryInteractions(context.Context, int)       {}

type noopStore struct{}

func (noopStore) Get(context.Context, string) ([]byte, error) { return nil, nil }
func (noopStore) Set(context.Context, string, []byte) error   { return nil }
func (noopStore) Delete(context.Context, string) error        { return nil }

func (s Settings) newGapStore() gapStore {
	return gapStore{maxGap: s.MaxGap, boundLookback: s.Disabled}
}

func (s Settings) withDefaults() Settings {
	if s.MaxGap <= 0 {
		s.MaxGap = 168 * time.Hour
	}
	if s.RequestsPerSecond <= 0 {
		s.RequestsPerSecond = 25
	}
	if s.Concurrency <= 0 {
		s.Concurrency = 4
	}
	if s.Permanent == nil {
		s.Permanent = consumererror.IsPermanent
	}
	if s.Store == nil {
		s.Store = noopStore{}
	}
	if s.Logger == nil {
		s.Logger = zap.NewNop()
	}
	if s.Telemetry == nil {
		s.Telemetry = noopTelemetry{}
	}
	if s.Status == nil {
		s.Status = func(error) {}
	}
	return s
}

// Missing returns how much time is missing, each interval counted for its most severe reason. Time that was read once
// is not missing, although its gap is closed only after the second pass over its last hour.
func (b *Backfiller) Missing(now time.Time) map[Reason]time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.gaps.missing(now)
}

// Needed returns the time from which on the dedupe cache must be retained, because the time since then is read or will
// be; zero if nothing is.
func (b *Backfiller) Needed() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	from := b.gaps.earliest()
	if b.s.PollInterval > 0 && !b.gaps.polled.IsZero() && (from.IsZero() || b.gaps.polled.Before(from)) {
		from = b.gaps.polled
	}
	if from.IsZero() {
		return from
	}
	return from.Add(-Overlap)
}

// Progress is the progress of the current pass; zero if there is none.
type Progress struct {
	// Done counts the users whose history was read, Failed those whose history can't be read now, Left those still to
	// come.
	Done, Failed, Left int
	// TimeLeft is the estimated time that the rest takes; 0 until a user was read.
	TimeLeft time.Duration
}

// Progress is safe for concurrent use.
func (b *Backfiller) Progress() Progress {
	p := b.estimate.Load()
	if p == nil {
		return Progress{}
	}
	return p.progress(time.Now())
}

// estimate computes the progress of a pass.
type estimate struct {
	queue *queue
	began time.Time
	// before is how many users were done when this process started the pass.
	before int
}

func newEstimate(q *queue) *estimate {
	before, _, _ := q.state()
	return &estimate{queue: q, began: time.Now(), before: before}
}

func (p *estimate) progress(now time.Time) Progress {
	done, failed, total := p.queue.state()
	left := total - done - failed
	return Progress{Done: done, Failed: failed, Left: left, TimeLeft: timeLeft(now.Sub(p.began), done-p.before, left)}
}

// timeLeft estimates the time for the users left from the time that others took.
func timeLeft(took time.Duration, done, left int) time.Duration {
	if done <= 0 {
		return 0
	}
	return time.Duration(float64(took) / float64(done) * float64(left)).Round(time.Second)
}
