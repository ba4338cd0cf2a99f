package graphtest_test

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

func TestRenew_ChangesOnlyExpirationAndURL(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	s := g.subscribe(e, nil)
	for name, c := range map[string]struct {
		body    map[string]any
		message string
	}{
		"nothing":                 {map[string]any{}, "expirationDateTime or notificationUrl is required"},
		"a certificate":           {map[string]any{"encryptionCertificate": "x", "expirationDateTime": fromNow(time.Hour)}, "'encryptionCertificate' can't be set"},
		"another lifecycle URL":   {map[string]any{"lifecycleNotificationUrl": e.url}, "'lifecycleNotificationUrl' can't be set"},
		"a past expiration":       {map[string]any{"expirationDateTime": fromNow(-time.Hour)}, "must be in the future"},
		"more than 4,320 minutes": {map[string]any{"expirationDateTime": fromNow(73 * time.Hour)}, "can only be 4320 minutes"},
		"plain HTTP":              {map[string]any{"notificationUrl": "http://localhost/"}, "notificationUrl must use HTTPS"},
		"a URL nobody answers":    {map[string]any{"notificationUrl": "https://127.0.0.1:1/"}, "Subscription validation request failed."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, answer := g.call(http.MethodPatch, "/v1.0/subscriptions/"+s.ID, c.body)
			_, message := errorOf(answer)
			assert.Equal(t, http.StatusBadRequest, status)
			assert.Contains(t, message, c.message)
		})
	}
	t.Cleanup(func() { assert.Equal(t, s.Expiration, g.Subscriptions()[0].Expiration) })
}

func TestRenew_GrantsExpiration(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	s := g.subscribe(e, with("expirationDateTime", fromNow(time.Hour)))
	status, answer := g.call(http.MethodPatch, "/v1.0/subscriptions/"+s.ID, map[string]any{"expirationDateTime": fromNow(70 * time.Hour)})
	require.Equal(t, http.StatusOK, status, "%v", answer)
	granted, err := time.Parse(time.RFC3339, answer["expirationDateTime"].(string))
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now().Add(70*time.Hour), granted, 5*time.Second)
	assert.WithinDuration(t, granted, g.Subscriptions()[0].Expiration, time.Microsecond)
	assert.Equal(t, 2, g.Stats().Handshakes, "a renewal needs no handshake")
}

func TestRenew_ValidatesNewURL(t *testing.T) {
	t.Parallel()
	g, first, second := start(t, nil), newEndpoint(t), newEndpoint(t)
	s := g.subscribe(first, nil)
	status, _ := g.call(http.MethodPatch, "/v1.0/subscriptions/"+s.ID, map[string]any{"notificationUrl": second.url})
	require.Equal(t, http.StatusOK, status)
	assert.Equal(t, 3, g.Stats().Handshakes)
	n, err := g.Publish(t.Context(), promptAndResponse...)
	require.NoError(t, err)
	require.NoError(t, g.WaitDelivered(deadline(t), n))
	posts, _ := first.received()
	assert.Empty(t, posts)
}

func TestSubscriptions_DeletedIsNotFound(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	s := g.subscribe(e, nil)
	path := "/v1.0/subscriptions/" + s.ID
	status, _ := g.call(http.MethodDelete, path, nil)
	assert.Equal(t, http.StatusNoContent, status)
	for _, call := range []struct {
		method, path string
		body         any
	}{
		{http.MethodGet, path, nil},
		{http.MethodPatch, path, map[string]any{"expirationDateTime": fromNow(time.Hour)}},
		{http.MethodDelete, path, nil},
		{http.MethodPost, path + "/reauthorize", nil},
	} {
		status, answer := g.call(call.method, call.path, call.body)
		code, _ := errorOf(answer)
		assert.Equal(t, http.StatusNotFound, status, call.method)
		assert.Equal(t, "ResourceNotFound", code)
	}
	_, list := g.call(http.MethodGet, "/v1.0/subscriptions", nil)
	assert.Equal(t, []any{}, list["value"])
}

func TestViolations_RecordPatchNearReauthorize(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	s := g.subscribe(e, nil)
	path := "/v1.0/subscriptions/" + s.ID
	renewal := map[string]any{"expirationDateTime": fromNow(time.Hour)}
	g.call(http.MethodPatch, path, renewal)
	g.call(http.MethodPatch, path, renewal)
	assert.Empty(t, g.Violations())
	status, _ := g.call(http.MethodPost, path+"/reauthorize", nil)
	assert.Equal(t, http.StatusNoContent, status)
	assert.Len(t, g.Violations(), 1)
	g.call(http.MethodPatch, path, renewal)
	assert.Len(t, g.Violations(), 2)
	assert.Contains(t, g.Violations()[0], s.ID)
}

func TestViolations_AllowPatchApartFromReauthorize(t *testing.T) {
	t.Parallel()
	g, e := start(t, func(s *graphtest.Settings) { s.MinReauthorizeInterval = time.Nanosecond }), newEndpoint(t)
	path := "/v1.0/subscriptions/" + g.subscribe(e, nil).ID
	g.call(http.MethodPatch, path, map[string]any{"expirationDateTime": fromNow(time.Hour)})
	g.call(http.MethodPost, path+"/reauthorize", nil)
	assert.Empty(t, g.Violations())
}

func TestList_Allows25RequestsIn20Seconds(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	for range 25 {
		status, _ := g.call(http.MethodGet, "/v1.0/subscriptions", nil)
		require.Equal(t, http.StatusOK, status)
	}
	status, header, answer := g.exchange(http.MethodGet, "/v1.0/subscriptions", nil)
	code, _ := errorOf(answer)
	assert.Equal(t, http.StatusTooManyRequests, status)
	assert.Equal(t, "TooManyRequests", code)
	wait, err := strconv.Atoi(header.Get("Retry-After"))
	require.NoError(t, err)
	assert.InDelta(t, 15, wait, 5)
}

func TestList_HasNoLimitWithNoListLimit(t *testing.T) {
	t.Parallel()
	g := start(t, func(s *graphtest.Settings) { s.NoListLimit = true })
	for range 30 {
		status, _ := g.call(http.MethodGet, "/v1.0/subscriptions", nil)
		require.Equal(t, http.StatusOK, status)
	}
	assert.Len(t, g.Requests(graphtest.OpList), 30)
}
