package receiver

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadata"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

// newTestReceiver creates a receiver that is not started, and its components.
func newTestReceiver(t *testing.T, certificates ...Certificate) (*Receiver, *components) {
	t.Helper()
	settings := Settings{
		TenantID: "6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10", Graph: confighttp.NewDefaultClientConfig(), Credential: &graph.CredentialSettings{},
		Resources: []string{tenantWide}, CheckInterval: 5 * time.Minute, Webhook: confighttp.NewDefaultServerConfig(), WebhookPath: "/n",
		AckTimeout: time.Second, MaxInFlightBytes: minInFlightBytes, Window: 26 * time.Hour, MaxEntries: 1000, MetricsInterval: time.Minute,
		History: History{MaxGap: 168 * time.Hour, RequestsPerSecond: 25, Concurrency: 1}, Certificates: certificates,
	}
	settings.Graph.Endpoint = "http://127.0.0.1:1"
	settings.Webhook.NetAddr.Endpoint = "127.0.0.1:0"
	settings.Webhook.MaxRequestBodySize = 2 * minInFlightBytes
	r, err := New(receivertest.NewNopSettings(metadata.Type), settings, func() {})
	require.NoError(t, err)
	r.components, err = r.newComponents(t.Context(), componenttest.NewNopHost())
	require.NoError(t, err)
	require.NoError(t, r.load(t.Context(), r.components))
	return r, r.components
}

// minInFlightBytes is the least MaxInFlightBytes with which the webhook accepts a small body.
const minInFlightBytes = 4096

// startWebhook starts the webhook, and returns a function that posts to it, and the valid clientState.
func startWebhook(t *testing.T, r *Receiver, c *components) (post func(body string) int, state string) {
	t.Helper()
	state, err := notification.ClientState(c.keys.ring[0], r.settings.TenantID, r.settings.ClientID, tenantWide)
	require.NoError(t, err)
	require.NoError(t, c.server.Start(t.Context(), nil, componenttest.NewNopTelemetrySettings()))
	t.Cleanup(func() { assert.NoError(t, c.server.Shutdown(context.Background())) })
	return func(body string) int {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+c.server.Addr().String()+"/n", strings.NewReader(body))
		require.NoError(t, err)
		request.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.StatusCode
	}, state
}

// padded fills a body with spaces up to a length.
func padded(body string, length int) string { return body + strings.Repeat(" ", length-len(body)) }

// Anybody can send requests that are refused. They neither prove that Graph reached the webhook nor cause a backfill.
func TestWebhook_ForgedRequestsOpenNoGap(t *testing.T) {
	t.Parallel()
	r, c := newTestReceiver(t)
	post, _ := startWebhook(t, r, c)
	forged := `{"value":[{"clientState":"guessed"},{"lifecycleEvent":"missed"}],"validationTokens":["a.b.c"]}`
	for name, test := range map[string]struct {
		body   string
		status int
	}{
		"dropped":             {forged, http.StatusAccepted},
		"over the byte limit": {padded(forged, 2*minInFlightBytes), http.StatusServiceUnavailable},
		"too deep":            {strings.Replace(forged, `"guessed"`, strings.Repeat("[", 70)+strings.Repeat("]", 70), 1), http.StatusBadRequest},
		"larger than allowed": {padded(forged, 3*minInFlightBytes), http.StatusRequestEntityTooLarge},
	} {
		assert.Equal(t, test.status, post(test.body), name)
	}

	assert.Zero(t, c.silence.lastReached, "as if Graph had reached the webhook")
	assert.Zero(t, c.undelivered.needed(), "as if Graph had been asked to retry")
	for _, later := range []time.Duration{0, retryDeadline, 2 * retryDeadline} {
		c.undelivered.openExpired(t.Context(), time.Now().Add(later))
	}
	assert.Empty(t, missingReasons(c))
}

// missingReasons returns the reasons for which the history would be read.
func missingReasons(c *components) []backfill.Reason {
	var reasons []backfill.Reason
	for reason, span := range c.backfiller.Missing(time.Now()) {
		if span > 0 {
			reasons = append(reasons, reason)
		}
	}
	return reasons
}

func TestWebhook_TracksOverloadWithValidClientState(t *testing.T) {
	t.Parallel()
	r, c := newTestReceiver(t)
	post, state := startWebhook(t, r, c)
	assert.Equal(t, http.StatusServiceUnavailable, post(padded(`{"value":[{"clientState":"`+state+`"}]}`, minInFlightBytes)))
	assert.Len(t, c.undelivered.overloads.minutes, 1)
}

