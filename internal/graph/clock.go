// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"net/http"
	"sync/atomic"
	"time"
)

// clockTolerance covers the whole seconds of a Date header and the time that a response takes.
const clockTolerance = time.Minute

// clock estimates the time of Graph's clock from the Date of the newest response. The zero value knows no response.
type clock struct {
	newest atomic.Pointer[observedDate]
}

type observedDate struct {
	date time.Time
	// at is the local time of arrival. Its monotonic reading is not affected by later changes of the local clock.
	at time.Time
}

func (c *clock) observeDate(header http.Header) {
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		date = c.Now()
	}
	c.newest.Store(&observedDate{date: date, at: time.Now()})
}

// Answered reports whether Graph has sent any response. Until then Now is the local time.
func (c *clock) Answered() bool { return c.newest.Load() != nil }

// Now returns the local time, or the time of Graph's clock where that is earlier by more than a minute. What must not happen
// too early, such as giving up an old gap, goes by it, so that a local clock that is ahead causes no loss.
func (c *clock) Now() time.Time {
	local, newest := time.Now(), c.newest.Load()
	if newest == nil {
		return local
	}
	if remote := newest.date.Add(local.Sub(newest.at)); local.Sub(remote) > clockTolerance {
		return remote
	}
	return local
}
