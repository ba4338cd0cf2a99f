// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"sync"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
)

const (
	// lastingAfter is how long nothing may have succeeded before a failure counts as one that lasts.
	lastingAfter = time.Minute
	// quietTime is after how long without any step a failure says nothing about the one before.
	quietTime = time.Hour
)

// lastingFailure reports the failure of a step that is taken for each notification. A single notification may fail for a reason of its
// own, and many may within a second, so only a failure is reported during which none succeeded for a minute. It is reported
// once, again if after another minute the failures have another code, and its end with the next success. It is safe for
// concurrent use.
type lastingFailure struct {
	// status is told the failure, and nil when it is over. It must not block.
	status func(error)

	mu sync.Mutex // guards what follows
	// since is when the first failure after the last success or report occurred; zero if there was none.
	since time.Time
	// last is when the last failure occurred.
	last time.Time
	// reported is set while the failure is, and code is that of the report.
	reported bool
	code     failure.Code
}

// observe notes the result of one step.
func (l *lastingFailure) observe(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, code := time.Now(), failure.Of(err).Code
	quiet := now.Sub(l.last) > quietTime
	l.last = now
	switch {
	case err == nil:
		if l.reported {
			l.status(nil)
		}
		l.since, l.reported = time.Time{}, false
	case l.since.IsZero(), quiet:
		l.since = now
	case now.Sub(l.since) >= lastingAfter && (!l.reported || code != l.code):
		l.since, l.reported, l.code = now, true, code
		l.status(err)
	}
}
