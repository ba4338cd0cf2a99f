// Package backfill reads the gaps of package gapstore from the history API of Microsoft Graph, and compares the history with
// what was delivered.
package backfill

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap/gapstore"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/health"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

const (
	// checkInterval is the longest time between two checks for due work.
	checkInterval = 15 * time.Minute
	// secondReading is how far back a gap is read once more. What is younger when a rest ends belongs to the second
	// readings of the gaps that left the user out.
	secondReading = time.Hour
)

// Settings configures a Backfiller. All fields are required but Users.
type Settings struct {
	// TenantID is the tenant whose history is read, in lower case.
	TenantID string
	// Gaps holds what to read, and the rules for it. The Backfiller is the reader of its Changed.
	Gaps *gapstore.Store
	// Users are the Entra object ids of the users whose history is read. Empty: the licensed users of the directory and those
	// seen.
	Users []string
	// RequestsPerSecond limits the requests to Graph. Graph accepts 30: https://learn.microsoft.com/graph/throttling-limits
	RequestsPerSecond float64
	// Concurrency is how many users are read at once. Each holds one page of up to 100 interactions.
	Concurrency int

	// Graph is the API to read from.
	Graph Graph
	// Deliver hands interactions to the pipeline. It returns nil once all were delivered, now or before. All come as created;
	// what is known of earlier deliveries decides whether they are, were updated, or are not new.
	Deliver func(context.Context, []interaction.Received, Delivery) (Delivered, error)
	// Permanent reports whether Deliver would return the same error again for the same interactions, so that a retry is
	// pointless.
	Permanent func(error) bool
	// Cache knows what was delivered.
	Cache Cache
	// Store keeps the users seen and those without history.
	Store     *statestore.Store
	Logger    *zap.Logger
	Telemetry Telemetry
	// Status is called when the health changes, and only then: with an error that names no user and says what to do while no
	// history can be read, with nil when it can be read again. It must not block.
	Status func(error)
}

// Graph is the part of Microsoft Graph that is used. *graph.Client implements it. Its errors are logged, and name no user.
type Graph interface {
	// History reads a page of a user's interactions between two times, both excluded. Next is that of the previous page,
	// empty for the first.
	History(ctx context.Context, user string, from, to time.Time, next string) (graph.HistoryPage, error)
	// LicensedUsers reads a page of the users with a Copilot license.
	LicensedUsers(ctx context.Context, next string) (graph.UserPage, error)
}

// Delivery says how interactions are delivered.
type Delivery struct {
	// Import marks those of a lookback, which must not displace what was delivered lately from the cache.
	Import bool
	// Replay marks those that are delivered whether they were before or not.
	Replay bool
}

// Delivered counts what a delivery brought.
type Delivered struct {
	// New interactions had not been delivered before in this version.
	New int
	// Recovered are creations that only the history had.
	Recovered int
}

// Cache knows what was delivered lately.
type Cache interface {
	// Complete reports whether it is known of each interaction created at a time whether it was delivered.
	Complete(created time.Time) bool
	// Incomplete returns the parts of an interval for which Complete is false, in order.
	Incomplete(from, to time.Time) []Interval
	// EntriesFor returns the dedupe.max_entries that a time span needs, 0 if the present number suffices.
	EntriesFor(span time.Duration) int
	// Notified returns how many interactions of the users, created in an interval, notifications have brought.
	Notified(from, to time.Time, users []gap.User) int
}

// Interval is the time from From to before To.
type Interval struct{ From, To time.Time }

// Telemetry counts interactions. Its methods are called concurrently and must not block.
type Telemetry interface {
	// HistoryInteractions counts interactions that were read and delivered, now or before. Replays do not count.
	HistoryInteractions(ctx context.Context, n int)
	// Recovered counts creations that only the history had. Imports, replays and polls do not count.
	Recovered(ctx context.Context, reason gap.Reason, n int)
}

// Backfiller reads gaps. Seen and Progress are safe for concurrent use, also before Run and after it.
type Backfiller struct {
	s          Settings
	configured []gap.User // in order
	throttle   *throttle
	directory  *directory
	users      *users
	// someUsers reports users whose history can't be read while that of others can, pipeline that it refuses interactions.
	someUsers, pipeline health.Part
	current             atomic.Pointer[reading] // nil if no pass is being read
	wake                chan struct{}           // has an element if users were seen of whom something may have to be read
}

// New returns a Backfiller. Load must be called before Run.
func New(s Settings) *Backfiller {
	b := &Backfiller{
		s: s, throttle: newThrottle(s), users: newUsers(s), wake: make(chan struct{}, 1),
		someUsers: health.Part{
			Logger: s.Logger, Failing: "the history of some users can't be read, their gaps stay open, will be tried again",
			Recovered: "the history of all users can be read again",
		},
		pipeline: health.Part{
			Logger: s.Logger, Failing: "pipeline does not accept interactions of the history, delivery is retried until it does",
			Recovered: "pipeline accepts interactions of the history again",
		},
	}
	b.directory = newDirectory(s, b.throttle)
	for _, id := range s.Users {
		if u, valid := gap.ParseUser(id); valid {
			b.configured = append(b.configured, u)
		}
	}
	b.configured = sortUsers(b.configured)
	return b
}