// A notification with a valid clientState that can't be verified now is retried by Graph, and fetched from the history once
// Graph has stopped retrying.
func TestWebhook_TracksUndecidableNotification(t *testing.T) {
	t.Parallel()
	r, c := newTestReceiver(t)
	post, state := startWebhook(t, r, c)
	token := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","kid":"k"}`)) + ".e30.e30"
	body := `{"value":[{"clientState":"` + state + `","changeType":"created","tenantId":"` + r.settings.TenantID + `"}],"validationTokens":["` + token + `"]}`
	assert.Equal(t, http.StatusServiceUnavailable, post(body), "the signing keys are out of reach")
	assert.NotZero(t, c.silence.lastReached)
	c.undelivered.openExpired(t.Context(), time.Now())
	assert.Empty(t, missingReasons(c), "as Graph may still send it")
	c.undelivered.openExpired(t.Context(), time.Now().Add(retryDeadline))
	assert.Equal(t, []backfill.Reason{backfill.Undelivered}, missingReasons(c))
}

// A body that only the webhook's own limits refuse is fetched from the history if it contains a valid clientState.
func TestWebhook_OpensGapForBodyOverLimits(t *testing.T) {
	t.Parallel()
	r, c := newTestReceiver(t)
	post, state := startWebhook(t, r, c)
	body := `{"value":[{"clientState":"` + state + `","x":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `}]}`
	assert.Equal(t, http.StatusBadRequest, post(body))
	assert.Equal(t, []backfill.Reason{backfill.Unverified}, missingReasons(c))
}

func TestComponents_ConnectsSilenceAndGapTracker(t *testing.T) {
	t.Parallel()
	_, c := newTestReceiver(t)
	c.decryption.reached(noon)
	assert.Equal(t, noon, c.silence.lastReached)
	c.gapTracker.removedKey(t.Context(), noon)
	assert.Equal(t, noon.Add(-graphRetryWindow), c.silence.pendingGapSince(noon))
	c.gapTracker.Checked(noon)
	assert.Equal(t, noon.Add(-graphRetryWindow), c.silence.explainedFrom)
}

// Deliveries stay known beyond the dedupe window if the history since then will be read.
func TestComponents_DedupeRetainsLongOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, c := newTestReceiver(t)
		one := createdAt(time.Now())
		one.ContentDigest[0] = 1
		require.NoError(t, c.deduplicator.Take(t.Context(), []interaction.Received{one}))
		c.gapTracker.Checked(time.Now())
		ctx, end := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c.deduplicator.Run(ctx)
		}()
		time.Sleep(30 * time.Hour)
		assert.True(t, c.deduplicator.Known(one.ContentDigest))
		end()
		<-ended
	})
}

func TestComponents_MissingIncludesPendingGaps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		backfiller := backfill.New(backfill.Settings{Disabled: true})
		r := &components{
			backfiller: backfiller, gapTracker: newGapTracker(newStore(t), zap.NewNop(), backfiller), maxGap: 168 * time.Hour,
			undelivered: newUndelivered(newStore(t), zap.NewNop(), retryDeadline, backfiller), silence: &silenceDetector{},
		}
		assert.Empty(t, r.missing(now))
		assert.Zero(t, r.needed())

		r.gapTracker.Checked(now)
		time.Sleep(30 * time.Hour)
		hour := func(n int) time.Duration { return time.Duration(n) * time.Hour }
		assert.Equal(t, map[backfill.Reason]time.Duration{backfill.Subscription: hour(30) + maxNotificationDelay}, r.missing(time.Now()), "it is unknown what happened since then")
		assert.Equal(t, now.Add(-maxNotificationDelay-backfill.Overlap), r.needed())

		r.gapTracker.Interrupted(tenantWide, subscription.ReasonExpired, now.Add(-hour(2)))
		backfiller.Open(backfill.Gap{Reason: backfill.Undelivered, From: now.Add(-hour(1)), To: now})
		assert.Equal(t, map[backfill.Reason]time.Duration{backfill.Undelivered: hour(1), backfill.Subscription: hour(32) + maxNotificationDelay}, r.missing(time.Now()))
		assert.Equal(t, now.Add(-hour(2)-maxNotificationDelay-backfill.Overlap), r.needed())

		time.Sleep(hour(200))
		assert.Equal(t, time.Now().Add(-hour(168)-maxNotificationDelay), r.needed(), "nothing before that is read")
	})
}
