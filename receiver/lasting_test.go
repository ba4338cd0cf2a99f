// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

// statusHost is a host that records the reported status events.
type statusHost struct {
	fakeHost
	events []*componentstatus.Event
}

func (h *statusHost) Report(event *componentstatus.Event) { h.events = append(h.events, event) }

// lasts makes a failure that was observed begin a minute earlier.
func (l *lastingFailure) lasts(t *testing.T) {
	t.Helper()
	require.False(t, l.since.IsZero())
	l.since = l.since.Add(-lastingAfter)
}

// Graph's own notifications alone count: forged ones tell nothing of the receiver.
func TestReject_LastingIsTheStatus(t *testing.T) {
	t.Parallel()
	r, _ := newTestReceiver(t)
	host := &statusHost{}
	r.status.Join(host)
	foreign := []notification.Rejection{notification.ForeignItems(1)}
	r.pipeline.Reject(t.Context(), foreign)
	assert.True(t, r.pipeline.accepting.since.IsZero())

	without := []notification.Rejection{{
		Reason: notification.ReasonTokenMissing, Gap: gap.Unverified,
		Err: failure.With(errors.New("no validation tokens"), failure.New(failure.TokensMissing)),
	}}
	r.pipeline.Reject(t.Context(), without)
	r.pipeline.accepting.lasts(t)
	r.pipeline.Reject(t.Context(), foreign)
	assert.Empty(t, host.events)
	r.pipeline.Reject(t.Context(), without)
	require.Len(t, host.events, 1)
	assert.Equal(t, componentstatus.StatusRecoverableError, host.events[0].Status())
	require.ErrorContains(t, host.events[0].Err(), "no validation tokens (COP412: ")
}

func TestPipeline_LastingRefusalIsTheStatus(t *testing.T) {
	t.Parallel()
	r, _ := newTestReceiver(t)
	host, result := &statusHost{}, errFull
	r.status.Join(host)
	sendLogs(t, r, func(context.Context, plog.Logs) error { return result })
	one := list(interactionAt(time.Now()))
	require.Error(t, r.pipeline.Take(t.Context(), one))
	r.pipeline.delivering.lasts(t)
	assert.Empty(t, host.events)
	require.Error(t, r.pipeline.Take(t.Context(), one))
	require.Len(t, host.events, 1)
	require.ErrorContains(t, host.events[0].Err(), "(COP006: ")

	result = nil
	require.NoError(t, r.pipeline.Take(t.Context(), one))
	require.Len(t, host.events, 2)
	assert.Equal(t, componentstatus.StatusOK, host.events[1].Status())
}

func TestLastingFailure_ReportsWhatLasts(t *testing.T) {
	t.Parallel()
	missing := failure.With(errors.New("no tokens"), failure.New(failure.TokensMissing))
	clock := failure.With(errors.New("expired"), failure.New(failure.ClockWrong))
	const tokens, expired, over = failure.TokensMissing, failure.ClockWrong, failure.Code("")
	type step struct {
		after time.Duration
		err   error
	}
	for name, test := range map[string]struct {
		steps []step
		want  []failure.Code
	}{
		"success alone":                     {[]step{{0, nil}, {time.Hour, nil}}, nil},
		"one failure":                       {[]step{{0, missing}, {time.Hour, nil}}, nil},
		"failures of less than a minute":    {[]step{{0, missing}, {59 * time.Second, missing}, {0, nil}, {time.Second, missing}}, nil},
		"failures between successes":        {[]step{{0, missing}, {time.Hour, nil}, {0, missing}, {time.Hour, nil}, {0, missing}}, nil},
		"failures for a minute":             {[]step{{0, missing}, {time.Minute, missing}}, []failure.Code{tokens}},
		"failures that go on":               {[]step{{0, missing}, {time.Minute, missing}, {time.Hour, missing}}, []failure.Code{tokens}},
		"single failures on quiet days":     {[]step{{0, missing}, {2 * time.Hour, missing}, {2 * time.Hour, missing}}, nil},
		"failures for a minute after quiet": {[]step{{0, missing}, {2 * time.Hour, missing}, {time.Minute, missing}}, []failure.Code{tokens}},
		"their end":                         {[]step{{0, missing}, {time.Minute, missing}, {0, nil}, {0, nil}}, []failure.Code{tokens, over}},
		"another code in place of it":       {[]step{{0, missing}, {time.Minute, missing}, {time.Minute, clock}}, []failure.Code{tokens, expired}},
		"codes that alternate in a minute":  {[]step{{0, missing}, {time.Minute, missing}, {0, clock}, {0, missing}, {0, clock}}, []failure.Code{tokens}},
		"the same failure after its end":    {[]step{{0, missing}, {time.Minute, missing}, {0, nil}, {time.Hour, missing}}, []failure.Code{tokens, over}},
		"errors without a code that go on":  {[]step{{0, errFull}, {time.Minute, errFull}, {time.Minute, errFull}}, []failure.Code{""}},
		"a second failure that lasts again": {[]step{{0, clock}, {time.Minute, clock}, {0, nil}, {0, clock}, {time.Minute, clock}}, []failure.Code{expired, over, expired}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var told []failure.Code
				l := &lastingFailure{status: func(err error) { told = append(told, failure.Of(err).Code) }}
				for _, s := range test.steps {
					time.Sleep(s.after)
					l.observe(s.err)
				}
				assert.Equal(t, test.want, told)
			})
		})
	}
}
