package graphtest_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

const (
	alice = "aaaaaaaa-0000-4000-a000-000000000001"
	bob   = "bbbbbbbb-0000-4000-a000-000000000002"
)

// newInteraction makes a prompt of the user, or a response when the user is empty.
func newInteraction(id, session, request, user, app string) graphtest.Interaction {
	from := map[string]any{"user": nil}
	if user != "" {
		from["user"] = map[string]any{"id": user}
	}
	text, err := json.Marshal(map[string]any{"id": id, "sessionId": session, "requestId": request, "appClass": app, "from": from})
	if err != nil {
		panic(err)
	}
	return graphtest.Interaction{JSON: text}
}

func receivedIDs(t *testing.T, e *endpoint) []string {
	t.Helper()
	posts, _ := e.received()
	var found []string
	for _, c := range posts {
		for _, item := range c.Value {
			found = append(found, item.ResourceData.ID)
		}
	}
	return found
}

func TestPublish_HonorsResourceAndChangeType(t *testing.T) {
	t.Parallel()
	interactions := []graphtest.Interaction{
		newInteraction("1", "s", "r1", alice, "Word"),
		newInteraction("2", "s", "r1", "", "Word"),
		newInteraction("3", "x", "r2", bob, "Excel"),
		newInteraction("4", "x", "", "", "Excel"),
		newInteraction("5", "nobody", "r3", "", "Word"),
		{JSON: newInteraction("6", "nobody", "r4", "", "Excel").JSON, UserID: "AAAAAAAA-0000-4000-A000-000000000001", Change: "updated"},
	}
	user := "/copilot/users/" + alice + "/interactionHistory/getAllEnterpriseInteractions"
	for name, c := range map[string]struct {
		change func(map[string]any)
		want   []string
	}{
		"everything of the tenant": {nil, []string{"1", "2", "3", "4", "5", "6"}},
		"one kind of change":       {with("changeType", "updated"), []string{"6"}},
		"one user, answers too":    {with("resource", user), []string{"1", "2", "6"}},
		"one app":                  {with("resource", resource+"?$filter=appClass eq 'Word'"), []string{"1", "2", "5"}},
		"all apps but one":         {with("resource", resource+"?$filter=appClass%20ne%20'Word'"), []string{"3", "4", "6"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, e := start(t, nil), newEndpoint(t)
			g.subscribe(e, c.change)
			n, err := g.Publish(t.Context(), interactions...)
			require.NoError(t, err)
			assert.Equal(t, len(c.want), n)
			require.NoError(t, g.WaitDelivered(deadline(t), n))
			assert.Equal(t, c.want, receivedIDs(t, e))
		})
	}
}

func TestPublish_OffersNothingWithoutSubscription(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	n, err := g.Publish(t.Context(), promptAndResponse...)
	require.NoError(t, err)
	assert.Zero(t, n)
	assert.Equal(t, 2, g.Stats().Published)
	_, err = g.Collection(promptAndResponse...)
	require.ErrorIs(t, err, graphtest.ErrNoSubscription)
	_, err = g.Publish(t.Context(), graphtest.Created([]byte("{"))...)
	require.ErrorContains(t, err, "not JSON as Graph writes it")
}

func TestPublish_SendsBatches(t *testing.T) {
	t.Parallel()
	g, e := start(t, func(s *graphtest.Settings) { s.BatchSize = 3 }), newEndpoint(t)
	g.subscribe(e, nil)
	var many []graphtest.Interaction
	for i := range 7 {
		many = append(many, newInteraction(strconv.Itoa(i), "s", "r", alice, "Word"))
	}
	n, err := g.Publish(t.Context(), many...)
	require.NoError(t, err)
	require.NoError(t, g.WaitDelivered(deadline(t), n))
	posts, _ := e.received()
	assert.Len(t, posts, 3)
	assert.Len(t, receivedIDs(t, e), 7)
}

