//go:build unix

package lineartest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction/lineartest"
)

// recorder counts failures.
type recorder struct{ failures int }

func (*recorder) Helper() {}

func (r *recorder) Errorf(string, ...any) { r.failures++ }

func TestAssert_FailsForQuadraticWorkAlone(t *testing.T) { //nolint:paralleltest // the processor time of all goroutines counts
	sum := 0
	each := func(n int) {
		for i := range n {
			sum += i
		}
	}
	linear := func(size int) func() { return func() { each(1000 * size) } }
	quadratic := func(size int) func() { return func() { each(size * size) } }
	var passes, fails recorder
	lineartest.Assert(&passes, linear, 1<<10, 1<<13)
	assert.Zero(t, passes.failures)
	lineartest.Assert(&fails, quadratic, 1<<11, 1<<14)
	assert.Equal(t, 1, fails.failures)
}
