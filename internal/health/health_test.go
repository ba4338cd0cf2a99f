// SPDX-License-Identifier: Apache-2.0

package health_test

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/health"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

var (
	errHangs = errors.New("storage hangs")
	errFull  = errors.New("disk is full")
)

// part is a Part with what it reported.
type part struct {
	health.Part
	logs     *observer.ObservedLogs
	statuses []error
}

func newPart() *part {
	core, logs := observer.New(zap.DebugLevel)
	p := &part{logs: logs}
	p.Logger, p.Failing, p.Recovered, p.Code = zap.New(core), "state can't be stored", "state is stored again", failure.StorageFailing
	p.Status = func(err error) { p.statuses = append(p.statuses, err) }
	return p
}

// takeLines returns the lines since the last call, each with its level and error.
func (p *part) takeLines() []string {
	lines := []string{}
	for _, entry := range p.logs.TakeAll() {
		line := entry.Level.String() + ": " + entry.Message
		if text, ok := entry.ContextMap()["error"]; ok {
			line += fmt.Sprint(": ", text)
		}
		lines = append(lines, line)
	}
	return lines
}

const (
	hangs     = "warn: state can't be stored: storage hangs"
	full      = "warn: state can't be stored: disk is full"
	recovered = "info: state is stored again"
)

func TestPart_LogsFirstFailureThenHourly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPart()
		began := time.Now()
		var after []time.Duration
		for time.Since(began) < 3*time.Hour {
			p.Report(errHangs)
			for range p.takeLines() {
				after = append(after, time.Since(began))
			}
			time.Sleep(time.Minute)
		}
		assert.Equal(t, []time.Duration{0, time.Hour, 2 * time.Hour}, after)
	})
}

func TestPart_LogsRecoveryOnce(t *testing.T) {
	t.Parallel()
	p := newPart()
	p.Report(nil)
	assert.Empty(t, p.takeLines(), "nothing has failed")
	p.Report(errHangs)
	p.Report(nil)
	p.Report(nil)
	assert.Equal(t, []string{hangs, recovered}, p.takeLines())
}

func TestPart_LogsNewFailureAtOnceAfterRecovery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPart()
		p.Report(errHangs)
		p.Report(nil)
		time.Sleep(time.Second)
		p.Report(errHangs)
		assert.Equal(t, []string{hangs, recovered, hangs}, p.takeLines())
	})
}

func TestPart_LogsAnotherKindAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPart()
		p.ReportKind("hangs", errHangs)
		time.Sleep(time.Second)
		p.ReportKind("full", errFull)
		p.ReportKind("full", errHangs)
		assert.Equal(t, []string{hangs, full}, p.takeLines(), "the kind decides, not the text")
		time.Sleep(time.Hour - time.Nanosecond)
		p.ReportKind("full", errFull)
		assert.Empty(t, p.takeLines())
		time.Sleep(time.Nanosecond)
		p.ReportKind("full", errFull)
		assert.Equal(t, []string{full}, p.takeLines(), "it lasts an hour")
		p.ReportKind("full", nil)
		assert.Equal(t, []string{recovered}, p.takeLines())
	})
}

func TestPart_LogsAlternatingKindsHourly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPart()
		for range 60 {
			p.ReportKind("hangs", errHangs)
			p.ReportKind("full", errFull)
			time.Sleep(time.Minute)
		}
		assert.Equal(t, []string{hangs, full}, p.takeLines())
		p.ReportKind("hangs", errHangs)
		p.ReportKind("full", errFull)
		assert.Equal(t, []string{hangs, full}, p.takeLines())
	})
}

func TestPart_FieldsBelongToFailure(t *testing.T) {
	t.Parallel()
	p := newPart()
	p.Report(errHangs, zap.String("key", "gaps"))
	p.Report(nil, zap.String("key", "gaps"))
	entries := p.logs.TakeAll()
	require.Len(t, entries, 2)
	told := failure.New(failure.StorageFailing)
	want := map[string]any{"error": "storage hangs", "code": string(told.Code), "hint": told.Hint, "key": "gaps"}
	assert.Equal(t, want, entries[0].ContextMap())
	assert.Empty(t, entries[1].Context)
}

func TestPart_CodeIsThatOfErrorsWithoutFailure(t *testing.T) {
	t.Parallel()
	p := newPart()
	p.Report(failure.With(errHangs, failure.New(failure.StorageDamaged)))
	p.Report(errHangs)
	p.ReportKind("full", errFull)
	var logged []any
	for _, entry := range p.logs.TakeAll() {
		logged = append(logged, entry.ContextMap()["code"])
	}
	want := []any{string(failure.StorageDamaged), string(failure.StorageFailing), string(failure.StorageFailing)}
	assert.Equal(t, want, logged)
	for i, err := range p.statuses {
		assert.EqualValues(t, want[i], failure.Of(err).Code, "the status has the code of the line")
	}
}

func TestPart_StatusFollowsEachChange(t *testing.T) {
	t.Parallel()
	p := newPart()
	p.Report(nil)
	for range 2 {
		p.ReportKind("hangs", errHangs)
	}
	for range 2 {
		p.ReportKind("full", errFull)
	}
	p.ReportKind("hangs", errHangs)
	for range 2 {
		p.Report(nil)
	}
	want := []error{errHangs, errFull, errHangs, nil}
	require.Len(t, p.statuses, len(want))
	for i, status := range p.statuses {
		assert.ErrorIs(t, status, want[i])
	}
}

func TestPart_NeedsNoStatus(t *testing.T) {
	t.Parallel()
	p := newPart()
	p.Status = nil
	p.Report(errHangs)
	p.Report(nil)
	assert.Equal(t, []string{hangs, recovered}, p.takeLines())
}

func TestPart_IsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	p := newPart()
	var attempts sync.WaitGroup
	for n := range 8 {
		attempts.Go(func() { p.ReportKind(strconv.Itoa(n%2), errHangs) })
	}
	attempts.Wait()
	assert.Equal(t, []string{hangs, hangs}, p.takeLines(), "one of each kind")
	p.Report(nil)
	assert.Equal(t, []string{recovered}, p.takeLines())
	assert.NoError(t, p.statuses[len(p.statuses)-1], "the last status is that it is over")
}
