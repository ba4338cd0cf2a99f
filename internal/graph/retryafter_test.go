package graph_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

func TestRetryAfter_IsAtMostOneHour(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		want time.Duration
	}{
		"by Graph":               {&graph.Error{RetryAfter: 7 * time.Second}, 7 * time.Second},
		"by Entra ID":            {fmt.Errorf("list: %w", &graph.TokenError{RetryAfter: 8 * time.Second}), 8 * time.Second},
		"by both, the longer":    {errors.Join(&graph.Error{RetryAfter: 7 * time.Second}, &graph.TokenError{RetryAfter: 8 * time.Second}), 8 * time.Second},
		"for a day, which is no": {&graph.Error{RetryAfter: 24 * time.Hour}, time.Hour},
		"by nobody":              {errors.New("connection reset"), 0},
		"without a failure":      {nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.want, graph.RetryAfter(test.err))
		})
	}
}
