// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// ofOneLicensedUser answers the requests to Graph for a tenant with one user, whose history has an interaction.
func ofOneLicensedUser(request *http.Request) (*http.Response, error) {
	item := `{"id":"` + userID + `"}`
	if strings.Contains(request.URL.Path, "interactionHistory") {
		item = `{"id":"1767225600000","sessionId":"session","createdDateTime":"2026-01-01T00:00:00Z"}`
	}
	return &http.Response{
		StatusCode: http.StatusOK, Request: request, Body: io.NopCloser(strings.NewReader(`{"value":[` + item + `]}`)),
		Header: http.Header{"Date": {time.Now().UTC().Format(http.TimeFormat)}, "Content-Type": {"application/json"}},
	}, nil
}

// polling makes a receiver without a subscription, which can run in a bubble.
func polling(s *setup) {
	s.graph, s.settings.Credential = ofOneLicensedUser, nil
	s.settings.Subscription.Resources, s.settings.History.Rules.Subscribed = nil, false
	s.settings.History.Rules.PollInterval = 5 * time.Minute
}

// A consumer may ignore its context, as the batch processor does while it is full. It is released long after the shutdown, when it must
// find nothing to do.
func TestReceiver_ShutdownLeavesBlockedConsumer(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change        func(*setup)
		blocksMetrics bool
		after         time.Duration // from the start on, when the consumer certainly blocks
		took          time.Duration
		calls         int64
	}{
		"the metrics, which are sent once more": {
			func(s *setup) { s.settings.History.Rules.Disabled = true }, true, 2 * time.Minute, lastMetricsTime + 2*cancelGracePeriod, 2,
		},
		"a delivery of the history, which has 10 s to end": {
			func(*setup) {}, false, 2 * time.Minute, 10*time.Second + cancelGracePeriod, 1,
		},
		"the inventory": {
			func(s *setup) {
				s.settings.History.Rules.Disabled, s.settings.Inventory = true, time.Hour
				s.settings.Directory.ListLicensed, s.settings.Directory.CacheTTL = true, day
			}, false, 70 * time.Minute, cancelGracePeriod, 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(time.Date(2026, time.January, 1, 0, 1, 0, 0, time.UTC)))
				store := newStore(t)
				logger, lines := observed()
				r, _ := newTestReceiver(t, polling, test.change, stored(store), logged(logger))
				release, blocks := make(chan struct{}), false
				var blocked atomic.Int64
				block := func() {
					if blocks {
						blocked.Add(1)
						<-release
					}
				}
				sendLogs(t, r, func(context.Context, plog.Logs) error {
					block()
					return nil
				})
				if test.blocksMetrics {
					metrics, err := consumer.NewMetrics(func(context.Context, pmetric.Metrics) error {
						block()
						return nil
					})
					require.NoError(t, err)
					r.SendMetrics(metrics)
				}
				delivered := interactionAt(time.Now())
				require.NoError(t, r.pipeline.Take(t.Context(), list(delivered)))
				blocks = true
				r.startLoops(t.Context())
				time.Sleep(test.after)
				require.EqualValues(t, 1, blocked.Load())

				began := time.Now()
				require.NoError(t, r.Shutdown(t.Context()))
				assert.Equal(t, test.took, time.Since(began))
				assert.Equal(t, test.calls, blocked.Load())
				writes, written := store.writes, lines.Len()

				time.Sleep(time.Hour)
				close(release)
				synctest.Wait()
				assert.Equal(t, test.calls, blocked.Load(), "the pipeline is shut down")
				assert.Equal(t, writes, store.writes, "the next run may have the storage")
				assert.Equal(t, written, lines.Len())

				_, next := newTestReceiver(t, polling, test.change, stored(store), logged(logger))
				assert.Zero(t, next.cache.CompleteFrom(), "the end was clean")
				assert.True(t, next.cache.Known(delivered.ContentDigest))
			})
		})
	}
}

// A delivery that takes a while is waited for, and stored.
func TestReceiver_ShutdownWaitsForDeliveryOfTheHistory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, time.January, 1, 0, 1, 0, 0, time.UTC)))
		store := newStore(t)
		logger, lines := observed()
		r, _ := newTestReceiver(t, polling, stored(store), logged(logger))
		begun := make(chan struct{})
		sendLogs(t, r, func(ctx context.Context, _ plog.Logs) error {
			close(begun)
			time.Sleep(9 * time.Second)
			return ctx.Err()
		})
		r.startLoops(t.Context())
		<-begun
		began := time.Now()
		require.NoError(t, r.Shutdown(t.Context()))
		assert.Equal(t, 9*time.Second, time.Since(began))
		assert.Zero(t, lines.Len())

		_, next := newTestReceiver(t, polling, stored(store), logged(logger))
		reserved := next.cache.Reserve(t.Context(), list(inHistory(interactionAt(time.UnixMilli(1767225600000)))))
		assert.Empty(t, reserved.New, "it was delivered")
		reserved.Release()
	})
}

func TestEvery_DoesNotCallAfterTheEnd(t *testing.T) {
	t.Parallel()
	for range 50 { // select picks any case that is ready
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			calls := 0
			every(ctx, time.Second, func() {
				calls++
				cancel()
				time.Sleep(2 * time.Second)
			})
			assert.Equal(t, 1, calls)
		})
	}
}
