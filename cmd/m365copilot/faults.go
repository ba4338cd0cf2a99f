// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// faultFlag collects the probabilities of faults by kind; it is a flag.Value.
type faultFlag map[string]float64

// graphFaults affect requests of the client.
var graphFaults = map[string]struct {
	operation graphtest.Operation
	fault     graphtest.Fault
}{
	"throttle":     {graphtest.AnyGraph, graphtest.Fault{Status: 429, RetryAfter: "1"}},
	"token-errors": {graphtest.OpToken, graphtest.Fault{Status: 503, RetryAfter: "1"}},
	"keys-errors":  {graphtest.OpKeys, graphtest.Fault{Status: 503}},
	"list-errors":  {graphtest.OpList, graphtest.Fault{Status: 503}},
	"renew-errors": {graphtest.OpRenew, graphtest.Fault{Status: 503}},
}

// deliveryFaults affect notifications.
var deliveryFaults = map[string]func(*graphtest.DeliveryFaults, float64){
	"duplicate": func(d *graphtest.DeliveryFaults, chance float64) { d.Duplicate = chance },
	"reorder":   func(d *graphtest.DeliveryFaults, chance float64) { d.Reorder = chance },
	"drop":      func(d *graphtest.DeliveryFaults, chance float64) { d.Drop = chance },
}

func faultKinds() string {
	kinds := slices.Concat(slices.Collect(maps.Keys(graphFaults)), slices.Collect(maps.Keys(deliveryFaults)))
	slices.Sort(kinds)
	return strings.Join(kinds, ", ")
}

// String implements flag.Value.
func (f faultFlag) String() string {
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(f)) {
		parts = append(parts, fmt.Sprintf("%s=%g", kind, f[kind]))
	}
	return strings.Join(parts, ",")
}

// Set implements flag.Value.
func (f faultFlag) Set(text string) error {
	kind, number, _ := strings.Cut(text, "=")
	_, ofGraph := graphFaults[kind]
	_, ofDelivery := deliveryFaults[kind]
	if !ofGraph && !ofDelivery {
		return fmt.Errorf("unknown kind %q, known are %s", kind, faultKinds())
	}
	chance, err := strconv.ParseFloat(number, 64)
	if err != nil || !(chance > 0 && chance <= 1) {
		return fmt.Errorf("%q must be %s=chance with a chance above 0 and up to 1", text, kind)
	}
	f[kind] = chance
	return nil
}

func (f faultFlag) apply(emulator *graphtest.Emulator) {
	var delivery graphtest.DeliveryFaults
	for kind, chance := range f {
		if set, ok := deliveryFaults[kind]; ok {
			set(&delivery, chance)
			continue
		}
		g := graphFaults[kind]
		g.fault.Chance = chance
		emulator.Fail(g.operation, g.fault)
	}
	emulator.SetDeliveryFaults(delivery)
}
