// SPDX-License-Identifier: Apache-2.0

// Package backfill reads the gaps of package gapstore from the history API of Microsoft Graph, and compares the history with
// what was delivered.
package backfill

import (
	"context"
	"encoding/json"
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap/gapstore"
	"github.com/otelcopilot/m365copilotreceiver/internal/health"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

const (
	// checkInterval is the longest time between two checks for due work, answerInterval for the first answer of Graph.
	checkInterval, answerInterval = 15 * time.Minute, time.Second
	// secondReading is how far back a gap is read once more. Where a rest ends, that is still to come.
	secondReading = time.Hour
)

// Settings configures a Backfiller. All fields are required but Users.
type Settings struct {
	TenantID string // in lower case
	// Gaps and Directory have one reader of Changed, the Backfiller.
	Gaps      *gapstore.Store
	Directory Directory
	// Users are the users whose history is read, in order. Empty: the licensed users of the directory and those seen.
	Users []gap.User
	// Concurrency is how many users are read at once. Each holds two pages of up to 100 interactions.
	Concurrency int

	Graph Graph
	// Learn is called with each page, before the one before it is delivered: the newest page comes first, and the prompts of its
	// oldest responses may be on the next one.
	Learn func([]interaction.Received)
	// Deliver hands interactions to the pipeline, with the reason of their gap. It returns nil once all were delivered, now or
	// before. All come as created; what is known of earlier deliveries decides whether they are, were updated, or are not new.
	Deliver   func(context.Context, []interaction.Received, gap.Reason) (Delivered, error)
	Cache     Cache
	Logger    *zap.Logger
	Telemetry Telemetry
}

// Graph is the part of Microsoft Graph that is used. *graph.Throttle implements it. Its errors are logged, and name no user.
type Graph interface {
	// History yields the pages of a user's interactions between two times, both excluded. An error is the last element.
	History(ctx context.Context, user string, from, to time.Time) iter.Seq2[[]json.RawMessage, error]
	// Answered reports whether Graph has sent any response.
	Answered() bool
	// PermissionMissing pauses all requests, since no user's history may be read.
	PermissionMissing(err error)
	// Failing reports that so many users can't be read that the others must wait.
	Failing(err error)
}

// Directory knows users. *directory.Directory implements it, and documents the methods.
type Directory interface {
	Known() gap.Users
	List(ctx context.Context, since time.Time) (users []gap.User, all bool, err error)
	Changed() <-chan struct{}
	HasHistory(user gap.User)
	Rest(user gap.User, from time.Time)
	Awake(users []gap.User, from time.Time) []gap.User
	RestsOver() (unread time.Time, over []gap.User)
	EndRests(users []gap.User, to time.Time)
	Save(ctx context.Context) error
}

// Delivered counts what a delivery brought.
type Delivered struct {
	New       int // had not been delivered before in this version
	Recovered int // creations that only the history had
}

// Cache knows what was delivered lately. *dedupe.Cache implements it, and documents the methods.
type Cache interface {
	CompleteFrom() time.Time
	EntriesFor(span time.Duration) (entries int, allowed bool)
	Notified(from, to time.Time, users []gap.User) int
}

// Telemetry counts interactions. Its methods are called concurrently and must not block.
type Telemetry interface {
	// HistoryInteractions counts interactions that were read and delivered, now or before. Replays do not count.
	HistoryInteractions(ctx context.Context, n int)
	// Recovered counts creations that only the history had, where Reason.CountsAsRecovered.
	Recovered(ctx context.Context, reason gap.Reason, n int)
}

// Backfiller reads gaps. Progress is safe for concurrent use, also before Run and after it.
type Backfiller struct {
	s         Settings
	someUsers health.Part             // reports users whose history can't be read while that of others can
	pipeline  health.Part             // reports that it refuses interactions
	current   atomic.Pointer[reading] // nil if no pass is being read
}

// New returns a Backfiller.
func New(s Settings) *Backfiller {
	return &Backfiller{
		s: s,
		someUsers: health.Part{
			Logger: s.Logger, Failing: "the history of some users can't be read, their gaps stay open, will be tried again",
			Recovered: "the history of all users can be read again", Code: failure.RequestRefused,
		},
		pipeline: health.Part{
			Logger: s.Logger, Failing: "pipeline does not accept interactions of the history, delivery is retried until it does",
			Recovered: "pipeline accepts interactions of the history again", Code: failure.LogsPipelineRefusing,
		},
	}
}

// Run reads gaps until the context ends. No failure ends it earlier. It is called once.
func (b *Backfiller) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if !b.answered(ctx) {
			b.wait(ctx, answerInterval)
		} else if p := b.next(ctx); p != nil {
			b.read(ctx, p)
		} else {
			b.wait(ctx, b.idle(ctx))
		}
	}
}

