// Package gapstore keeps the state of package gap in memory and in storage. It has one value and one writer, so a crash finds
// either all of a change or nothing.
package gapstore

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/health"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

const (
	key     = "gaps"
	version = 1
	// writeInterval is the longest time until a change is written that nothing depends on.
	writeInterval = time.Second
)

// Telemetry counts changes of gaps. Its methods must not block.
type Telemetry interface {
	// GapOpened counts a new gap.
	GapOpened(ctx context.Context, reason gap.Reason)
	// GapClosed counts a gap that was read for all of its users, merged with another or given up.
	GapClosed(ctx context.Context, reason gap.Reason)
	// GapLost counts time that is given up because it is older than Rules.MaxGap.
	GapLost(ctx context.Context, reason gap.Reason, lost time.Duration)
}

// Settings configures a Store.
type Settings struct {
	Rules gap.Rules
	Store *statestore.Store
	// Now returns the time by which gaps are opened and given up.
	Now       func() time.Time
	Logger    *zap.Logger
	Telemetry Telemetry
}

// Store holds the known gaps. It is safe for concurrent use.
type Store struct {
	settings Settings
	value    statestore.Value[gap.State]
	storage  health.Part
	// wake has an element while changes were not seen by the reader of Changed.
	wake chan struct{}
	// writing is a semaphore: it holds a value during a write.
	writing chan struct{}

	mu      sync.Mutex // guards what follows
	state   gap.State
	changes uint64 // how many updates there were
	written uint64 // how many of them are in storage
}

// New returns an empty Store. Load must be called before anything else.
func New(s Settings) *Store {
	return &Store{
		settings: s,
		value:    statestore.Value[gap.State]{Store: s.Store, Key: key, Version: version},
		storage: health.Part{
			Logger: s.Logger, Failing: "known gaps and the checkpoint can't be stored, a restart now may lose gaps; check the storage extension",
			Recovered: "known gaps and the checkpoint are stored again",
		},
		wake: make(chan struct{}, 1), writing: make(chan struct{}, 1),
	}
}

// Load reads the state of earlier runs, and notes that a run begins. It fails if the storage can't be read; a damaged value is
// logged and replaced. newestCreation is the latest creation that was delivered, zero for none.
func (s *Store) Load(ctx context.Context, newestCreation time.Time) error {
	state, _, err := s.value.Load(ctx)
	damaged := statestore.Damaged(err)
	if err != nil && !damaged {
		return fmt.Errorf("load the known gaps: %w", err)
	}
	if damaged {
		s.settings.Logger.Warn("the known gaps and the checkpoint in storage are damaged and are replaced; history.max_gap is read from the history",
			zap.Error(err))
	}
	s.mu.Lock()
	s.state = state
	s.mu.Unlock()
	s.Update(ctx, func(state *gap.State, now time.Time) {
		state.Start(s.settings.Rules, gap.Found{Damaged: damaged, NewestCreation: newestCreation}, now)
	})
	return nil
}

// Rules returns those of the settings.
func (s *Store) Rules() gap.Rules { return s.settings.Rules }

// Update changes the state by one event, which must not block. The change is written within a second; who depends on it calls
// Flush. Gaps that were opened or closed by it are counted.
func (s *Store) Update(ctx context.Context, event func(state *gap.State, now time.Time)) {
	s.mu.Lock()
	before := s.state.Count()
	event(&s.state, s.settings.Now())
	after := s.state.Count()
	s.changes++
	s.mu.Unlock()
	for _, reason := range gap.Reasons() {
		for range after[reason] - before[reason] {
			s.settings.Telemetry.GapOpened(ctx, reason)
		}
		for range before[reason] - after[reason] {
			s.settings.Telemetry.GapClosed(ctx, reason)
		}
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Expire gives up what is older than Rules.MaxGap, and reports it.
func (s *Store) Expire(ctx context.Context) {
	var losses []gap.Loss
	s.Update(ctx, func(state *gap.State, now time.Time) { losses = state.Expire(s.settings.Rules, now) })
	for _, lost := range losses {
		s.settings.Telemetry.GapLost(ctx, lost.Reason, lost.To.Sub(lost.From))
		s.settings.Logger.Warn("history is further back than history.max_gap and is not read: these interactions are lost",
			zap.String("reason", string(lost.Reason)), zap.Time("from", lost.From), zap.Time("to", lost.To), zap.Int("users", lost.Users))
	}
}

// View reads the state, which must not be changed or kept.
func (s *Store) View(read func(state *gap.State, now time.Time)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	read(&s.state, s.settings.Now())
}

// Changed has an element after updates. It has one reader.
func (s *Store) Changed() <-chan struct{} { return s.wake }

// Run writes changes until ctx ends.
func (s *Store) Run(ctx context.Context) {
	ticker := time.NewTicker(writeInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			_ = s.Flush(ctx) // a failure is logged there, and the next tick tries again
		}
	}
}

// Flush writes everything that was changed before the call. A failure is logged, again each hour until the storage works again.
// Where ctx ends before, the changes are written later.
func (s *Store) Flush(ctx context.Context) error {
	s.mu.Lock()
	wanted := s.changes
	s.mu.Unlock()
	select {
	case s.writing <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("wait for the storage: %w", ctx.Err())
	}
	defer func() { <-s.writing }()
	s.mu.Lock()
	if s.written >= wanted {
		s.mu.Unlock()
		return nil
	}
	wanted = s.changes
	state := s.state.Clone()
	s.mu.Unlock()
	err := s.value.Save(ctx, state)
	if err == nil || ctx.Err() == nil {
		s.storage.Report(err)
	}
	if err != nil {
		return fmt.Errorf("store the known gaps: %w", err)
	}
	s.mu.Lock()
	s.written = wanted
	s.mu.Unlock()
	return nil
}
