package graphtest_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

const (
	prompt   = `{"id":"1764599405123","sessionId":"s1","requestId":"r1","interactionType":"userPrompt","appClass":"IPM.SkypeTeams.Message.Copilot.BizChat","from":{"user":{"id":"B2A7C9E4-5D31-4F0C-8E62-7A1B3C5D9F00"}},"body":{"content":"für dich, „heute“"}}`
	response = `{"id":"1764599405640","sessionId":"s1","requestId":"r1","interactionType":"aiResponse","appClass":"IPM.SkypeTeams.Message.Copilot.BizChat","from":{"user":null}}`
)

var promptAndResponse = graphtest.Created([]byte(prompt), []byte(response))

func TestPublish_EncryptsForSubscription(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	s := g.subscribe(e, nil)
	n, err := g.Publish(t.Context(), promptAndResponse...)
	require.NoError(t, err)
	assert.Equal(t, 2, n)
	require.NoError(t, g.WaitDelivered(deadline(t), n))
	posts, opened := e.received()
	require.Len(t, posts, 1)
	assert.Equal(t, []string{prompt, response}, opened)
	assert.Empty(t, e.errs)
	item := posts[0].Value[0]
	assert.Equal(t, s.ID, item.SubscriptionID)
	assert.Equal(t, "state", item.ClientState)
	assert.Equal(t, "created", item.ChangeType)
	assert.Equal(t, tenantID, item.TenantID)
	assert.Equal(t, "copilot/interactionHistory/interactions('1764599405123')", item.Resource)
	assert.Equal(t, &graphtest.ResourceData{ID: "1764599405123", ODataType: "#Microsoft.Graph.aiInteraction", ODataID: item.Resource}, item.ResourceData)
	assert.Equal(t, "key-1", item.EncryptedContent.EncryptionCertificateID)
	assert.Len(t, item.EncryptedContent.EncryptionCertificateThumbprint, 40)
	expiration, err := time.Parse(time.RFC3339, item.SubscriptionExpiration)
	require.NoError(t, err)
	assert.WithinDuration(t, s.Expiration, expiration, time.Microsecond)
	require.Len(t, posts[0].ValidationTokens, 1)
}

func TestDelivery_RetriesFailures(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	g.subscribe(e, nil)
	e.answerWith(func(w http.ResponseWriter, _ *http.Request, n int) {
		w.WriteHeader(map[bool]int{true: http.StatusServiceUnavailable, false: http.StatusNoContent}[n < 4])
	})
	n, err := g.Publish(t.Context(), promptAndResponse...)
	require.NoError(t, err)
	require.NoError(t, g.WaitDelivered(deadline(t), n))
	var statuses, attempts []int
	for _, a := range g.Acknowledgements() {
		if !a.Handshake {
			statuses, attempts = append(statuses, a.Status), append(attempts, a.Attempt)
		}
	}
	assert.Equal(t, []int{503, 503, 503, 204}, statuses)
	assert.Equal(t, []int{1, 2, 3, 4}, attempts)
	posts, _ := e.received()
	assert.Equal(t, posts[0], posts[3], "a retry is the same notification")
	assert.Equal(t, 3, g.Stats().Refused)
}
