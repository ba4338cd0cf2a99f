// SPDX-License-Identifier: Apache-2.0

package graphtest

import (
	"context"
	"time"
)

// Undisturbed returns how long something took that runs in this process too, and so may be what keeps the process from running. It
// measures again, up to three times in all, while that is not below the bar and the process stood still for over 200 ms meanwhile.
func Undisturbed(ctx context.Context, bar time.Duration, measure func() time.Duration) time.Duration {
	for n := 1; ; n++ {
		pause := MeasurePauses(ctx)
		took := measure()
		if pause() <= 200*time.Millisecond || took < bar || n == 3 {
			return took
		}
	}
}

// MeasurePauses begins to measure how long this process stands still, since the machine or its scheduler does not run it. A test that
// measures how fast another process answers measures such pauses as well, whatever it tests. longest ends the measurement and returns the
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
