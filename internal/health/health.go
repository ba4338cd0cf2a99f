// SPDX-License-Identifier: Apache-2.0

// Package health says when the failures of a part of the receiver are logged.
package health

import (
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
)

// repeatInterval is the time between two log lines of a failure that lasts. Most log views reach back a few hours, and a
// failure that was logged once, days ago, is not seen there.
const repeatInterval = time.Hour

// Part reports the failures of one part of the receiver: the first failure with its hint, again each hour while it lasts, at
// once when another kind of failure takes its place, and its end. Of kinds that alternate each is logged once an hour. It is
// safe for concurrent use.
//
// All fields but Status are required.
type Part struct {
	// Logger gets the lines.
	Logger *zap.Logger
	// Failing and Recovered are the messages.
	Failing, Recovered string
	// Code is that of an error which has no failure of its own.
	Code failure.Code
	// Status is told the failure when it is new or of another kind, and nil when it is over. It must not block.
	Status func(error)

	mu   sync.Mutex
	kind string
	// loggedAt is when each kind of the current failure was logged last; nil while there is none.
	loggedAt map[string]time.Time
}

// Report notes the result of an attempt; nil means that it succeeded. The code and the hint of the error's failure are logged, and
// the given fields. Failures are of the same kind if they have the same code.
func (p *Part) Report(err error, fields ...zap.Field) {
	err = failure.WithDefault(err, p.Code)
	p.ReportKind(string(failure.Of(err).Code), err, fields...)
}

// ReportKind is like Report for failures of which the code is not enough to tell one kind from another. The kind is one of a few values.
func (p *Part) ReportKind(kind string, err error, fields ...zap.Field) {
	err = failure.WithDefault(err, p.Code)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.end()
		return
	}
	if p.loggedAt == nil || kind != p.kind {
		p.kind = kind
		p.notify(err)
	}
	if at, logged := p.loggedAt[kind]; logged && time.Since(at) < repeatInterval {
		return
	}
	if p.loggedAt == nil {
		p.loggedAt = map[string]time.Time{}
	}
	p.loggedAt[kind] = time.Now()
	told := failure.Of(err)
	p.Logger.Log(told.Level(), p.Failing, slices.Concat([]zap.Field{zap.Error(err)}, fields, told.Fields())...)
}

func (p *Part) end() {
	if p.loggedAt == nil {
		return
	}
	p.loggedAt = nil
	p.Logger.Info(p.Recovered)
	p.notify(nil)
}

func (p *Part) notify(err error) {
	if p.Status != nil {
		p.Status(err)
	}
}
