// SPDX-License-Identifier: Apache-2.0

package graphtest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
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

const (
	alice = "aaaaaaaa-0000-4000-a000-000000000001"
	bob   = "bbbbbbbb-0000-4000-a000-000000000002"
)

// newInteraction returns a prompt by the user, or a response if user is empty.
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
		newInteraction("5", "unknown", "r3", "", "Word"),
		{JSON: newInteraction("6", "unknown", "r4", "", "Excel").JSON, UserID: "AAAAAAAA-0000-4000-A000-000000000001", Change: "updated"},
	}
	user := "/copilot/users/" + alice + "/interactionHistory/getAllEnterpriseInteractions"
	for name, c := range map[string]struct {
		change func(map[string]any)
		want   []string
	}{
		"the whole tenant":      {nil, []string{"1", "2", "3", "4", "5", "6"}},
		"one kind of change":    {with("changeType", "updated"), []string{"6"}},
		"one user with answers": {with("resource", user), []string{"1", "2", "6"}},
		"one app":               {with("resource", resource+"?$filter=appClass eq 'Word'"), []string{"1", "2", "5"}},
		"all apps but one":      {with("resource", resource+"?$filter=appClass%20ne%20'Word'"), []string{"3", "4", "6"}},
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
	const firstTimeout = 300 * time.Millisecond
	g, e := start(t, func(s *graphtest.Settings) { s.FirstTimeout = firstTimeout }), newEndpoint(t)
	g.subscribe(e, nil)
	e.answerWith(func(w http.ResponseWriter, r *http.Request, _ int) {
		if g.Stats().Attempts == 0 { // none has ended, so this is the first, however late it arrives
			<-r.Context().Done()
			return
		}
		<-time.After(2 * firstTimeout) // shorter than RetryTimeout
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
	assert.GreaterOrEqual(t, attempts[0].Latency, firstTimeout)
	assert.Less(t, attempts[0].Latency, 5*time.Second)
	assert.True(t, attempts[1].Delivered())
	assert.GreaterOrEqual(t, g.Stats().MaxLatency, firstTimeout)
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

func TestLost_ListsUndeliveredInteractions(t *testing.T) {
	t.Parallel()
	g, e := start(t, func(s *graphtest.Settings) { s.RetryFor, s.MaxRetryDelay = 20*time.Millisecond, 5*time.Millisecond }), newEndpoint(t)
	publish := func(id string, offered int) {
		n, err := g.Publish(t.Context(), newInteraction(id, "s", "r", alice, "Word"))
		require.NoError(t, err)
		assert.Equal(t, offered, n)
	}
	publish("1", 0) // no subscription exists
	s := g.subscribe(e, with("changeType", "created"))
	publish("2", 1)
	require.NoError(t, g.WaitIdle(deadline(t)))
	e.answerWith(answerUnavailable)
	publish("3", 1) // not acknowledged within RetryFor
	require.NoError(t, g.WaitIdle(deadline(t)))
	g.SetDeliveryFaults(graphtest.DeliveryFaults{Drop: 1})
	publish("4", 1) // dropped
	g.SetDeliveryFaults(graphtest.DeliveryFaults{})
	require.NoError(t, g.ExpireAuthorization(s.ID))
	publish("5", 1) // its subscription is removed
	require.NoError(t, g.RemoveSubscription(t.Context(), s.ID, false))
	require.NoError(t, g.WaitIdle(deadline(t)))
	publish("6", 0)

	stats := g.Stats()
	assert.Equal(t, []int{6, 4, 1, 3, 2}, []int{stats.Published, stats.Offered, stats.Acknowledged, stats.Lost, stats.Uncovered})
	assert.Equal(t, []string{"1", "3", "4", "5", "6"}, g.Lost())
	found, _ := g.historyIDs(historyPath(alice, nil))
	assert.ElementsMatch(t, []string{"1", "2", "3", "4", "5", "6"}, found)
}

func TestUncovered_CountsUnwantedChanges(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	g.subscribe(e, with("changeType", "updated"))
	n, err := g.Publish(t.Context(), newInteraction("1", "s", "r", alice, "Word"), graphtest.Interaction{JSON: newInteraction("1", "s", "r", alice, "Word").JSON, Change: "updated"})
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	assert.Equal(t, 1, g.Stats().Uncovered)
	assert.Equal(t, []string{"1"}, g.Lost())
}

func TestUncovered_CountsOnceAfterClose(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	g.subscribe(e, nil)
	g.Close()
	_, err := g.Publish(t.Context(), promptAndResponse...)
	require.ErrorIs(t, err, graphtest.ErrClosed)
	stats := g.Stats()
	assert.Equal(t, []int{0, 0, 2}, []int{stats.Offered, stats.Lost, stats.Uncovered})
	assert.Len(t, g.Lost(), 2)
}

// hijack writes the given bytes as the answer and closes the connection, with a TCP reset if reset is set.
func hijack(t *testing.T, w http.ResponseWriter, answer string, reset bool) {
	t.Helper()
	connection, buffer, err := http.NewResponseController(w).Hijack()
	if err != nil {
		assert.Fail(t, "the connection can't be hijacked", err.Error())
		return
	}
	defer func() { _ = connection.Close() }()
	write(t, buffer, answer)
	if inner, ok := connection.(interface{ NetConn() net.Conn }); ok && reset {
		tcp, isTCP := inner.NetConn().(*net.TCPConn)
		assert.True(t, isTCP)
		assert.NoError(t, tcp.SetLinger(0)) // makes Close send a reset, as after a killed process
		assert.NoError(t, tcp.Close())
	}
}

func write(t *testing.T, buffer *bufio.ReadWriter, text string) {
	t.Helper()
	_, err := buffer.WriteString(text)
	assert.NoError(t, err)
	assert.NoError(t, buffer.Flush())
}

func TestDelivery_RetriesTruncatedAnswers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer string
		reset  bool
	}{
		"no answer":                    {"", false},
		"a reset":                      {"", true},
		"a partial status line":        {"HTTP/1.1 20", false},
		"a status without all headers": {"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n", false},
		"a partial body":               {"HTTP/1.1 202 Accepted\r\nContent-Length: 10\r\n\r\nab", false},
		"a partial body and a reset":   {"HTTP/1.1 202 Accepted\r\nContent-Length: 10\r\n\r\nab", true},
		"no last chunk":                {"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, e := start(t, nil), newEndpoint(t)
			g.subscribe(e, nil)
			e.answerWith(func(w http.ResponseWriter, _ *http.Request, n int) {
				if n <= 2 {
					hijack(t, w, test.answer, test.reset)
					return
				}
				w.WriteHeader(http.StatusAccepted)
			})
			n, err := g.Publish(t.Context(), promptAndResponse...)
			require.NoError(t, err)
			require.NoError(t, g.WaitIdle(deadline(t)))
			stats := g.Stats()
			assert.Equal(t, []int{n, n, 0, 0}, []int{stats.Offered, stats.Acknowledged, stats.Lost, stats.Duplicates})
			assert.Equal(t, []int{3, 2}, []int{stats.Attempts, stats.Refused})
			assert.Len(t, receivedIDs(t, e), 3*n, "it is sent again until it is acknowledged")
		})
	}
}
