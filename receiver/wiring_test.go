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

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/history"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadata"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

// furnished makes the rooms of a receiver that is not started.
func furnished(t *testing.T) (*Receiver, *rooms) {
	t.Helper()
	settings := Settings{
		TenantID: "6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10", Graph: confighttp.NewDefaultClientConfig(), Credential: &graph.CredentialSettings{},
		Resources: []string{tenantWide}, CheckInterval: 5 * time.Minute, Webhook: confighttp.NewDefaultServerConfig(), WebhookPath: "/n",
		AckTimeout: time.Second, MaxInFlightBytes: room, Window: 26 * time.Hour, MaxEntries: 1000, MetricsInterval: time.Minute,
		History: History{MaxGap: 168 * time.Hour, RequestsPerSecond: 25, Concurrency: 1},
	}
	settings.Graph.Endpoint = "http://127.0.0.1:1"
	settings.Webhook.NetAddr.Endpoint = "127.0.0.1:0"
	settings.Webhook.MaxRequestBodySize = 2 * room
	r, err := New(receivertest.NewNopSettings(metadata.Type), settings, func() {})
	require.NoError(t, err)
	rooms, err := r.furnish(t.Context(), componenttest.NewNopHost())
	require.NoError(t, err)
	return r, rooms
}

// room is the least that the webhook needs for one small body.
const room = 4096

// listening serves the webhook of rooms, with an opener of a key of its own, and returns how to post to it and the client
// state that is right.
func listening(t *testing.T, r *Receiver, rooms *rooms) (post func(body string) int, state string) {
	t.Helper()
	ring, err := rooms.keys.generated(t.Context())
	require.NoError(t, err)
	state, err = notification.ClientState(ring[0], r.settings.TenantID, r.settings.ClientID, tenantWide)
	require.NoError(t, err)
	open(rooms, r, ring)
	require.NoError(t, rooms.server.Start(t.Context(), nil, componenttest.NewNopTelemetrySettings()))
	t.Cleanup(func() { assert.NoError(t, rooms.server.Shutdown(context.Background())) })
	return func(body string) int {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+rooms.server.Addr().String()+"/n", strings.NewReader(body))
		require.NoError(t, err)
		request.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.StatusCode
	}, state
}

func open(rooms *rooms, r *Receiver, ring notification.Ring) {
	rooms.gate.open(notification.NewOpener(notification.Settings{
		TenantID: r.settings.TenantID, ClientID: r.settings.ClientID, Resources: r.settings.Resources, Ring: ring, Keys: rooms.signingKeys,
	}), subscription.New(subscription.Settings{}))
}

// padded fills a body up.
func padded(body string, length int) string { return body + strings.Repeat(" ", length-len(body)) }

// A stranger can have anything refused. None of it says that Graph reached us, and nobody's history is read for it.
func TestReceiver_FloodOfForgeriesCountsNowhere(t *testing.T) {
	t.Parallel()
	r, rooms := furnished(t)
	post, _ := listening(t, r, rooms)
	forged := `{"value":[{"clientState":"guessed"},{"lifecycleEvent":"missed"}],"validationTokens":["a.b.c"]}`
	for name, test := range map[string]struct {
		body   string
		status int
	}{
		"dropped":             {forged, http.StatusAccepted},
		"without room":        {padded(forged, 2*room), http.StatusServiceUnavailable},
		"too deep":            {strings.Replace(forged, `"guessed"`, strings.Repeat("[", 70)+strings.Repeat("]", 70), 1), http.StatusBadRequest},
		"larger than allowed": {padded(forged, 3*room), http.StatusRequestEntityTooLarge},
	} {
		assert.Equal(t, test.status, post(test.body), name)
	}
	open(rooms, r, notification.Ring{nil})
	assert.Equal(t, http.StatusServiceUnavailable, post(forged), "no client state can be told")

	assert.Zero(t, rooms.silence.heard, "graph reached us")
	assert.Zero(t, rooms.refused.needed(), "graph was asked to send it again")
	for _, later := range []time.Duration{0, givenUp, 2 * givenUp} {
		rooms.refused.sweep(t.Context(), time.Now().Add(later))
	}
	assert.Empty(t, missing(rooms))
}

// missing are the reasons for which a history would be read.
func missing(rooms *rooms) []history.Reason {
	var reasons []history.Reason
	for reason, span := range rooms.filler.Missing(time.Now()) {
		if span > 0 {
			reasons = append(reasons, reason)
		}
	}
	return reasons
}

func TestReceiver_NotesOverloadByItemsOfItsOwn(t *testing.T) {
	t.Parallel()
	r, rooms := furnished(t)
	post, state := listening(t, r, rooms)
	assert.Equal(t, http.StatusServiceUnavailable, post(padded(`{"value":[{"clientState":"`+state+`"}]}`, room)))
	assert.Len(t, rooms.refused.overloads.minutes, 1)
}

// What carries a client state of ours and can't be decided is owed by Graph, and by the history once Graph has given up.
func TestReceiver_NotesWhatItCannotDecide(t *testing.T) {
	t.Parallel()
	r, rooms := furnished(t)
	post, state := listening(t, r, rooms)
	token := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","kid":"k"}`)) + ".e30.e30"
	body := `{"value":[{"clientState":"` + state + `","changeType":"created","tenantId":"` + r.settings.TenantID + `"}],"validationTokens":["` + token + `"]}`
	assert.Equal(t, http.StatusServiceUnavailable, post(body), "the signing keys are out of reach")
	assert.NotZero(t, rooms.silence.heard)
	rooms.refused.sweep(t.Context(), time.Now())
	assert.Empty(t, missing(rooms), "as Graph may still send it")
	rooms.refused.sweep(t.Context(), time.Now().Add(givenUp))
	assert.Equal(t, []history.Reason{history.Refused}, missing(rooms))
}

// A body that only our own limits refuse is fetched from the history where a client state of ours is in it.
func TestReceiver_FetchesWhatOnlyItsLimitsRefuse(t *testing.T) {
	t.Parallel()
	r, rooms := furnished(t)
	post, state := listening(t, r, rooms)
	body := `{"value":[{"clientState":"` + state + `","x":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `}]}`
	assert.Equal(t, http.StatusBadRequest, post(body))
	assert.Equal(t, []history.Reason{history.Unverified}, missing(rooms))
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
