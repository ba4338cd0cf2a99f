//go:build unix

package interaction_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction/lineartest"
)

func TestParse_HostileJSONTakesLinearTime(t *testing.T) {
	for name, tt := range map[string]struct{ head, body, tail string }{
		"unknown members":   {`{"id":"1",`, `"x":[],`, `"y":1}`},
		"the same member":   {`{`, `"id":"1",`, `"id":"1"}`},
		"the same list":     {`{`, `"links":[{}],`, `"id":"1"}`},
		"a deep member":     {`{"id":"1","from":` + strings.Repeat(`{"user":`, 9_000) + `"`, "x", `"` + strings.Repeat("}", 9_001)},
		"a long id":         {`{"id":"`, "1", `"}`},
		"a long number":     {`{"id":1`, "1", `e1}`},
		"empty attachments": {`{"id":"1","attachments":[`, "{},", `{}]}`},
		"nulls in a list":   {`{"id":"1","links":[`, "null,", `null]}`},
		"escapes":           {`{"id":"`, `\\\"`, `"}`},
	} {
		t.Run(name, func(t *testing.T) {
			lineartest.Assert(t, func(size int) func() {
				data := []byte(lineartest.Fill(size, tt.head, tt.body, tt.tail))
				return func() {
					_, err := interaction.Parse(data)
					assert.NoError(t, err)
				}
			}, lineartest.Sizes()...)
		})
	}
}
