// SPDX-License-Identifier: Apache-2.0

package dedupe_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

var errBusy = errors.New("busy")

// call is a running call of take.
type call chan error

func start(ctx context.Context, p *pipeline, received ...interaction.Received) call {
	c := make(call, 1)
	go func() { c <- p.take(ctx, received...) }()
	synctest.Wait()
	return c
}

func (c call) ended() bool {
	synctest.Wait()
	return len(c) > 0
}

// newBlocking returns a blocking pipeline with its cache, and the counter of its duplicates.
func newBlocking(t *testing.T) (*pipeline, *duplicateCounter) {
	t.Helper()
	dropped := &duplicateCounter{}
	return newBlockingPipeline(newCache(t, func(set *dedupe.Settings) { set.Telemetry = dropped })), dropped
}

func TestWait_DeliversWhatFailedElsewhere(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		// first is the result of the first call, which has 1 and 2.
		first      error
		duplicates int
		// want is what the second call delivers, which has 2 and 3.
		want []string
	}{
		"the one in flight is delivered": {nil, 1, []string{"1", "2", "3"}},
		"the one in flight fails":        {errBusy, 0, []string{"3", "2"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p, dropped := newBlocking(t)
				first := start(t.Context(), p, item("1"), item("2"))
				one := <-p.arrived
				second := start(t.Context(), p, item("2"), item("3"))
				two := <-p.arrived
				assert.Equal(t, []string{"3"}, two.ids, "what is in flight is not delivered twice")
				two.decide <- nil
				assert.False(t, second.ended(), "it depends on the other call")

				one.decide <- test.first
				require.ErrorIs(t, <-first, test.first)
				if test.first != nil {
					again := <-p.arrived
					assert.Equal(t, []string{"2"}, again.ids)
					again.decide <- nil
				}
				require.NoError(t, <-second)
				assert.ElementsMatch(t, test.want, p.ids())
				assert.Equal(t, test.duplicates, dropped.count())
			})
		})
	}
}

func TestWait_ReturnsOtherVersionToDecideAnew(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		inFlight interaction.Received
		failed   bool
		received interaction.Received
		want     []string
	}{
		"an update waits for its creation":            {item("1"), false, updated(item("1"), "9"), []string{"n:created", "n:updated"}},
		"an update is delivered without its creation": {item("1"), true, updated(item("1"), "9"), []string{"n:updated"}},
		"a creation waits for its update":             {updated(item("1"), "9"), false, item("1"), []string{"n:updated", "n:created"}},
		"an older update turns out a duplicate":       {updated(item("1"), "9"), false, updated(item("1"), "8"), []string{"n:updated"}},
		"an older update is new if the newer failed":  {updated(item("1"), "9"), true, updated(item("1"), "8"), []string{"n:updated"}},
		"a deletion waits for its creation":           {item("1"), false, deleted(item("1")), []string{"n:created", "n:deleted"}},
		"history waits for the deletion":              {deleted(version(item("1"), "8")), false, fromHistory(item("1")), []string{"n:deleted"}},
		"history is new if the deletion failed":       {deleted(item("1")), true, fromHistory(item("1")), []string{"h:created"}},
		"history waits for the creation":              {item("1"), false, fromHistory(version(item("1"), "9")), []string{"n:created", "h:updated"}},
		"history has the creation if it failed":       {item("1"), true, fromHistory(version(item("1"), "9")), []string{"h:created"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p, _ := newBlocking(t)
				first := start(t.Context(), p, test.inFlight)
				one := <-p.arrived
				second := start(t.Context(), p, test.received)
				assert.Empty(t, p.arrived)
				assert.False(t, second.ended())
				if test.failed {
					one.decide <- errBusy
					require.ErrorIs(t, <-first, errBusy)
				} else {
					one.decide <- nil
					require.NoError(t, <-first)
				}
				synctest.Wait()
				if len(p.arrived) > 0 {
					(<-p.arrived).decide <- nil
				}
				require.NoError(t, <-second)
				assert.Equal(t, test.want, p.changes())
			})
		})
	}
}

func TestWait_EndsWithContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, _ := newBlocking(t)
		first := start(t.Context(), p, item("1"))
		one := <-p.arrived
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		begin := time.Now()
		require.ErrorIs(t, <-start(ctx, p, item("1")), context.DeadlineExceeded)
		assert.Equal(t, 2*time.Second, time.Since(begin))
		one.decide <- nil
		assert.NoError(t, <-first)
	})
}

func TestWait_ReturnsWhatDependsOnItself(t *testing.T) {
	t.Parallel()
	c := newCache(t, nil)
	r := c.Reserve(t.Context(), []interaction.Received{item("1"), item("1"), updated(item("1"), "9")})
	assert.Len(t, r.New, 1)
	r.Release()
	again, err := r.Wait(t.Context())
	require.NoError(t, err)
	require.Len(t, again, 2)
	assert.Equal(t, interaction.Created, again[0].Change)
	assert.Equal(t, interaction.Updated, again[1].Change)
}

func TestReserve_DeliversOnceAcrossConcurrentCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, dropped := newBlocking(t)
		const calls = 50
		var all []call
		for range calls {
			all = append(all, start(t.Context(), p, items(0, 10)...))
		}
		(<-p.arrived).decide <- nil
		for _, one := range all {
			require.NoError(t, <-one)
		}
		assert.Empty(t, p.arrived, "one call delivers, the others wait for it")
		assert.Equal(t, 10*(calls-1), dropped.count())
	})
}

func TestReserve_IndependentOfOthersInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, dropped := newBlocking(t)
		require.NoError(t, newPipeline(p.cache).take(t.Context(), item("1")))
		update := start(t.Context(), p, updated(item("1"), "9"))
		one := <-p.arrived
		require.NoError(t, <-start(t.Context(), p, item("1")), "a delivered creation is a duplicate without waiting for an update")
		assert.Equal(t, 1, dropped.count())
		one.decide <- nil
		assert.NoError(t, <-update)
	})
}
