package receiver

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// createdAt returns an interaction with change type created of a time.
func createdAt(at time.Time) interaction.Received {
	one := interactionAt(at)
	one.Change = interaction.Created
	return one
}

// An interaction that arrives late after a silence shows that Graph could not reach the webhook.
func TestSilenceDetector_OpensGapForLateArrival(t *testing.T) {
	t.Parallel()
	hours := func(n float64) time.Time { return noon.Add(time.Duration(n * float64(time.Hour))) }
	type arrival struct {
		at   time.Time
		what interaction.Received
	}
	updated := createdAt(hours(5))
	updated.Change = interaction.Updated
	for name, test := range map[string]struct {
		arrivals  []arrival
		explained bool
		pending   bool
		want      []backfill.Gap
	}{
		"a night without prompts":       {arrivals: []arrival{{hours(9), createdAt(hours(9))}, {hours(9.1), createdAt(hours(9.1))}}},
		"graph is as late as it may be": {arrivals: []arrival{{hours(9), createdAt(hours(8))}}},
		"an outage": {
			arrivals: []arrival{{hours(9), createdAt(hours(9))}, {hours(9.5), createdAt(hours(6))}, {hours(10), createdAt(hours(7))}},
			want:     []backfill.Gap{{Reason: backfill.Subscription, From: hours(0).Add(-65 * time.Minute), To: hours(9).Add(5 * time.Minute)}},
		},
		"an outage that the first arrival reveals": {
			arrivals: []arrival{{hours(9), createdAt(hours(6))}},
			want:     []backfill.Gap{{Reason: backfill.Subscription, From: hours(0).Add(-65 * time.Minute), To: hours(9).Add(5 * time.Minute)}},
		},
		"something old, long after a silence": {arrivals: []arrival{
			{hours(9), createdAt(hours(9))},
			{hours(9.9), createdAt(hours(9.9))},
			{hours(10.8), createdAt(hours(10.8))},
			{hours(11.7), createdAt(hours(11.7))},
			{hours(12.6), createdAt(hours(12.6))},
			{hours(13.5), createdAt(hours(13.5))},
			{hours(14.2), createdAt(hours(8))},
		}},
		"an outage and then another quiet hour": {
			arrivals: []arrival{{hours(9), createdAt(hours(9))}, {hours(10.2), createdAt(hours(10.2))}, {hours(10.3), createdAt(hours(6.5))}},
			want:     []backfill.Gap{{Reason: backfill.Subscription, From: hours(0).Add(-65 * time.Minute), To: hours(10.2).Add(5 * time.Minute)}},
		},
		"what a gap of another cause is going to hold": {arrivals: []arrival{{hours(9), createdAt(hours(6))}}, pending: true},
		"something old without a silence":              {arrivals: []arrival{{hours(1), createdAt(hours(-3))}}},
		"a change of something old":                    {arrivals: []arrival{{hours(9), updated}}},
		"what a gap of another cause holds already":    {arrivals: []arrival{{hours(9), createdAt(hours(6))}}, explained: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, gaps := newStore(t), &fakeGaps{}
			earlier := &silenceDetector{state: stateRecords{store}, logger: zap.NewNop(), gaps: gaps}
			earlier.reached(noon)
			earlier.save(t.Context())
			core, lines := observer.New(zap.WarnLevel)
			s := &silenceDetector{state: stateRecords{store}, logger: zap.New(core), gaps: gaps}
			s.load(t.Context())
			if test.explained {
				s.explain(hours(5), hours(8))
			}
			if test.pending {
				s.pendingGapSince = func(time.Time) time.Time { return hours(5) }
			}
			for _, a := range test.arrivals {
				s.reached(a.at)
				s.arrived(t.Context(), []interaction.Received{a.what}, a.at)
			}
			assert.Equal(t, len(test.want), lines.Len())
			require.Len(t, gaps.gaps, len(test.want))
			for i := range test.want {
				assert.WithinDuration(t, test.want[i].From, gaps.gaps[i].From, time.Minute)
				assert.WithinDuration(t, test.want[i].To, gaps.gaps[i].To, time.Minute)
				assert.Equal(t, test.want[i].Reason, gaps.gaps[i].Reason)
			}
			assert.Equal(t, len(gaps.gaps), gaps.flushed)
		})
	}
}

func TestSilenceDetector_IgnoresDamagedState(t *testing.T) {
	t.Parallel()
	store, gaps := newStore(t), &fakeGaps{}
	require.NoError(t, store.Set(t.Context(), silenceKey, []byte("noon")))
	core, lines := observer.New(zap.WarnLevel)
	s := &silenceDetector{state: stateRecords{store}, logger: zap.New(core), gaps: gaps}
	s.load(t.Context())
	s.reached(noon)
	s.arrived(t.Context(), []interaction.Received{createdAt(noon.Add(-3 * time.Hour))}, noon)
	assert.Empty(t, gaps.gaps)
	assert.Equal(t, 1, lines.Len())
	s.state.store = failingStore{store}
	for range 3 {
		s.save(t.Context())
		assert.Equal(t, 2, lines.Len(), "a storage that fails is reported once")
	}
	s.state.store = store
	s.save(t.Context())
	assert.JSONEq(t, fmt.Sprintf(`{"last_reached":%d,"explained":[0,0]}`, noon.Unix()), string(storedValue(t, store, silenceKey)), "and the missed value is stored later")
}

