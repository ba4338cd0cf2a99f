package receiver

import (
	"bytes"
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadata"
)

// furnished makes the rooms of a receiver that is not started.
func furnished(t *testing.T) (*Receiver, *rooms) {
	t.Helper()
	settings := Settings{
		TenantID: "6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10", Graph: confighttp.NewDefaultClientConfig(), Credential: &graph.CredentialSettings{},
		Resources: []string{tenantWide}, CheckInterval: 5 * time.Minute, Webhook: confighttp.NewDefaultServerConfig(), WebhookPath: "/n",
		AckTimeout: time.Second, MaxInFlightBytes: 1, Window: 26 * time.Hour, MaxEntries: 1000, MetricsInterval: time.Minute,
		History: History{MaxGap: 168 * time.Hour, RequestsPerSecond: 25, Concurrency: 1},
	}
	settings.Graph.Endpoint = "http://127.0.0.1:1"
	settings.Webhook.NetAddr.Endpoint = "127.0.0.1:0"
	r, err := New(receivertest.NewNopSettings(metadata.Type), settings, func() {})
	require.NoError(t, err)
	rooms, err := r.furnish(t.Context(), componenttest.NewNopHost())
	require.NoError(t, err)
	return r, rooms
}

func TestTheWebhookTellsOfWhatItTurnsAwayUnread(t *testing.T) {
	t.Parallel()
	_, rooms := furnished(t)
	require.NoError(t, rooms.server.Start(t.Context(), nil, componenttest.NewNopTelemetrySettings()))
	t.Cleanup(func() { assert.NoError(t, rooms.server.Shutdown(context.Background())) })
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+rooms.server.Addr().String()+"/n", bytes.NewBufferString(`{"value":[{}]}`))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	assert.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
	assert.Len(t, rooms.refused.overloads.minutes, 1)
	assert.NotZero(t, rooms.silence.heard, "it was reached")
}

func TestTheRoomsTellEachOtherWhatWasHeardAndWhatIsReadAnyway(t *testing.T) {
	t.Parallel()
	_, rooms := furnished(t)
	rooms.gate.reached(noon)
	assert.Equal(t, noon, rooms.silence.heard)
	rooms.continuity.load(t.Context(), noon)
	rooms.continuity.removedKey(t.Context(), noon)
	assert.Equal(t, noon.Add(-retrySpan), rooms.silence.owed(noon))
	rooms.continuity.Checked(noon)
	assert.Equal(t, noon.Add(-retrySpan), rooms.silence.explainedFrom)
}

func TestTheIntakeKnowsWhatAnOutageLongerThanItsWindowWillHaveReadAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, rooms := furnished(t)
		one := created(time.Now())
		one.Signature[0] = 1
		require.NoError(t, rooms.intake.Take(t.Context(), []interaction.Received{one}))
		rooms.continuity.Checked(time.Now())
		ctx, end := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			rooms.intake.Run(ctx)
		}()
		time.Sleep(30 * time.Hour)
		assert.True(t, rooms.intake.Known(one.Signature))
		end()
		<-ended
	})
}