func TestPublish_OmitsContentOfTombstones(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	g.subscribe(e, nil)
	n, err := g.Publish(t.Context(), graphtest.Interaction{JSON: []byte(prompt), Change: "deleted", WithoutContent: true})
	require.NoError(t, err)
	require.NoError(t, g.WaitDelivered(deadline(t), n))
	posts, _ := e.received()
	assert.Equal(t, "deleted", posts[0].Value[0].ChangeType)
	assert.Nil(t, posts[0].Value[0].EncryptedContent)
	assert.NotEmpty(t, posts[0].ValidationTokens)
}

func TestCollection_OfBasicSubscriptionHasNoContent(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	g.subscribe(e, without("includeResourceData", "encryptionCertificate", "encryptionCertificateId"))
	c, err := g.Collection(promptAndResponse[0])
	require.NoError(t, err)
	text, err := json.Marshal(c)
	require.NoError(t, err)
	assert.NotContains(t, string(text), "encryptedContent")
	assert.NotContains(t, string(text), "validationTokens")
}

func TestSendNullTokens_SendsNull(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	g.subscribe(e, nil)
	g.SendNullTokens(true)
	c, err := g.Collection(promptAndResponse[0])
	require.NoError(t, err)
	text, err := json.Marshal(c)
	require.NoError(t, err)
	assert.Contains(t, string(text), `"validationTokens":null`)
	g.SendNullTokens(false)
	c, err = g.Collection(promptAndResponse[0])
	require.NoError(t, err)
	assert.Len(t, c.ValidationTokens, 1)
}

func TestDeliveryFaults_DuplicateReorderAndDrop(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	g.subscribe(e, nil)
	g.SetDeliveryFaults(graphtest.DeliveryFaults{Duplicate: 1, Reorder: 1})
	var many []graphtest.Interaction
	for i := range 10 {
		many = append(many, newInteraction(strconv.Itoa(i), "s", "r", alice, "Word"))
	}
	_, err := g.Publish(t.Context(), many...)
	require.NoError(t, err)
	require.NoError(t, g.Wait(deadline(t), func(s graphtest.Stats) bool { return s.Attempts == 2 }))
	posts, _ := e.received()
	assert.Equal(t, posts[0], posts[1])
	assert.NotEqual(t, []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}, receivedIDs(t, e)[:10])
	assert.Equal(t, 10, g.Stats().Acknowledged, "an item counts once")
	assert.Equal(t, 10, g.Stats().Duplicates)

	g.SetDeliveryFaults(graphtest.DeliveryFaults{Drop: 1})
	n, err := g.Publish(t.Context(), promptAndResponse...)
	require.NoError(t, err)
	assert.Equal(t, 2, n)
	require.NoError(t, g.WaitIdle(deadline(t)))
	assert.Equal(t, []string{"1764599405123", "1764599405640"}, g.Lost())
}

func TestPublish_BlocksAtMaxPending(t *testing.T) {
	t.Parallel()
	g, e := start(t, func(s *graphtest.Settings) { s.MaxPending = 1 }), newEndpoint(t)
	g.subscribe(e, nil)
	received, release := make(chan struct{}), make(chan struct{})
	e.answerWith(func(w http.ResponseWriter, _ *http.Request, n int) {
		if n == 1 {
			close(received)
			<-release
		}
		w.WriteHeader(http.StatusAccepted)
	})
	_, err := g.Publish(t.Context(), promptAndResponse[0])
	require.NoError(t, err)
	<-received
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	n, err := g.Publish(ctx, promptAndResponse[1])
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Zero(t, n)
	assert.Equal(t, 1, g.Stats().Offered)
	assert.Zero(t, g.Stats().Lost)
	_, err = g.SendLifecycle(ctx, graphtest.Missed)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	close(release)
	require.NoError(t, g.Wait(deadline(t), func(s graphtest.Stats) bool { return s.Acknowledged == 1 }))
	_, err = g.Publish(deadline(t), promptAndResponse[1])
	require.NoError(t, err)
	require.NoError(t, g.WaitDelivered(deadline(t), 2))
}
