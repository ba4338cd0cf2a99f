// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// pagedGraph sends three pages, each after an attempt may have failed.
type pagedGraph struct {
	fail func(attempt int) error
	at   []time.Time
}

func (g *pagedGraph) next(link string) (item, next string, err error) {
	g.at = append(g.at, time.Now())
	if g.fail != nil {
		err = g.fail(len(g.at))
	}
	page, _ := strconv.Atoi(link)
	if page < 2 {
		next = strconv.Itoa(page + 1)
	}
	return strconv.Itoa(page), next, err
}

func (g *pagedGraph) History(_ context.Context, _ string, _, _ time.Time, link string) (graph.HistoryPage, error) {
	item, next, err := g.next(link)
	return graph.HistoryPage{Items: []json.RawMessage{json.RawMessage(item)}, Next: next}, err
}

func (*pagedGraph) Answered() bool { return true }

// throttled is a Throttle of a Graph, with what it reports.
type throttled struct {
	*graph.Throttle
	health []error
	logs   *observer.ObservedLogs
}

func newThrottle(g *pagedGraph) *throttled {
	core, logs := observer.New(zap.InfoLevel)
	t := &throttled{logs: logs}
	t.Throttle = graph.NewThrottle(graph.ThrottleSettings{
		Graph: g, RequestsPerSecond: 10, Logger: zap.New(core), Status: func(err error) { t.health = append(t.health, failure.Explain(err)) },
	})
	return t
}

// read returns the number of pages of a user's history, and the error that ended it.
func (t *throttled) read(ctx context.Context) (read int, err error) {
	for items, err := range t.History(ctx, historyUser, windowFrom, windowTo) {
		if err != nil {
			return read, err
		}
		read += len(items)
	}
	return read, nil
}

func TestThrottle_YieldsPagesWithinRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &pagedGraph{}
		th := newThrottle(g)
		assert.True(t, th.Answered())
		began := time.Now()
		read, err := th.read(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 3, read)
		assert.Equal(t, 200*time.Millisecond, time.Since(began))
		for range th.History(t.Context(), historyUser, windowFrom, windowTo) { //nolint:errcheck // one page is enough
			break
		}
		assert.Len(t, g.at, 4, "no page is read ahead")
	})
}

func TestThrottle_ErrorEndsPages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &pagedGraph{fail: func(attempt int) error {
			if attempt == 2 {
				return graph.ErrUnreadable
			}
			return nil
		}}
		th := newThrottle(g)
		read, err := th.read(t.Context())
		require.ErrorIs(t, err, graph.ErrUnreadable)
		assert.Equal(t, 1, read)
		assert.Empty(t, th.health, "it may be that of a single user")
	})
}

func TestThrottle_RepeatsAfterRetryAfter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &pagedGraph{fail: func(attempt int) error {
			if attempt == 2 {
				return &graph.Error{Operation: "read history", Status: 503, RetryAfter: 7 * time.Second}
			}
			return nil
		}}
		th := newThrottle(g)
		read, err := th.read(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 3, read)
		require.Len(t, g.at, 4)
		assert.GreaterOrEqual(t, g.at[2].Sub(g.at[1]), 7*time.Second)
		assert.Empty(t, th.health, "being throttled is no failure")
	})
}

func TestThrottle_ReportsDenialUntilItEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		wrong := &graph.TokenError{Status: 401, Code: "AADSTS7000215"}
		began := time.Now()
		g := &pagedGraph{fail: func(int) error {
			if time.Since(began) < time.Hour {
				return wrong
			}
			return nil
		}}
		th := newThrottle(g)
		read, err := th.read(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 3, read)
		assert.Less(t, len(g.at), 40, "back-off")
		require.Len(t, th.health, 2)
		require.ErrorIs(t, th.health[0], wrong)
		require.ErrorContains(t, th.health[0], failure.New(failure.ClientSecretWrong).Hint)
		require.NoError(t, th.health[1])
		line := th.logs.FilterMessage("history can't be read, its gaps stay open, will be tried again").All()[0].ContextMap()
		assert.Equal(t, string(failure.ClientSecretWrong), line["code"])
		assert.Equal(t, "AADSTS7000215", line["microsoft_code"])
		assert.Equal(t, 1, th.logs.FilterMessage("history can be read again").Len())
	})
}

func TestThrottle_ReportsLongThrottling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &pagedGraph{fail: func(int) error { return &graph.Error{Operation: "read history", Status: 429, RetryAfter: time.Minute} }}
		th := newThrottle(g)
		ctx, cancel := context.WithTimeout(t.Context(), 14*time.Minute)
		_, err := th.read(ctx)
		cancel()
		require.Error(t, err, "the context ends")
		assert.Empty(t, th.health)
		ctx, cancel = context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		_, err = th.read(ctx)
		require.Error(t, err, "the context ends")
		assert.Len(t, th.health, 1)
	})
}

func TestThrottle_PausesLongerWhilePermissionIsMissing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		refused := &graph.Error{Operation: "read history", Status: 403}
		g := &pagedGraph{fail: func(int) error { return refused }}
		th := newThrottle(g)
		for _, pause := range []time.Duration{5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 40 * time.Minute, time.Hour, time.Hour} {
			_, err := th.read(t.Context())
			require.ErrorIs(t, err, refused)
			th.PermissionMissing(err)
			began := time.Now()
			_, err = th.read(t.Context())
			require.ErrorIs(t, err, refused)
			assert.InDelta(t, pause.Seconds(), g.at[len(g.at)-1].Sub(began).Seconds(), 1)
		}
		assert.Len(t, th.health, 1)
	})
}

func TestThrottle_PausesAllWhenManyFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("connection reset")
		g := &pagedGraph{fail: func(int) error { return down }}
		th := newThrottle(g)
		for range 9 {
			_, err := th.read(t.Context())
			require.ErrorIs(t, err, down)
		}
		assert.Empty(t, th.health)
		began := time.Now()
		for range 30 {
			_, _ = th.read(t.Context())
		}
		assert.Len(t, th.health, 1)
		assert.Greater(t, time.Since(began), time.Hour, "30 failures in a row")
		th.Failing(down)
		assert.Len(t, th.health, 1, "the same failure")
	})
}

func TestBackOff_DoublesUpToTheLongest(t *testing.T) {
	t.Parallel()
	delays, bound := graph.NewBackOff(time.Minute), time.Second
	for range 20 {
		delay := delays.NextBackOff()
		assert.GreaterOrEqual(t, delay, bound/2)
		assert.LessOrEqual(t, delay, min(bound*3/2, time.Minute)+time.Millisecond)
		bound = min(2*bound, 40*time.Second)
	}
}

func TestSleep_EndsWithContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		require.ErrorIs(t, graph.Sleep(ctx, time.Hour), context.DeadlineExceeded)
		assert.Equal(t, time.Second, time.Since(began))
		require.NoError(t, graph.Sleep(t.Context(), time.Minute))
	})
}
