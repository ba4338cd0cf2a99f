// SPDX-License-Identifier: Apache-2.0

package graphtest

import (
	"context"
	"time"
)

// MeasurePauses begins to measure how long this process stands still, since the machine or its scheduler does not run it. A test that
// measures how fast something answers measures such pauses as well, whatever it tests. longest ends the measurement and returns the
// longest pause; it is called once. The end of ctx ends it too.
func MeasurePauses(ctx context.Context) (longest func() time.Duration) {
	const interval = 5 * time.Millisecond
	ctx, end := context.WithCancel(ctx)
	result := make(chan time.Duration, 1)
	go func() {
		var pause time.Duration
		for ctx.Err() == nil {
			begun := time.Now()
			select {
			case <-ctx.Done():
			case <-time.After(interval):
			}
			pause = max(pause, time.Since(begun)-interval)
		}
		result <- pause
	}()
	return func() time.Duration { end(); return <-result }
}
