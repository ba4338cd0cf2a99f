// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// dated is a Graph that answers with a status and the value of its Date header.
type dated struct {
	status int
	date   string
}

func (d *dated) RoundTrip(*http.Request) (*http.Response, error) {
	reply := jsonReply(d.status, emptyList)
	reply.Header.Set("Date", d.date)
	return reply, nil
}

func httpDate(at time.Time) string { return at.UTC().Format(http.TimeFormat) }

func TestClient_NowFollowsAnEarlierGraph(t *testing.T) {
	t.Parallel()
	const tenDays = 240 * time.Hour
	for name, test := range map[string]struct {
		date   func(local time.Time) string
		status int
		behind time.Duration
	}{
		"the clocks agree":                         {httpDate, 200, 0},
		"the local clock is ten days ahead":        {func(local time.Time) string { return httpDate(local.Add(-tenDays)) }, 200, tenDays},
		"it is ahead, and Graph refuses":           {func(local time.Time) string { return httpDate(local.Add(-tenDays)) }, 403, tenDays},
		"it is more than a minute ahead":           {func(local time.Time) string { return httpDate(local.Add(-61 * time.Second)) }, 200, 61 * time.Second},
		"it is a minute ahead, as with a slow net": {func(local time.Time) string { return httpDate(local.Add(-time.Minute)) }, 200, 0},
		"the local clock is behind":                {func(local time.Time) string { return httpDate(local.Add(tenDays)) }, 200, 0},
		"there is no date":                         {func(time.Time) string { return "" }, 200, 0},
		"the date is no date":                      {func(time.Time) string { return "yesterday" }, 200, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := &dated{status: test.status, date: test.date(time.Now())}
				client := newGraph(graph.Settings{Endpoint: "https://graph.example.com", HTTP: &http.Client{Transport: server}})
				assert.True(t, client.Now().Equal(time.Now()), "before the first response")
				assert.False(t, client.Answered())
				_, err := client.ListSubscriptions(t.Context())
				require.Equal(t, test.status != 200, err != nil)
				assert.True(t, client.Answered())
				assert.Equal(t, test.behind, time.Since(client.Now()))
				time.Sleep(90 * time.Minute)
				assert.Equal(t, test.behind, time.Since(client.Now()), "it goes on")
			})
		})
	}
}

func TestClient_NowFollowsTheNewestResponse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &dated{status: 200}
		client := newGraph(graph.Settings{Endpoint: "https://graph.example.com", HTTP: &http.Client{Transport: server}})
		for _, step := range []struct {
			date   string
			want   time.Duration
			reason string
		}{
			{httpDate(time.Now().Add(-time.Hour)), time.Hour, "the local clock is ahead"},
			{"", time.Hour, "a response without a date says nothing"},
			{httpDate(time.Now()), time.Duration(0), "the clock was set right"},
		} {
			server.date = step.date
			_, err := client.ListSubscriptions(t.Context())
			require.NoError(t, err)
			assert.Equal(t, step.want, time.Since(client.Now()), step.reason)
		}
	})
}

func TestClient_NowIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	server := &dated{status: 200, date: httpDate(time.Now().Add(-time.Hour))}
	client := newGraph(graph.Settings{Endpoint: "https://graph.example.com", HTTP: &http.Client{Transport: server}})
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			if _, err := client.ListSubscriptions(t.Context()); !assert.NoError(t, err, "each call succeeds") {
				return
			}
			assert.InDelta(t, 3600, time.Since(client.Now()).Seconds(), 30)
		})
	}
	calls.Wait()
}
