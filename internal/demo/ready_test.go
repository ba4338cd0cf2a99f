// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func demoAt(began time.Time) *demo {
	return &demo{
		directory: "/tmp/demo", began: began,
		addresses: addresses{Logs: "127.0.0.1:9428", Metrics: "127.0.0.1:40001"},
	}
}

func TestReady_NamesWhatToOpen(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, time.November, 26, 15, 0, 0, 0, time.UTC)
	text := demoAt(began).ready(began.Add(11*time.Second), 40_000)
	for _, want := range []string{
		"Ready after 11s: 200 people, 150 of them with a license, 40000 interactions",
		"http://127.0.0.1:40001/vmui/#/dashboards?g0.range_input=30d&g0.relative_time=last_30_days\n",
		"http://127.0.0.1:9428/select/vmui/#/?query=%7Bevent_name%3D%22microsoft.copilot.interaction%22%7D&",
		"http://127.0.0.1:40001/vmui/#/rules\n",
		"/tmp/demo: ",
	} {
		assert.Contains(t, text, want)
	}
	assert.NotContains(t, text, "ingress")
}

func TestReady_SaysWhenOutageBegins(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, time.November, 26, 15, 0, 0, 0, time.UTC)
	d := demoAt(began)
	d.outage = began.Add(time.Minute)
	text := d.ready(began.Add(11*time.Second), 40_000)
	assert.Contains(t, text, "At 15:01:00 the ingress breaks and the subscription is removed; at 15:02:00 the ingress works again.")
	assert.Contains(t, text, "http://127.0.0.1:40001/vmui/#/dashboards?g0.range_input=15m&g0.relative_time=last_15_minutes\n")
}