// Load reads the users of earlier runs. It fails if the storage can't be read; a damaged value is logged and replaced.
func (b *Backfiller) Load(ctx context.Context) error { return b.users.load(ctx) }

// Save stores what is not stored yet of the users. It is called after Run has returned, and before the last Flush of the gaps.
func (b *Backfiller) Save(ctx context.Context) error { return b.users.save(ctx) }

// Seen notes prompts of users by their Entra object ids; other ids are ignored. It never blocks. The first 100,000 users are
// kept.
func (b *Backfiller) Seen(userIDs ...string) {
	if b.users.see(userIDs, time.Now()) {
		select {
		case b.wake <- struct{}{}:
		default:
		}
	}
}

// Run reads gaps until the context ends. No failure ends it earlier. It is called once.
func (b *Backfiller) Run(ctx context.Context) {
	var writer sync.WaitGroup
	writer.Go(func() { b.users.run(ctx) })
	defer writer.Wait()
	for ctx.Err() == nil {
		if p := b.next(ctx); p != nil {
			b.read(ctx, p)
		} else {
			b.wait(ctx)
		}
	}
}

// next returns the pass to read: the one that a restart interrupted, else the one that is due, nil if none is.
func (b *Backfiller) next(ctx context.Context) (p *gap.Pass) {
	rules := b.s.Gaps.Rules()
	if rules.Disabled {
		b.s.Gaps.Update(ctx, (*gap.State).Abort)
		b.s.Gaps.Expire(ctx)
		return nil
	}
	b.endRests(ctx)
	b.s.Gaps.Update(ctx, func(s *gap.State, now time.Time) { s.Due(rules, now) })
	b.s.Gaps.Expire(ctx)
	known := b.known(ctx)
	b.s.Gaps.Update(ctx, func(s *gap.State, now time.Time) { s.Begin(known, now) })
	b.s.Gaps.View(func(s *gap.State, _ time.Time) {
		if s.Pass != nil {
			current := *s.Pass
			p = &current
		}
	})
	if p != nil {
		_ = b.s.Gaps.Flush(ctx) // a failure is logged there, and the write is repeated later
	}
	return p
}

// known returns what is known of all users. It lists the directory if a gap waits for that.
func (b *Backfiller) known(ctx context.Context) gap.Users {
	waits := false
	b.s.Gaps.View(func(s *gap.State, _ time.Time) {
		waits = s.Pass == nil && slices.ContainsFunc(s.Gaps, func(g gap.Gap) bool { return !g.Scope.SeenSince.IsZero() })
	})
	if waits && len(b.configured) == 0 {
		_, _, _ = b.directory.list(ctx) // a failure is logged there
	}
	return gap.Users{Listed: len(b.configured) > 0 || b.directory.fresh(), NewestSeen: b.users.newestSeen()}
}

// wait waits until something may be due.
func (b *Backfiller) wait(ctx context.Context) {
	select {
	case <-b.s.Gaps.Changed(): // what next has changed, and all that is taken into account below
	default:
	}
	known, wait := b.known(ctx), checkInterval
	b.s.Gaps.View(func(s *gap.State, now time.Time) {
		if at, found := s.NextAt(b.s.Gaps.Rules(), known, now); found {
			wait = min(wait, at.Sub(now))
		}
	})
	timer := time.NewTimer(max(wait, 10*time.Millisecond))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-b.wake:
	case <-b.s.Gaps.Changed():
	case <-timer.C:
	}
}

// endRests opens a gap for users whose rest is over, unless there is one already. It is stored before the rests are forgotten.
func (b *Backfiller) endRests(ctx context.Context) {
	waits := false
	b.s.Gaps.View(func(s *gap.State, _ time.Time) {
		waits = s.Pass != nil || slices.ContainsFunc(s.Gaps, func(g gap.Gap) bool { return g.Rested() && g.Attempts == 0 })
	})
	unread, users := b.users.restsOver(time.Now())
	if waits || len(users) == 0 {
		return
	}
	var to time.Time
	b.s.Gaps.Update(ctx, func(s *gap.State, now time.Time) {
		to = now.Add(-secondReading)
		// What is older than max_gap, or will be soon, is no loss: they had no history.
		s.Rested(users, later(unread, now.Add(checkInterval-b.s.Gaps.Rules().MaxGap)), to)
	})
	_ = b.s.Gaps.Flush(ctx) // a failure is logged there, and the write is repeated later
	b.users.endRests(users, to)
}

// Progress is the progress of the current pass; zero if there is none.
type Progress struct {
	// Done counts the users whose history was read, Failed those whose history can't be read now, Left those still to come.
	Done, Failed, Left int
	// TimeLeft is the estimated time that the rest takes; 0 until a user was read.
	TimeLeft time.Duration
}

// Progress is safe for concurrent use.
func (b *Backfiller) Progress() Progress {
	if r := b.current.Load(); r != nil {
		return r.progress()
	}
	return Progress{}
}
