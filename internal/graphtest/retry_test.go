package graphtest_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

func answerUnavailable(w http.ResponseWriter, _ *http.Request, _ int) {
	w.WriteHeader(http.StatusServiceUnavailable)
}

func TestDelivery_GivesUpAfterRetryFor(t *testing.T) {
	t.Parallel()
	g, e := start(t, func(s *graphtest.Settings) { s.RetryFor, s.MaxRetryDelay = 50*time.Millisecond, 5*time.Millisecond }), newEndpoint(t)
	g.subscribe(e, nil)
	e.answerWith(answerUnavailable)
	_, err := g.Publish(t.Context(), promptAndResponse...)
	require.NoError(t, err)
	_, err = g.SendLifecycle(t.Context(), graphtest.ReauthorizationRequired)
	require.NoError(t, err)
	require.NoError(t, g.WaitIdle(deadline(t)))
	s := g.Stats()
	assert.Equal(t, 2, s.Lost)
	assert.Equal(t, 1, s.LifecycleLost)
	assert.Zero(t, s.Acknowledged)
	assert.Positive(t, s.Attempts)
	assert.Equal(t, s.Attempts, s.Refused)
	assert.Equal(t, []string{"1764599405123", "1764599405640"}, g.Lost())
}

func TestDelivery_RetriesAfterTimeout(t *testing.T) {
	t.Parallel()
	g, e := start(t, func(s *graphtest.Settings) { s.FirstTimeout = 10 * time.Millisecond }), newEndpoint(t)
	g.subscribe(e, nil)
	e.answerWith(func(w http.ResponseWriter, r *http.Request, n int) {
		if n == 1 {
			<-r.Context().Done()
			return
		}
		<-time.After(50 * time.Millisecond) // too late for a first attempt, in time for a later one
		w.WriteHeader(http.StatusAccepted)
	})
	_, err := g.Publish(t.Context(), promptAndResponse...)
	require.NoError(t, err)
	require.NoError(t, g.WaitDelivered(deadline(t), 2))
	var attempts []graphtest.Acknowledgement
	for _, a := range g.Acknowledgements() {
		if !a.Handshake {
			attempts = append(attempts, a)
		}
	}
	require.Len(t, attempts, 2)
	require.Error(t, attempts[0].Err)
	assert.Zero(t, attempts[0].Status)
	assert.False(t, attempts[0].Delivered())
	assert.GreaterOrEqual(t, attempts[0].Latency, 10*time.Millisecond)
	assert.Less(t, attempts[0].Latency, 5*time.Second)
	assert.True(t, attempts[1].Delivered())
	assert.GreaterOrEqual(t, g.Stats().MaxLatency, 10*time.Millisecond)
}

func TestDelivery_RetriesRedirects(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	g.subscribe(e, nil)
	e.answerWith(func(w http.ResponseWriter, r *http.Request, n int) {
		if n == 1 {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
			return
		}
		assert.Equal(t, "/graph/notifications", r.URL.Path)
		w.WriteHeader(http.StatusAccepted)
	})
	_, err := g.Publish(t.Context(), promptAndResponse[0])
	require.NoError(t, err)
	require.NoError(t, g.WaitDelivered(deadline(t), 1))
	assert.Equal(t, 1, g.Stats().Refused)
}

func TestDelivery_EndsWithSubscription(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	s := g.subscribe(e, nil)
	e.answerWith(answerUnavailable)
	_, err := g.Publish(t.Context(), promptAndResponse...)
	require.NoError(t, err)
	require.NoError(t, g.Wait(deadline(t), func(s graphtest.Stats) bool { return s.Attempts > 1 }))
	require.NoError(t, g.RemoveSubscription(t.Context(), s.ID, false))
	require.NoError(t, g.WaitIdle(deadline(t)))
	assert.Equal(t, 2, g.Stats().Lost)
	require.ErrorIs(t, g.RemoveSubscription(t.Context(), s.ID, false), graphtest.ErrNoSubscription)
}

func TestDelivery_PausesWithoutAuthorization(t *testing.T) {
	t.Parallel()
	g, e := start(t, func(s *graphtest.Settings) { s.AuthorizationLifetime = time.Nanosecond }), newEndpoint(t)
	s := g.subscribe(e, nil)
	_, err := g.Publish(t.Context(), promptAndResponse...)
	require.NoError(t, err)
	n, err := g.SendLifecycle(t.Context(), graphtest.ReauthorizationRequired)
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	require.NoError(t, g.Wait(deadline(t), func(s graphtest.Stats) bool { return s.LifecycleAcknowledged == 1 && s.Paused > 1 }))
	assert.Zero(t, g.Stats().Acknowledged)
	posts, _ := e.received()
	require.Len(t, posts, 1)
	assert.Equal(t, "reauthorizationRequired", posts[0].Value[0].LifecycleEvent)
	assert.Equal(t, s.ID, posts[0].Value[0].SubscriptionID)
	assert.Empty(t, posts[0].Value[0].Resource)
}

func TestDelivery_ResumesAfterReauthorization(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	s := g.subscribe(e, nil)
	require.NoError(t, g.ExpireAuthorization(s.ID))
	require.ErrorIs(t, g.ExpireAuthorization("x"), graphtest.ErrNoSubscription)
	_, err := g.Publish(t.Context(), promptAndResponse...)
	require.NoError(t, err)
	require.NoError(t, g.Wait(deadline(t), func(s graphtest.Stats) bool { return s.Paused > 1 }))
	assert.Zero(t, g.Stats().Attempts)
	status, _ := g.call(http.MethodPost, "/v1.0/subscriptions/"+s.ID+"/reauthorize", nil)
	require.Equal(t, http.StatusNoContent, status)
	require.NoError(t, g.WaitDelivered(deadline(t), 2))
}

func TestRemoveSubscription_NotifiesLifecycleEndpoint(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	s := g.subscribe(e, nil)
	require.NoError(t, g.RemoveSubscription(t.Context(), s.ID, true))
	require.NoError(t, g.WaitIdle(deadline(t)))
	posts, _ := e.received()
	require.Len(t, posts, 1)
	assert.Equal(t, "subscriptionRemoved", posts[0].Value[0].LifecycleEvent)
	assert.Equal(t, "state", posts[0].Value[0].ClientState)
}

func TestClose_EndsDeliveries(t *testing.T) {
	t.Parallel()
	g, e := start(t, func(s *graphtest.Settings) { s.RetryDelay = time.Hour }), newEndpoint(t)
	g.subscribe(e, nil)
	e.answerWith(answerUnavailable)
	_, err := g.Publish(t.Context(), promptAndResponse...)
	require.NoError(t, err)
	require.NoError(t, g.Wait(deadline(t), func(s graphtest.Stats) bool { return s.Refused == 1 }))
	g.Close()
	assert.Zero(t, g.Stats().Acknowledged)
	_, err = g.Publish(t.Context(), promptAndResponse...)
	require.ErrorIs(t, err, graphtest.ErrClosed)
	_, err = g.Start("")
	require.ErrorIs(t, err, graphtest.ErrClosed)
}
