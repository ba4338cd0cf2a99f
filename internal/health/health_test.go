package health_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/otelcopilot/m365copilotreceiver/internal/health"
)

func TestReminder_RepeatsHourlyUntilRecovery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r health.Reminder
		assert.False(t, r.Recovered(), "there was no failure")
		assert.True(t, r.Failed(), "it begins")
		assert.False(t, r.Failed())
		time.Sleep(time.Hour - time.Nanosecond)
		assert.False(t, r.Failed())
		time.Sleep(time.Nanosecond)
		assert.True(t, r.Failed(), "it lasts")
		assert.True(t, r.Recovered())
		assert.False(t, r.Recovered(), "once")
		assert.True(t, r.Failed(), "another one begins")
	})
}
