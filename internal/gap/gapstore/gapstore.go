// SPDX-License-Identifier: Apache-2.0

// Package gapstore keeps the state of package gap in memory and in storage. It has one value and one writer, so a crash finds
// either all of a change or nothing.
package gapstore

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

const (
	writeInterval = time.Second // the longest time until a change is written that nothing depends on
	recordTimeout = time.Second // how long a caller waits for a change that something depends on
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
	Rules     gap.Rules
	Store     *statestore.Store
	Now       func() time.Time // by which gaps are opened and given up
	Logger    *zap.Logger
	Telemetry Telemetry
	Status    func(error) // is told when the state can't be stored, as in health.Part; may be nil
}

// Store holds the known gaps. It is safe for concurrent use.
type Store struct {
	settings Settings
	value    *statestore.Value[gap.State]
	wake     chan struct{} // see Changed

	mu    sync.Mutex // guards state
	state gap.State
}

// New returns an empty Store. Load must be called before anything else.
func New(s Settings) *Store {
	return &Store{settings: s, wake: make(chan struct{}, 1), value: newValue(s.Store, s.Logger, s.Status)}
}

func newValue(store *statestore.Store, logger *zap.Logger, status func(error)) *statestore.Value[gap.State] {
	return statestore.NewValue[gap.State](statestore.ValueSettings{
		Store: store, Key: "gaps", Version: 1, Name: "known gaps and the checkpoint", Logger: logger, Status: status,
	})
}

// Stored reads the state of the last run from storage. damaged means that the value can't be used.
func Stored(ctx context.Context, store *statestore.Store) (state gap.State, damaged bool, err error) {
	return newValue(store, zap.NewNop(), nil).Load(ctx)
}

// Load reads the state of earlier runs, and notes that a run begins; newestCreation is as in State.Start. It fails if the storage
// can't be read; a damaged value is logged and replaced.
func (s *Store) Load(ctx context.Context, newestCreation time.Time) error {
	state, damaged, err := s.value.Load(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.state = state
	s.mu.Unlock()
	s.Update(ctx, func(state *gap.State, now time.Time) {
		state.Start(s.settings.Rules, damaged, newestCreation, now)
	})
	return nil
}

// Rules returns those of the settings.
func (s *Store) Rules() gap.Rules { return s.settings.Rules }

// Update changes the state by one event, which must not block. The change is written within a second. Gaps that were opened or
// closed by it are counted.
func (s *Store) Update(ctx context.Context, event func(state *gap.State, now time.Time)) {
	s.mu.Lock()
	before := s.state.Count()
	event(&s.state, s.settings.Now())
	after := s.state.Count()
	s.value.Changed()
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

// Record is Update for what something depends on: it returns when the change is written, but waits for the storage no longer than a
// second, also if ctx ends. After a failure, which is logged, the change is written later.
func (s *Store) Record(ctx context.Context, event func(state *gap.State, now time.Time)) {
	s.Update(ctx, event)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	_ = s.Flush(ctx)
}

// Expire gives up what is older than Rules.MaxGap, and reports it.
func (s *Store) Expire(ctx context.Context) {
	var losses []gap.Loss
	s.Update(ctx, func(state *gap.State, now time.Time) { losses = state.Expire(s.settings.Rules, now) })
	for _, lost := range losses {
		s.settings.Telemetry.GapLost(ctx, lost.Reason, lost.To.Sub(lost.From))
		s.settings.Logger.Warn("history is further back than history.max_gap and is not read: these interactions are lost",
			append(failure.New(failure.HistoryTooOld).Fields(), zap.String("reason", string(lost.Reason)),
				zap.Time("from", lost.From), zap.Time("to", lost.To), zap.Int("users", lost.Users))...)
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
func (s *Store) Run(ctx context.Context) { s.value.Run(ctx, writeInterval, s.snapshot) }

// Flush writes everything that was changed before the call. A failure is logged, again each hour until the storage works again.
// Where ctx ends before, the changes are written later.
func (s *Store) Flush(ctx context.Context) error { return s.value.Save(ctx, s.snapshot) }

func (s *Store) snapshot() gap.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Clone()
}
