// Package history fills known gaps from the history API of Microsoft Graph, and polls it where there is no webhook.
package backfill

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

const (
	// checkInterval is the longest time between two looks at the book.
	checkInterval = 15 * time.Minute
	// saveInterval is the shortest time between two writes of gaps and progress, and usersSpacing that of users.
	saveInterval      = time.Second
	usersSaveInterval = 5 * time.Second
)

// Backfiller reads what is known to be missing. Open, Item, Seen and Missing are safe for concurrent use, also before Run and
// after it.
type Backfiller struct {
	s          Settings
	configured []user
	names      names
	throttle   *throttle
	directory  *directory
	seen       *userTimes
	// unlicensed are the users who had no history to read, and since when.
	unlicensed *userTimes
	estimate   atomic.Pointer[estimate] // of the present reading, nil for none
	storeHangs atomic.Bool              // whether the last flush could not get its turn
	refusing   atomic.Bool              // whether the pipeline does not take interactions just now
	// newUsers is set while users seen since then are still to be read in intervals of unknown users. It belongs to Run.
	newUsers bool

	wake    chan struct{} // something may be there to read
	changed chan struct{} // something may be there to write

	saving     chan struct{} // holds a value while somebody writes
	storeFails bool          // belongs to whoever writes

	mu      sync.Mutex // guards what follows
	loaded  bool       // whether what an earlier run kept is known
	gaps    gapStore
	done    *progress // of the current reading
	unsaved bool      // whether the ledger has changed
}

// New makes a filler. It does nothing until Run.
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

// Open notes gaps. Those that are empty, or open for the same reason already, change nothing. It never blocks: Run writes
// them down within a second, and before it reads them. Whoever must know that they survive a kill calls Flush.
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

// Item notes that an item came that can't be used: its minute, if its id is a time, else, or if that time hardly fits to the
// clock, the last hour. Such gaps are read at most once an hour. It never blocks.
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

// Seen notes users by their Entra object ids; other ids are ignored. It never blocks. The first 100,000 are kept.
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

// Run fills gaps until the context ends. No failure ends it earlier. It is called once.
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

// step reads what is due, and returns false where nothing is.
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
	_ = b.flush(ctx, false) // What fails here was logged, and is written later.
	b.read(ctx, r)
	return true
}

// expire drops what is too old to be filled, where nothing is read.
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

// never is later than anything that is planned.
func never() time.Time { return time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC) }

// refreshDirectory tries to find out who is missing in the intervals that were read for users seen. It returns from when on
// those can be read, and whether for newly seen users alone.
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

// untilNext returns how long there is nothing to do.
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

// write writes down what changed, soon after it did, until the context ends.
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

// report counts and logs what became of gaps.
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

// Settings is what a Filler needs. TenantID, Graph and Intake are required.
type Settings struct {
	// TenantID is the tenant that is read, in lower case.
	TenantID string
	// MaxGap is how far back gaps are filled: 168 h unless set.
	MaxGap time.Duration
	// Disabled keeps gaps from being read: they are reported and kept, until they are older than MaxGap.
	Disabled bool
	// PollInterval above 0 reads the history this often.
	PollInterval time.Duration
	// Users are those whose history is read. Empty: the licensed users of the directory and those seen.
	Users []string
	// RequestsPerSecond bounds the requests to Graph: 25 unless set, and Graph takes 30:
	// https://learn.microsoft.com/graph/throttling-limits
	RequestsPerSecond float64
	// Concurrency is how many users are read at once: 4 unless set. Each holds one page of up to 100 interactions.
	Concurrency int

	// Graph is read from.
	Graph Graph
	// Intake takes what was read.
	Intake Intake
	// Permanent tells of an error of Intake that the same interactions would be refused again, so that there is no point
	// in handing them in again. Unless set it is consumererror.IsPermanent, which does not look into joined errors.
	Permanent func(error) bool
	// Store keeps gaps and progress over restarts. Nil keeps nothing.
	Store Store
	// Logger gets one line for each event. Nil is allowed.
	Logger *zap.Logger
	// Telemetry counts. Nil is allowed.
	Telemetry Telemetry
	// Status is called when the health changes, and only then: with a *Failure while no history can be read, or with nil
	// when all is well again. It must not block. Nil is allowed.
	Status func(error)
}

// Graph is the part of Microsoft Graph that is read. *graph.Client has it.
type Graph interface {
	// History reads a page of what happened to a user between two times, both excluded. Next is that of the page before,
	// empty for the first.
	History(ctx context.Context, user string, from, to time.Time, next string) (graph.HistoryPage, error)
	// LicensedUsers reads a page of the users that have a Copilot license.
	LicensedUsers(ctx context.Context, next string) (graph.UserPage, error)
}

// Intake takes interactions in.
type Intake interface {
	// Deliver returns nil once all interactions were taken, by a pipeline or as duplicates, and how many were new.
	Deliver(ctx context.Context, received []interaction.Received) (delivered int, _ error)
}

// Telemetry counts what is done about gaps. It is called by many goroutines at once and must not block.
type Telemetry interface {
	// GapOpened is one gap more.
	GapOpened(ctx context.Context, reason Reason)
	// GapClosed is one gap less: all of it was read for all users, twice where need be, or given up.
	GapClosed(ctx context.Context, reason Reason)
	// GapLost is time that is not read at all, or not for some users, since it is further back than Settings.MaxGap.
	GapLost(ctx context.Context, reason Reason, lost time.Duration)
	// HistoryInteractions are interactions that were read and handed to the intake.
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

// Missing returns for how much time interactions are known to be missing, each interval under its gravest reason. What was
// read once counts as filled, though its gap is closed only when its last hour has been read again.
func (b *Backfiller) Missing(now time.Time) map[Reason]time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.gaps.missing(now)
}

// Needed returns from when on deliveries must still be known as such, since the time after it is read or will be; zero where
// nothing is.
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

// Progress is how far the present reading has come; zero where there is none.
type Progress struct {
	// Done are users whose history was read, Late those left for later since it can't be, and Left those still to come.
	Done, Failed, Left int
	// TimeLeft is how long the rest takes, judging by what was read until now; 0 while nothing was.
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

// estimate tells the progress of a reading.
type estimate struct {
	queue *queue
	began time.Time
	// before is how many users were done when this process began.
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

// timeLeft estimates how long a number of users still takes, from how long others took.
func timeLeft(took time.Duration, done, left int) time.Duration {
	if done <= 0 {
		return 0
	}
	return time.Duration(float64(took) / float64(done) * float64(left)).Round(time.Second)
}
