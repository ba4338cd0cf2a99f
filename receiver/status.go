package receiver

import (
	"errors"
	"maps"
	"slices"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
)

// status tells every signal's host how the receiver is. One receiver serves several signals, and the Collector
// knows each of them as an instance of its own.
type status struct {
	mu    sync.Mutex // guards what follows
	hosts []component.Host
	// last is what was reported, for a host that comes later; nil while nothing was.
	last *componentstatus.Event
	// failing holds what fails by the part of the receiver that it fails in.
	failing map[string]error
	// fatalErr is the first fatal error. Nothing is reported after it but to hosts that join.
	fatalErr error
}

// join adds a host. A host that joins late learns the last report; of a fatal error it learns as of a permanent one.
func (s *status) join(host component.Host) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hosts = append(s.hosts, host)
	if s.last != nil {
		componentstatus.ReportStatus(host, s.last)
	}
}

// part returns how a part of the receiver reports its health on change: an error that goes away by itself or once an
// operator has mended something, nil when all is well again. The receiver is well when all of its parts are.
func (s *status) part(name string) func(error) {
	return func(err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.failing == nil {
			s.failing = map[string]error{}
		}
		delete(s.failing, name)
		if err != nil {
			s.failing[name] = err
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

// fatal reports an error after which the receiver can't do its work; the Collector then shuts down. Only the first call
// reports, and only one host gets a fatal event, the others a permanent error: the Collector reads a single fatal event,
// and it blocks forever, with the lock of all status reports held, when it gets another.
func (s *status) fatal(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fatalErr != nil {
		return
	}
	permanent := componentstatus.NewPermanentErrorEvent(err)
	s.last, s.fatalErr = permanent, err
	if len(s.hosts) == 0 {
		return
	}
	for _, host := range s.hosts[1:] {
		componentstatus.ReportStatus(host, permanent)
	}
	// The last of all, since it starts the shutdown.
	componentstatus.ReportStatus(s.hosts[0], componentstatus.NewFatalErrorEvent(err))
}

// fatalError returns the fatal error, nil where there was none.
func (s *status) fatalError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fatalErr
}

// report is called with mu held.
func (s *status) report(event *componentstatus.Event) {
	if s.fatalErr != nil {
		return
	}
	s.last = event
	for _, host := range s.hosts {
		componentstatus.ReportStatus(host, event)
	}
}
