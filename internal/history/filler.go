// Package history fills known gaps from the history API of Microsoft Graph, and polls it where there is no webhook.
package history

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

const (
	// lookSpacing is the longest time between two looks at the book.
	lookSpacing = 15 * time.Minute
	// saveSpacing is the shortest time between two writes of gaps and progress, and usersSpacing that of users.
	saveSpacing  = time.Second
	usersSpacing = 5 * time.Second
)

// Filler reads what is known to be missing. Open, Item, Seen and Missing are safe for concurrent use, also before Run and
// after it.
type Filler struct {
	s          Settings
	configured []user
	names      names
	gate       *gate
	directory  *directory
	seen       *shelf
	// unlicensed are the users who had no history to read, and since when.
	unlicensed *shelf
	pace       atomic.Pointer[pace] // of the present reading, nil for none
	hanging    atomic.Bool          // whether the last flush could not get its turn
	refusing   atomic.Bool          // whether the pipeline does not take interactions just now
	// newcomers is set while users seen since then are still to be read in intervals of unknown users. It belongs to Run.
	newcomers bool

	wake    chan struct{} // something may be there to read
	written chan struct{} // something may be there to write

	saving     chan struct{} // holds a value while somebody writes
	storeFails bool          // belongs to whoever writes

	mu      sync.Mutex // guards what follows
	loaded  bool       // whether what an earlier run kept is known
	ledger  ledger
	done    *progress // of the current reading
	unsaved bool      // whether the ledger has changed
}

// New makes a filler. It does nothing until Run.
func New(s Settings) *Filler {
	s = s.withDefaults()
	f := &Filler{
		s:          s,
		gate:       newGate(s),
		seen:       newShelf(seenKey),
		unlicensed: newShelf(unlicensedKey),
		wake:       make(chan struct{}, 1),
		written:    make(chan struct{}, 1),
		saving:     make(chan struct{}, 1),
		ledger:     s.ledger(),
		done:       &progress{},
	}
	f.configured, f.names = parseUsers(s.Users)
	f.directory = &directory{graph: s.Graph, gate: f.gate, logger: s.Logger}
	return f
}

// Open notes gaps. Those that are empty, or open for the same reason already, change nothing. It never blocks: Run writes
// them down within a second, and before it reads them. Whoever must know that they survive a kill calls Flush.
func (f *Filler) Open(gaps ...Gap) {
	f.open(func(now time.Time, c *change) {
		for _, g := range gaps {
			k := whole
			if g.Reason == UsersUnknown {
				k = unknown
			}
			f.ledger.open(g, k, now, c)
		}
	})
}

// Item notes that an item came that can't be used: its minute, if its id is a time, else, or if that time hardly fits to the
// clock, the last hour. Such gaps are read at most once an hour. It never blocks.
func (f *Filler) Item(reason Reason, itemID string, now time.Time) {
	f.open(func(_ time.Time, c *change) {
		for _, gap := range itemGaps(reason, itemID, now) {
			f.ledger.open(gap, item, now, c)
		}
	})
}

func (f *Filler) open(note func(now time.Time, c *change)) {
	var c change
	f.mu.Lock()
	note(time.Now(), &c)
	changed := len(c.opened) > 0
	f.unsaved = f.unsaved || changed
	f.mu.Unlock()
	if changed {
		f.report(context.Background(), c)
		notify(f.wake)
		f.signal()
	}
}

// Seen notes users by their Entra object ids; other ids are ignored. It never blocks. The first 100,000 are kept.
func (f *Filler) Seen(userIDs ...string) {
	fresh := false
	for _, id := range userIDs {
		u, ok := parseGUID(id)
		if !ok {
			continue
		}
		f.licensed(u)
		if _, known := f.seen.at(u); !known {
			fresh = f.seen.put(u, time.Now(), time.Time{}) || fresh
		}
	}
	if fresh {
		f.signal()
	}
}

