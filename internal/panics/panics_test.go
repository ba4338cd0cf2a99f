// SPDX-License-Identifier: Apache-2.0

package panics_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/panics"
)

const secret = "text of a conversation"

func outOfRange(list []int, i int) int { return list[i] }

func TestCatch_ReturnsErrorForPanic(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		panics func() error
		want   string
	}{
		"a runtime error is quoted":           {func() error { _ = outOfRange([]int{1}, 1); return nil }, "index out of range [1] with length 1"},
		"a string is described by its type":   {func() error { panic(secret) }, "a value of type string"},
		"an error is described by its type":   {func() error { panic(errors.New(secret)) }, "a value of type *errors.errorString"},
		"nil is a panic too":                  {func() error { panic(nil) }, "panic called with nil argument"},
		"an unhashable map key is not quoted": {func() error { _ = map[any]int{}[[]string{secret}]; return nil }, "hash of unhashable type: []string"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			caught, ok := errors.AsType[*panics.Error](panics.Catch(test.panics))
			require.True(t, ok)
			require.ErrorContains(t, caught, test.want)
			assert.Contains(t, string(caught.Stack), "TestCatch_ReturnsErrorForPanic", "the stack names the function")
			assert.NotContains(t, caught.Error()+string(caught.Stack), secret)
		})
	}
}

func TestCatch_ReturnsErrorUnchanged(t *testing.T) {
	t.Parallel()
	failed := errors.New("full")
	require.ErrorIs(t, panics.Catch(func() error { return failed }), failed)
	require.NoError(t, panics.Catch(func() error { return nil }))
}
