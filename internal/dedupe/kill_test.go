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

// lockedRand may be thrown at several doors at once.
type lockedRand struct {
	mu   sync.Mutex // guards what follows
	rand *rand.Rand
}

func (d *lockedRand) IntN(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rand.IntN(n)
}

// crashTest is the world that a collector lives in several times: what was delivered and acknowledged over all its lives.
type crashTest struct {
	t      *testing.T
	random *lockedRand
	store  *fakeStore

	mu sync.Mutex // guards what follows
	// writes is how many writes are left until the kill; the last may or may not be done.
	writes int
	dead   bool
	// delivered is how many the outlet took.
	delivered int
	// position and took are where in their order and when the outlet took one last.
	position map[int]int
	takenAt  map[int]time.Time
	// acknowledged is what Take returned nil for.
	acknowledged map[int]bool
	next         int
	checked      int
}

func (c *crashTest) before(string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes--
	c.dead = c.dead || c.writes < 0 || (c.writes == 0 && c.random.IntN(2) == 0)
	if c.dead {
		return errStore
	}
	return nil
}

// Deliver refuses now and then. Nothing may come to it that must be known.
func (c *crashTest) Deliver(_ context.Context, received []interaction.Received) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.random.IntN(5) == 0 {
		return errors.New("refused")
	}
	for i := range received {
		n := number(received[i].ID)
		assert.False(c.t, c.mustBeKnown(n), "%d was delivered and acknowledged", n)
		c.position[n], c.takenAt[n] = c.delivered, time.Now()
		delete(c.acknowledged, n)
		c.delivered++
	}
	return nil
}

// mustBeKnown is true for what was acknowledged and is neither too old nor had to make room.
func (c *crashTest) mustBeKnown(n int) bool {
	// Deliveries at the same time may be kept in another order.
	young := c.delivered-c.position[n] <= killEntries-500
	return c.acknowledged[n] && young && time.Since(c.takenAt[n]) <= killWindow
}

// runUntilKill takes in, at several doors at once, until the kill.
func (c *crashTest) runUntilKill(d *dedupe.Deduplicator) {
	ctx, kill := context.WithCancel(c.t.Context())
	var running sync.WaitGroup
	running.Go(func() { d.Run(ctx) })
	for !c.killed() {
		var calls sync.WaitGroup
		for range 1 + c.random.IntN(8) {
			from, to := c.next, c.next+1+c.random.IntN(60)
			if c.random.IntN(3) == 0 {
				// It comes again, whatever became of it.
				from = max(0, from-c.random.IntN(300))
				to = from + c.random.IntN(60)
			}
			c.next = max(c.next, to)
			calls.Go(func() { c.take(d, from, to) })
		}
		calls.Wait()
		switch c.random.IntN(20) {
		case 0:
			_ = d.Save(ctx)
		case 1:
			time.Sleep(time.Duration(c.random.IntN(5)) * time.Hour)
		}
	}
	kill()
	running.Wait()
}

func (c *crashTest) take(d *dedupe.Deduplicator, from, to int) {
	err := d.Take(c.t.Context(), items(from, to))
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && !c.dead {
		for n := from; n < to; n++ {
			c.acknowledged[n] = true
		}
	}
}

func (c *crashTest) killed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead
}

// check asks a new life what it knows.
func (c *crashTest) check(d *dedupe.Deduplicator) {
	checked := 0
	for n := range c.next {
		known := d.Known(items(n, n+1)[0].ContentDigest)
		if c.mustBeKnown(n) {
			require.True(c.t, known, "%d was delivered and acknowledged", n)
			checked++
		}
		if _, ok := c.takenAt[n]; !ok {
			require.False(c.t, known, "%d was not delivered", n)
		}
	}
	c.checked += checked
}

func TestJournal_KeepsAcknowledgedEntriesAfterKill(t *testing.T) {
	t.Parallel()
	blocks, checked := 0, 0
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			c := &crashTest{t: t, random: &lockedRand{rand: rand.New(rand.NewPCG(seed, 2))}, store: newFakeStore(), position: map[int]int{}, takenAt: map[int]time.Time{}, acknowledged: map[int]bool{}}
			for range 4 {
				c.store.repair()
				d, logs := start(t, c, c.store, func(set *dedupe.Settings) { set.MaxEntries = killEntries })
				require.Zero(t, logs.Len(), "every state that a kill leaves is sound")
				c.check(d)
				c.writes, c.dead = 1+c.random.IntN(250), false
				c.store.before = c.before
				c.runUntilKill(d)
			}
			checked += c.checked
			if _, ok := c.store.values["seen/index"]; ok {
				blocks++
			}
		})
	}
	assert.Greater(t, checked, 40*1000)
	assert.Positive(t, blocks, "some lives were long enough to drop chunks")
}

// A kill may come as well while a start replaces what it could not read.
func TestJournal_SurvivesKillDuringReplacement(t *testing.T) {
	t.Parallel()
	for writes := range 12 {
		stored := agedStore(t)
		stored.values["seen/c/4"], stored.values["seen/j/2"] = []byte("?"), []byte("?")
		if writes%2 == 0 {
			stored.values["seen/index"] = []byte("?")
		}
		left := writes
		stored.before = func(string) error {
			if left--; left < 0 {
				return errStore
			}
			return nil
		}
		d, logs := start(t, &fakePipeline{}, stored, with6000Entries)
		assert.Equal(t, 1, logs.Len())
		assert.Equal(t, 1800+10, countUnknown(d, 6300, 12_300))
		stored.repair()
		d, _ = start(t, &fakePipeline{}, stored, with6000Entries)
		assert.Equal(t, 1800+10, countUnknown(d, 6300, 12_300), "after %d writes", writes)
	}
}
