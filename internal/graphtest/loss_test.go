package graphtest_test

import (
	"bufio"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

func TestLost_ListsUndeliveredInteractions(t *testing.T) {
	t.Parallel()
	g, e := start(t, func(s *graphtest.Settings) { s.RetryFor, s.MaxRetryDelay = 20*time.Millisecond, 5*time.Millisecond }), newEndpoint(t)
	publish := func(id string, offered int) {
		n, err := g.Publish(t.Context(), newInteraction(id, "s", "r", alice, "Word"))
		require.NoError(t, err)
		assert.Equal(t, offered, n)
	}
	publish("1", 0) // nobody subscribed
	s := g.subscribe(e, with("changeType", "created"))
	publish("2", 1)
	require.NoError(t, g.WaitIdle(deadline(t)))
	e.answerWith(answerUnavailable)
	publish("3", 1) // given up
	require.NoError(t, g.WaitIdle(deadline(t)))
	g.SetDeliveryFaults(graphtest.DeliveryFaults{Drop: 1})
	publish("4", 1) // dropped
	g.SetDeliveryFaults(graphtest.DeliveryFaults{})
	require.NoError(t, g.ExpireAuthorization(s.ID))
	publish("5", 1) // its subscription goes
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

// hijack answers with bytes of its own and cuts the connection.
func hijack(t *testing.T, w http.ResponseWriter, answer string, reset bool) {
	t.Helper()
	connection, buffer, err := http.NewResponseController(w).Hijack()
	if err != nil {
		assert.Fail(t, "the connection can't be had", err.Error())
		return
	}
	defer func() { _ = connection.Close() }()
	write(t, buffer, answer)
	if inner, ok := connection.(interface{ NetConn() net.Conn }); ok && reset {
		tcp, isTCP := inner.NetConn().(*net.TCPConn)
		assert.True(t, isTCP)
		assert.NoError(t, tcp.SetLinger(0)) // a reset, as of a killed process
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
		"no answer":                     {"", false},
		"a reset":                       {"", true},
		"a part of the status line":     {"HTTP/1.1 20", false},
		"a status without its headers":  {"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n", false},
		"a part of the body":            {"HTTP/1.1 202 Accepted\r\nContent-Length: 10\r\n\r\nab", false},
		"a part of the body, and reset": {"HTTP/1.1 202 Accepted\r\nContent-Length: 10\r\n\r\nab", true},
		"chunks without the last":       {"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", false},
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
			assert.Len(t, receivedIDs(t, e), 3*n, "it came again until it was acknowledged")
		})
	}
}
