package receiver

import (
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
}

// join adds a host. A host that joins late learns the last report.
func (s *status) join(host component.Host) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hosts = append(s.hosts, host)
	if s.last != nil {
		componentstatus.ReportStatus(host, s.last)
	}
}

// recoverable reports an error that goes away by itself or once an operator has mended something; nil reports health.
func (s *status) recoverable(err error) {
	if err == nil {
		s.report(componentstatus.NewEvent(componentstatus.StatusOK))
		return
	}
	s.report(componentstatus.NewRecoverableErrorEvent(err))
}

// fatal reports an error after which the receiver can't do its work; the Collector then shuts down.
func (s *status) fatal(err error) {
	s.report(componentstatus.NewFatalErrorEvent(err))
}

func (s *status) report(event *componentstatus.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = event
	for _, host := range s.hosts {
		componentstatus.ReportStatus(host, event)
	}
}
