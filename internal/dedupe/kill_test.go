package dedupe_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

const killWindow, killEntries = 26 * time.Hour, 5000

// dice may be thrown at several doors at once.
type dice struct {
	mu   sync.Mutex // guards what follows
	rand *rand.Rand
}

func (d *dice) IntN(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rand.IntN(n)
}

// life is the world that a collector lives in several times: what was delivered and acknowledged over all its lives.
type life struct {
	t      *testing.T
	random *dice
	kept   *store

	mu sync.Mutex // guards what follows
	// writes is how many writes are left until the kill; the last may or may not be done.
	writes int
	dead   bool
	// delivered is how many the outlet took.
	delivered int
	// place and took are where in their order and when the outlet took one last.
	place map[int]int
	took  map[int]time.Time
	// acknowledged is what Take returned nil for.
	acknowledged map[int]bool
	next         int
	checked      int
}

func (l *life) before(string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writes--
	l.dead = l.dead || l.writes < 0 || (l.writes == 0 && l.random.IntN(2) == 0)
	if l.dead {
		return errStore
	}
	return nil
}

// Deliver refuses now and then. Nothing may come to it that must be known.
func (l *life) Deliver(_ context.Context, received []interaction.Received) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.random.IntN(5) == 0 {
		return errors.New("refused")
	}
	for i := range received {
		n := number(received[i].ID)
		assert.False(l.t, l.mustBeKnown(n), "%d was delivered and acknowledged", n)
		l.place[n], l.took[n] = l.delivered, time.Now()
		delete(l.acknowledged, n)
		l.delivered++
	}
	return nil
}

// mustBeKnown is true for what was acknowledged and is neither too old nor had to make room.
func (l *life) mustBeKnown(n int) bool {
	// Deliveries at the same time may be kept in another order.
	young := l.delivered-l.place[n] <= killEntries-500
	return l.acknowledged[n] && young && time.Since(l.took[n]) <= killWindow
}

// live takes in, at several doors at once, until the kill.
func (l *life) live(in *dedupe.Deduplicator) {
	ctx, kill := context.WithCancel(l.t.Context())
	var running sync.WaitGroup
	running.Go(func() { in.Run(ctx) })
	for !l.killed() {
		var doors sync.WaitGroup
		for range 1 + l.random.IntN(8) {
			from, to := l.next, l.next+1+l.random.IntN(60)
			if l.random.IntN(3) == 0 {
				// It comes again, whatever became of it.
				from = max(0, from-l.random.IntN(300))
				to = from + l.random.IntN(60)
			}
			l.next = max(l.next, to)
			doors.Go(func() { l.take(in, from, to) })
		}
		doors.Wait()
		switch l.random.IntN(20) {
		case 0:
			_ = in.Save(ctx)
		case 1:
			time.Sleep(time.Duration(l.random.IntN(5)) * time.Hour)
		}
	}
	kill()
	running.Wait()
}

func (l *life) take(in *dedupe.Deduplicator, from, to int) {
	err := in.Take(l.t.Context(), items(from, to))
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && !l.dead {
		for n := from; n < to; n++ {
			l.acknowledged[n] = true
		}
	}
}

func (l *life) killed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

// check asks a new life what it knows.
func (l *life) check(in *dedupe.Deduplicator) {
	checked := 0
	for n := range l.next {
		known := in.Known(items(n, n+1)[0].ContentDigest)
		if l.mustBeKnown(n) {
			require.True(l.t, known, "%d was delivered and acknowledged", n)
			checked++
		}
		if _, ok := l.took[n]; !ok {
			require.False(l.t, known, "%d was not delivered", n)
		}
	}
	l.checked += checked
}

func TestAKillForgetsNothingThatWasAcknowledged(t *testing.T) {
	t.Parallel()
	chunks, checked := 0, 0
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			l := &life{t: t, random: &dice{rand: rand.New(rand.NewPCG(seed, 2))}, kept: newStore(), place: map[int]int{}, took: map[int]time.Time{}, acknowledged: map[int]bool{}}
			for range 4 {
				l.kept.mend()
				in, logs := start(t, l, l.kept, func(set *dedupe.Settings) { set.MaxEntries = killEntries })
				require.Zero(t, logs.Len(), "every state that a kill leaves is sound")
				l.check(in)
				l.writes, l.dead = 1+l.random.IntN(250), false
				l.kept.before = l.before
				l.live(in)
			}
			checked += l.checked
			if _, ok := l.kept.values["seen/index"]; ok {
				chunks++
			}
		})
	}
	assert.Greater(t, checked, 40*1000)
	assert.Positive(t, chunks, "some lives were long enough to drop chunks")
}

// A kill may come as well while a start replaces what it could not read.
func TestAKillWhileDamageIsReplacedLosesNothingMore(t *testing.T) {
	t.Parallel()
	for writes := range 12 {
		kept := aged(t)
		kept.values["seen/c/4"], kept.values["seen/j/2"] = []byte("?"), []byte("?")
		if writes%2 == 0 {
			kept.values["seen/index"] = []byte("?")
		}
		left := writes
		kept.before = func(string) error {
			if left--; left < 0 {
				return errStore
			}
			return nil
		}
		in, logs := start(t, &outlet{}, kept, narrow)
		assert.Equal(t, 1, logs.Len())
		assert.Equal(t, 1800+10, unknown(in, 6300, 12_300))
		kept.mend()
		in, _ = start(t, &outlet{}, kept, narrow)
		assert.Equal(t, 1800+10, unknown(in, 6300, 12_300), "after %d writes", writes)
	}
}