func TestSilenceDetector_IgnoresRequestedRetries(t *testing.T) {
	t.Parallel()
	gaps, tracker := &fakeGaps{}, newUndelivered(newStore(t), zap.NewNop(), retryDeadline, &fakeGaps{})
	s := &silenceDetector{state: stateRecords{newStore(t)}, logger: zap.NewNop(), gaps: gaps}
	s.reached(noon)
	one, other := createdAt(noon), createdAt(noon.Add(time.Second))
	tracker.track([]interaction.Received{one}, noon)
	later := noon.Add(72 * time.Minute)
	s.reached(later)
	s.arrived(t.Context(), tracker.unknown([]interaction.Received{one}), later)
	assert.Empty(t, gaps.gaps)
	s.arrived(t.Context(), tracker.unknown([]interaction.Received{one, other}), later)
	assert.Len(t, gaps.gaps, 1)
}

func TestSilenceDetector_NeededCoversSilence(t *testing.T) {
	t.Parallel()
	s := &silenceDetector{}
	assert.Zero(t, s.needed(noon))
	s.reached(noon)
	assert.Zero(t, s.needed(noon.Add(time.Hour)))
	assert.Equal(t, noon.Add(-maxNotificationDelay), s.needed(noon.Add(30*time.Hour)))
	s.reached(noon.Add(30 * time.Hour))
	assert.Equal(t, noon.Add(-maxNotificationDelay), s.needed(noon.Add(31*time.Hour)), "interactions of failed attempts may still arrive")
	for n := 31; n <= 36; n++ {
		s.reached(noon.Add(time.Duration(n) * time.Hour))
	}
	assert.Zero(t, s.needed(noon.Add(36*time.Hour)))
}

// A quiet tenant has many silences; they are bounded, and so is the gap that a late arrival opens.
func TestSilenceDetector_BoundsSilencesOfQuietTenant(t *testing.T) {
	t.Parallel()
	gaps := &fakeGaps{}
	s := &silenceDetector{state: stateRecords{newStore(t)}, logger: zap.NewNop(), gaps: gaps}
	now := noon
	for ; now.Before(noon.Add(20 * 24 * time.Hour)); now = now.Add(2 * time.Hour) {
		s.reached(now)
		if since := s.needed(now); !since.IsZero() {
			assert.Less(t, now.Sub(since), 10*time.Hour)
		}
		assert.LessOrEqual(t, len(s.silences), 5)
	}
	s.arrived(t.Context(), []interaction.Received{createdAt(now.Add(-3 * time.Hour))}, now)
	require.Len(t, gaps.gaps, 1)
	assert.Less(t, gaps.gaps[0].To.Sub(gaps.gaps[0].From), 12*time.Hour)
}

func TestSilenceDetector_SpansRestartWithFailingStorage(t *testing.T) {
	t.Parallel()
	store, gaps := newStore(t), &fakeGaps{}
	earlier := &silenceDetector{state: stateRecords{store}, logger: zap.NewNop(), gaps: gaps}
	earlier.reached(noon)
	earlier.save(t.Context())

	s := &silenceDetector{state: stateRecords{failingStore{store}}, logger: zap.NewNop(), gaps: gaps}
	s.load(t.Context())
	later := noon.Add(9 * time.Hour)
	s.reached(later)
	s.save(t.Context())
	s.state.store = store
	s.save(t.Context())
	s.arrived(t.Context(), []interaction.Received{createdAt(noon.Add(6 * time.Hour))}, later.Add(time.Minute))
	require.Len(t, gaps.gaps, 1)
	assert.Equal(t, noon.Add(-maxNotificationDelay).Unix(), gaps.gaps[0].From.Unix())
	assert.Contains(t, string(storedValue(t, store, silenceKey)), fmt.Sprintf(`"last_reached":%d`, later.Unix()))
}

func TestSilenceDetector_RemembersSilenceAcrossRestart(t *testing.T) {
	t.Parallel()
	hours := func(n float64) time.Time { return noon.Add(time.Duration(n * float64(time.Hour))) }
	for name, test := range map[string]struct {
		before func(s *silenceDetector)
		want   int
	}{
		"an outage": {func(*silenceDetector) {}, 1},
		"one that was noticed before": {func(s *silenceDetector) {
			s.arrived(t.Context(), []interaction.Received{createdAt(hours(6))}, hours(9))
		}, 1},
		"one that a gap of another cause holds": {func(s *silenceDetector) { s.explain(hours(-2), hours(9)) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, gaps := newStore(t), &fakeGaps{}
			s := &silenceDetector{state: stateRecords{store}, logger: zap.NewNop(), gaps: gaps}
			s.load(t.Context())
			s.reached(noon)
			s.reached(hours(9))
			test.before(s)
			s.save(t.Context())
			s = &silenceDetector{state: stateRecords{store}, logger: zap.NewNop(), gaps: gaps}
			s.load(t.Context())
			s.reached(hours(9.2))
			s.arrived(t.Context(), []interaction.Received{createdAt(hours(7))}, hours(9.2))
			assert.Len(t, gaps.gaps, test.want)
		})
	}
}