// Run fills gaps until the context ends. No failure ends it earlier. It is called once.
func (f *Filler) Run(ctx context.Context) {
	var writer sync.WaitGroup
	writer.Go(func() { f.write(ctx) })
	defer writer.Wait()
	for ctx.Err() == nil {
		if f.step(ctx) {
			continue
		}
		timer := time.NewTimer(f.untilNext())
		select {
		case <-ctx.Done():
		case <-f.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// step reads what is due, and returns false where nothing is.
func (f *Filler) step(ctx context.Context) bool {
	if f.s.Disabled {
		f.expire(ctx)
		return false
	}
	directory, newcomers := f.askDirectory(ctx)
	var c change
	f.mu.Lock()
	now := time.Now()
	before := len(f.ledger.spans)
	f.ledger.expire(now, &c)
	f.ledger.poll(now, f.s.PollInterval, &c)
	if f.ledger.reading == nil && f.ledger.begin(now, directory, newcomers, &c) {
		f.done.start(f.ledger.reading.id)
		f.unsaved = true
		f.newcomers = f.newcomers && !f.ledger.reading.newcomers
	}
	r := f.ledger.reading
	f.unsaved = f.unsaved || before != len(f.ledger.spans) || len(c.opened)+len(c.closed)+len(c.lost) > 0
	f.mu.Unlock()
	f.report(ctx, c)
	if r == nil || ctx.Err() != nil {
		return false
	}
	_ = f.flush(ctx, false) // What fails here was logged, and is written later.
	f.read(ctx, r)
	return true
}

// expire drops what is too old to be filled, where nothing is read.
func (f *Filler) expire(ctx context.Context) {
	var c change
	f.mu.Lock()
	before := len(f.ledger.spans)
	f.ledger.expire(time.Now(), &c)
	changed := before != len(f.ledger.spans) || len(c.closed)+len(c.lost) > 0
	f.unsaved = f.unsaved || changed
	f.mu.Unlock()
	f.report(ctx, c)
	if changed {
		f.signal()
	}
}

// never is later than anything that is planned.
func never() time.Time { return time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC) }

// askDirectory tries to find out who is missing in the intervals that were read for users seen. It returns from when on
// those can be read, and whether for newly seen users alone.
func (f *Filler) askDirectory(ctx context.Context) (from time.Time, newcomers bool) {
	f.mu.Lock()
	waiting, reading, since := f.ledger.has(unknown), f.ledger.reading != nil, f.ledger.asOf()
	f.mu.Unlock()
	if !waiting || reading {
		return never(), false
	}
	if len(f.configured) > 0 {
		return time.Time{}, false
	}
	due := !time.Now().Before(f.directory.retryAt)
	_, known, err := f.directory.list(ctx)
	switch {
	case err != nil:
		return never(), false
	case known:
		return time.Time{}, false
	case due:
		f.newcomers = f.seen.since(since)
	}
	if f.newcomers {
		return time.Time{}, true
	}
	return never(), false
}

// untilNext returns how long there is nothing to do.
func (f *Filler) untilNext() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := time.Now().Add(lookSpacing)
	if f.s.Disabled {
		return lookSpacing
	}
	if at, found := f.ledger.nextAt(f.directory.retryAt); found {
		next = earliest(next, at)
	}
	if f.s.PollInterval > 0 {
		next = earliest(next, f.ledger.pollAt(f.s.PollInterval))
	}
	return max(time.Until(next), 10*time.Millisecond)
}

// write writes down what changed, soon after it did, until the context ends.
func (f *Filler) write(ctx context.Context) {
	var users time.Time
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-f.written:
		}
		due := time.Since(users) >= usersSpacing
		if due {
			users = time.Now()
		}
		failed := f.flush(ctx, due) != nil
		if sleep(ctx, saveSpacing) != nil {
			return
		}
		if failed || f.seen.changed() || f.unlicensed.changed() {
			f.signal()
		}
	}
}

// report counts and logs what became of gaps.
func (f *Filler) report(ctx context.Context, c change) {
	for reason, n := range c.opened {
		for range n {
			f.s.Telemetry.GapOpened(ctx, reason)
		}
	}
	for reason, n := range c.closed {
		for range n {
			f.s.Telemetry.GapClosed(ctx, reason)
		}
	}
	for _, l := range c.lost {
		f.s.Telemetry.GapLost(ctx, l.reason, l.to.Sub(l.from))
		f.s.Logger.Warn("history is further back than history.max_gap and is not read: these interactions are lost",
			zap.String("reason", string(l.reason)), zap.Time("from", l.from), zap.Time("to", l.to), zap.Int("users", l.users))
	}
}

// signal tells the writer that something has changed.
func (f *Filler) signal() { notify(f.written) }

func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
