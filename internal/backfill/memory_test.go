package backfill_test

import (
	"context"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// crowd is a Graph that has many users and keeps nothing.
type crowd struct {
	users int

	mu    sync.Mutex
	asked int
	half  chan struct{}
}

func (c *crowd) History(_ context.Context, _ string, _, to time.Time, _ string) (graph.HistoryPage, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked++; c.asked == c.users/2 {
		close(c.half)
	}
	return graph.HistoryPage{Items: nil}, nil
}

func (c *crowd) LicensedUsers(_ context.Context, next string) (graph.UserPage, error) {
	skip, _ := strconv.Atoi(next)
	end := min(skip+999, c.users)
	page := graph.UserPage{}
	for i := skip; i < end; i++ {
		page.IDs = append(page.IDs, guid(i))
	}
	if end < c.users {
		page.Next = strconv.Itoa(end)
	}
	return page, nil
}

type nothing struct{}

func (nothing) Deliver(context.Context, []interaction.Received) (int, error) { return 0, nil }

func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// Not parallel: it measures the heap of the process.
func TestOneHundredThousandUsersTakeLittleMemory(t *testing.T) {
	const users = 100_000
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		c := &crowd{users: users, half: make(chan struct{})}
		w.settings.Graph, w.settings.Intake, w.settings.Store, w.settings.Logger = c, nothing{}, nil, nil
		before := heap()
		f, stop := w.run(t)
		for i := range users {
			f.Seen(guid(i))
		}
		began := time.Now()
		f.Open(backfill.Gap{Reason: backfill.Startup, From: began.Add(-3 * time.Hour), To: began.Add(-2 * time.Hour)})
		<-c.half
		used := heap() - before
		t.Logf("%d users: %.1f MiB", users, float64(used)/(1<<20))
		assert.Less(t, used, 25<<20)
		pass(45 * time.Minute)
		assert.Empty(t, f.Missing(time.Now()))
		stop()
		require.Equal(t, users, c.asked)
	})
}
