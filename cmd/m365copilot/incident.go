// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// removalDelay is how long after the beginning of an outage the subscriptions are removed, unless the outage is short.
const removalDelay = 2 * time.Second

// breakIngress waits for the time of -incident, and then breaks the ingress for the time of -incident-duration. Meanwhile it removes the
// subscriptions, of which the collector hears nothing.
func breakIngress(ctx context.Context, emulator *graphtest.Emulator, o options, log *slog.Logger) {
	if !wait(ctx, o.incident) {
		return
	}
	emulator.BreakIngress()
	defer emulator.RestoreIngress()
	log.Info("the ingress is broken: notifications and handshakes get 502, and the subscriptions will be removed", "duration", o.incidentDuration)
	untilRemoval := min(removalDelay, o.incidentDuration/2)
	if !wait(ctx, untilRemoval) {
		return
	}
	for _, s := range emulator.Subscriptions() {
		_ = emulator.RemoveSubscription(ctx, s.ID, false) // it fails only if the collector has just deleted it
	}
	if wait(ctx, o.incidentDuration-untilRemoval) {
		emulator.RestoreIngress()
		log.Info("the ingress works again")
	}
}

// wait reports whether it waited for all of d; false means that ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
