// SPDX-License-Identifier: Apache-2.0

package graphtest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

func TestFault_IsLimitedByTimes(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	g.Fail(graphtest.OpList, graphtest.Fault{Status: 503, RetryAfter: "7", Times: 2})
	var statuses []int
	for range 3 {
		status, header, _ := g.exchange(http.MethodGet, "/v1.0/subscriptions", nil)
		statuses = append(statuses, status)
		if status == http.StatusServiceUnavailable {
			assert.Equal(t, "7", header.Get("Retry-After"))
		}
	}
	assert.Equal(t, []int{503, 503, 200}, statuses)
}

func TestFault_HasErrorShapeOfService(t *testing.T) {
	t.Parallel()
	for status, code := range map[int]string{
		401: "InvalidAuthenticationToken", 403: "Forbidden", 404: "ResourceNotFound", 429: "TooManyRequests", 503: "ServiceUnavailable", 500: "UnknownError",
	} {
		g := start(t, nil)
		g.token = g.newToken()
		g.Fail(graphtest.AnyGraph, graphtest.Fault{Status: status})
		got, answer := g.call(http.MethodGet, "/v1.0/subscriptions", nil)
		problemCode, _ := errorOf(answer)
		assert.Equal(t, status, got)
		assert.Equal(t, code, problemCode)
		g.Fail(graphtest.OpList, graphtest.Fault{Status: status, Code: "Mine", Message: "my message"})
		_, answer = g.call(http.MethodGet, "/v1.0/subscriptions", nil)
		mine, message := errorOf(answer)
		assert.Equal(t, []string{"Mine", "my message"}, []string{mine, message})
		g.Fail(graphtest.OpToken, graphtest.Fault{Status: status})
		got, answer = g.postToken(tenantID, g.tokenForm(), nil)
		assert.Equal(t, status, got)
		assert.Contains(t, answer["error_description"], "AADSTS")
		g.Heal(graphtest.OpToken)
		g.newToken()
		g.Heal()
		got, _ = g.call(http.MethodGet, "/v1.0/subscriptions", nil)
		assert.Equal(t, http.StatusOK, got)
	}
}

// readList lists subscriptions and returns at most limit bytes of the answer.
func (g *client) readList(ctx context.Context, limit int64) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url+"/v1.0/subscriptions", http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	return io.ReadAll(io.LimitReader(response.Body, limit))
}

func TestFault_ResetsConnection(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	g.Fail(graphtest.OpList, graphtest.Fault{Reset: true})
	_, err := g.readList(t.Context(), 1)
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, g.WaitRequests(deadline(t), graphtest.OpList, 1))
	assert.Zero(t, g.Requests()[0].Status)
}

func TestFault_TruncatesOrNeverEndsBody(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	g.Fail(graphtest.OpList, graphtest.Fault{InvalidJSON: true, Times: 1})
	body, err := g.readList(t.Context(), 1000)
	require.NoError(t, err)
	assert.False(t, json.Valid(body))
	assert.NotEmpty(t, body)
	g.Fail(graphtest.OpList, graphtest.Fault{Endless: true})
	body, err = g.readList(t.Context(), 10<<20)
	require.NoError(t, err)
	assert.Equal(t, bytes.Repeat([]byte(" "), 10<<20), body)
}

func TestFault_DelaysAnswer(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	g.token = g.newToken()
	g.Fail(graphtest.OpList, graphtest.Fault{Delay: 20 * time.Millisecond})
	at := time.Now()
	status, _ := g.call(http.MethodGet, "/v1.0/subscriptions", nil)
	assert.Equal(t, http.StatusOK, status)
	assert.GreaterOrEqual(t, time.Since(at), 20*time.Millisecond)
	g.Fail(graphtest.OpList, graphtest.Fault{Delay: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := g.readList(ctx, 1)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestFault_ChanceIsRepeatable(t *testing.T) {
	t.Parallel()
	outcomes := func(seed uint64) (statuses []int) {
		g := start(t, func(s *graphtest.Settings) { s.Seed, s.NoListLimit = seed, true })
		g.token = g.newToken()
		g.Fail(graphtest.AnyGraph, graphtest.Fault{Status: 429, Chance: 0.5})
		for range 40 {
			status, _ := g.call(http.MethodGet, "/v1.0/subscriptions", nil)
			statuses = append(statuses, status)
		}
		return statuses
	}
	first, again, other := outcomes(1), outcomes(1), outcomes(2)
	assert.Equal(t, first, again)
	assert.NotEqual(t, first, other)
	assert.Contains(t, first, 200)
	assert.Contains(t, first, 429)
}