// answered reports whether Graph has answered in this run. Before that this machine's clock may be ahead, and gaps would be given
// up that are not too old. Without the requests of a subscription this makes the first.
func (b *Backfiller) answered(ctx context.Context) bool {
	rules := b.s.Gaps.Rules()
	switch {
	case b.s.Graph.Answered() || rules.Subscribed || rules.Disabled:
	case len(b.s.Users) > 0:
		for range b.s.Graph.History(ctx, b.s.Users[0].String(), time.Now().Add(-time.Second), time.Now()) { //nolint:errcheck // see below
			break // any answer will do, an error too
		}
	default:
		_, _, _ = b.s.Directory.List(ctx, time.Time{}) // likewise, and the list is used later
	}
	return b.s.Graph.Answered()
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
	b.s.Gaps.Update(ctx, func(s *gap.State, now time.Time) {
		s.Begin(known, now)
		p = s.Clone().Pass
	})
	if p != nil {
		_ = b.s.Gaps.Flush(ctx) // a failure is logged there, and the write is repeated later
	}
	return p
}

// known returns what is known of all users. It lists the directory if a gap waits for that.
func (b *Backfiller) known(ctx context.Context) gap.Users {
	if len(b.s.Users) > 0 {
		return gap.Users{Listed: true}
	}
	waits := false
	b.s.Gaps.View(func(s *gap.State, _ time.Time) {
		waits = s.Pass == nil && slices.ContainsFunc(s.Gaps, func(g gap.Gap) bool { return !g.Scope.SeenSince.IsZero() })
	})
	if waits {
		_, _, _ = b.s.Directory.List(ctx, time.Time{}) // a failure is logged there
	}
	return b.s.Directory.Known()
}

// idle returns how long nothing is due.
func (b *Backfiller) idle(ctx context.Context) time.Duration {
	select {
	case <-b.s.Gaps.Changed(): // by next
	default:
	}
	known, wait := b.known(ctx), checkInterval
	b.s.Gaps.View(func(s *gap.State, now time.Time) {
		wait = min(wait, s.NextAt(b.s.Gaps.Rules(), known, now).Sub(now))
	})
	return max(wait, 10*time.Millisecond)
}

// wait waits for a time, and no longer than until something changes.
func (b *Backfiller) wait(ctx context.Context, longest time.Duration) {
	select {
	case <-ctx.Done():
	case <-b.s.Directory.Changed():
	case <-b.s.Gaps.Changed():
	case <-time.After(longest):
	}
}

// endRests opens a gap for users whose rest is over, unless there is one already. It is stored before the rests are forgotten.
func (b *Backfiller) endRests(ctx context.Context) {
	waits := false
	b.s.Gaps.View(func(s *gap.State, _ time.Time) {
		waits = s.Pass != nil || slices.ContainsFunc(s.Gaps, func(g gap.Gap) bool { return g.Rested() && g.Attempts == 0 })
	})
	unread, users := b.s.Directory.RestsOver()
	if waits || len(users) == 0 {
		return
	}
	var to time.Time
	b.s.Gaps.Record(ctx, func(s *gap.State, now time.Time) {
		// What is older than max_gap, or will be soon, is no loss: they had no history.
		from := gap.Later(unread, now.Add(checkInterval-b.s.Gaps.Rules().MaxGap))
		to = now.Add(-secondReading)
		s.Rested(users, from, to)
	})
	b.s.Directory.EndRests(users, to)
}

// Progress counts the users whose history was read in the current pass, can't be read now, and is still to be read.
type Progress struct {
	Done, Failed, Left int
	TimeLeft           time.Duration // estimated; 0 until a user was read
}

// Progress returns that of the current pass, zero if there is none.
func (b *Backfiller) Progress() Progress {
	if r := b.current.Load(); r != nil {
		return r.progress()
	}
	return Progress{}
}
