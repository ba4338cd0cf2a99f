// SPDX-License-Identifier: Apache-2.0

package failure_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zapcore"

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

func TestWithDefault_KeepsFailureOfError(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	failed := failure.WithDefault(full, failure.StorageFailing)
	require.EqualError(t, failed, "disk full")
	require.ErrorIs(t, failed, full)
	assert.Equal(t, failure.New(failure.StorageFailing), failure.Of(failed))
	again := failure.WithDefault(fmt.Errorf("save: %w", failed), failure.RequestRefused)
	assert.Equal(t, failure.StorageFailing, failure.Of(again).Code)
	require.NoError(t, failure.WithDefault(nil, failure.StorageFailing))
}

func TestLevel_IsErrorIfTheTenantOrTheConfigurationMustChange(t *testing.T) {
	t.Parallel()
	assert.Equal(t, zapcore.ErrorLevel, failure.New(failure.ClientSecretWrong).Level())
	assert.Equal(t, zapcore.ErrorLevel, failure.New(failure.SubscriptionKeyConflict).Level())
	assert.Equal(t, zapcore.WarnLevel, failure.New(failure.Unavailable).Level())
	assert.Equal(t, zapcore.WarnLevel, failure.Failure{}.Level())
}

func TestExplain_AddsCodeAndHintToText(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	failed := failure.New(failure.StorageFailing)
	explained := failure.Explain(fmt.Errorf("save: %w", failure.With(full, failed)))
	require.EqualError(t, explained, "save: disk full (COP001: "+failed.Hint+")")
	require.ErrorIs(t, explained, full)
	assert.Equal(t, full, failure.Explain(full), "an error without failure stays the same")
	both := failure.Explain(errors.Join(failure.With(full, failed), failure.With(errors.New("no rights"), failure.New(failure.PermissionMissing))))
	require.ErrorContains(t, both, "COP001")
	require.ErrorContains(t, both, string(failure.PermissionMissing))
	require.NoError(t, failure.Explain(nil))
}
