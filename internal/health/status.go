// SPDX-License-Identifier: Apache-2.0

package health

import (
	"errors"
	"maps"
	"slices"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
)

// Status reports changes of the receiver's health to the host of every signal. One receiver serves several signals, each of
// which is a separate component instance to the Collector. The Collector itself reports that an instance is starting, and after a
// Start during which nothing was reported that it is well: https://pkg.go.dev/go.opentelemetry.io/collector/component/componentstatus
type Status struct {
	mu    sync.Mutex // guards what follows
	hosts []component.Host
	// last is the last report, for hosts that join later; nil before the first, when the receiver is well.
	last *componentstatus.Event
	// failing holds the current error of each failing part of the receiver.
	failing map[string]error
	// fatalErr is the first fatal error. After it, reports go only to hosts that join.
	fatalErr error
}

// Join adds a host. A host that joins late gets the last report, and a fatal error as a permanent one.
func (s *Status) Join(host component.Host) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hosts = append(s.hosts, host)
	if s.last != nil {
		componentstatus.ReportStatus(host, s.last)
	}
}

// Part returns the function with which a part of the receiver reports changes of its health: a recoverable error, which
// goes away by itself or once an operator fixed its cause, or nil. The receiver is healthy when all of its parts are.
func (s *Status) Part(name string) func(error) {
	return func(err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.failing == nil {
			s.failing = map[string]error{}
		}
		delete(s.failing, name)
		if err != nil {
			s.failing[name] = failure.Explain(err)
		}
		var all []error
		for _, part := range slices.Sorted(maps.Keys(s.failing)) {
			all = append(all, s.failing[part])
		}
		if len(all) == 0 {
			s.report(componentstatus.NewEvent(componentstatus.StatusOK))
			return
		}
		s.report(componentstatus.NewRecoverableErrorEvent(errors.Join(all...)))
	}
}

// Fatal reports an error after which the receiver can't do its work; the Collector then shuts down. Only the first call
// reports, and only one host gets a fatal event, the others a permanent error: the Collector reads a single fatal event,
// and it blocks forever, with the lock of all status reports held, when it gets another.
func (s *Status) Fatal(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fatalErr != nil {
		return
	}
	err = failure.Explain(err)
	permanent := componentstatus.NewPermanentErrorEvent(err)
	s.last, s.fatalErr = permanent, err
	if len(s.hosts) == 0 {
		return
	}
	for _, host := range s.hosts[1:] {
		componentstatus.ReportStatus(host, permanent)
	}
	// The fatal event comes last, since it starts the shutdown.
	componentstatus.ReportStatus(s.hosts[0], componentstatus.NewFatalErrorEvent(err))
}

// FatalError returns the fatal error, nil if there was none.
func (s *Status) FatalError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fatalErr
}

// report reports an event unless it repeats the last one. It is called with mu held.
func (s *Status) report(event *componentstatus.Event) {
	if s.fatalErr != nil || text(event) == text(s.last) {
		return
	}
	s.last = event
	for _, host := range s.hosts {
		componentstatus.ReportStatus(host, event)
	}
}

// text returns the text of an error event, and nothing for an event without error and for none.
func text(event *componentstatus.Event) string {
	if event == nil || event.Err() == nil {
		return ""
	}
	return event.Err().Error()
}
