// SPDX-License-Identifier: Apache-2.0

package backfill_test

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// largeGraph is a Graph with many users and no interactions.
type largeGraph struct {
	users int

	mu       sync.Mutex
	requests int
	half     chan struct{}
}

func (c *largeGraph) History(_ context.Context, _ string, _, to time.Time, _ string) (graph.HistoryPage, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.requests++; c.requests == c.users/2 {
		close(c.half)
	}
	return graph.HistoryPage{Items: nil}, nil
}

func (c *largeGraph) LicensedUsers(_ context.Context, next string, _ []string) (graph.UserPage, error) {
	skip, _ := strconv.Atoi(next)
	end := min(skip+999, c.users)
	page := graph.UserPage{}
	for i := skip; i < end; i++ {
		page.Items = append(page.Items, interaction.Person{ID: guid(i)})
	}
	if end < c.users {
		page.Next = strconv.Itoa(end)
	}
	return page, nil
}

func (c *largeGraph) User(context.Context, string, []string) (interaction.Person, error) {
	return interaction.Person{}, errors.ErrUnsupported
}

func (c *largeGraph) Answered() bool { return true }

func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// Not parallel: it measures the heap of the process.
func TestBackfiller_NeedsLittleMemoryFor100000Users(t *testing.T) {
	const users = 100_000
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		c := &largeGraph{users: users, half: make(chan struct{})}
		h.throttle.Graph = c
		before := heap()
		_, stop := h.run(t)
		for i := range users {
			h.directory.Seen(guid(i))
		}
		began := time.Now()
		h.open(between(gap.Startup, began.Add(-3*time.Hour), began.Add(-2*time.Hour)))
		<-c.half
		used := heap() - before
		t.Logf("%d users: %.1f MiB", users, float64(used)/(1<<20))
		assert.Less(t, used, 25<<20)
		advance(45 * time.Minute)
		assert.Empty(t, h.missing())
		stop()
		require.Equal(t, users, c.requests)
	})
}
