package failure_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
)

func TestOf_FindsFailureInWrappedAndJoinedErrors(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	failed := failure.With(full, failure.New(failure.StorageFailing))
	require.EqualError(t, failed, "disk full")
	require.ErrorIs(t, failed, full)
	for name, err := range map[string]error{
		"itself":  failed,
		"wrapped": fmt.Errorf("save: %w", failed),
		"joined":  errors.Join(errors.New("other"), failed),
	} {
		assert.Equal(t, failure.StorageFailing, failure.Of(err).Code, name)
		assert.NotEmpty(t, failure.Of(err).Hint, name)
	}
}

func TestOf_IsZeroForOtherErrors(t *testing.T) {
	t.Parallel()
	assert.Zero(t, failure.Of(nil))
	assert.Zero(t, failure.Of(errors.New("other")))
	assert.Empty(t, failure.Of(errors.New("other")).Fields())
	require.NoError(t, failure.With(nil, failure.New(failure.StorageFailing)))
}

func TestExplain_AddsCodeAndHintToText(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	failed := failure.New(failure.StorageFailing)
	explained := failure.Explain(fmt.Errorf("save: %w", failure.With(full, failed)))
	require.EqualError(t, explained, "save: disk full (COP001: "+failed.Hint+")")
	require.ErrorIs(t, explained, full)
	assert.Equal(t, full, failure.Explain(full), "an error without failure stays the same")
	require.NoError(t, failure.Explain(nil))
}
