package notification_test

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

func TestForgeryTriggersNoCall(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	source := firstKey(t)
	count := &decrypted{}
	settings := openerSettings(source, key)
	settings.Telemetry = count
	forged := promptItem(t, key)
	forged.ClientState = strings.Replace(forged.ClientState, forged.ClientState[:1], "_", 1)
	event := lifecycleItem(t, key)
	event.ClientState = ""

	opened, err := notification.NewDecrypter(settings).
		Decrypt(t.Context(), collection([]string{mint(t, tokenClaims())}, forged, event, notification.Item{}), noon)
	require.NoError(t, err)
	assert.Empty(t, opened.Received)
	assert.Empty(t, opened.Lifecycle)
	require.Len(t, opened.Rejected, 3)
	for _, rejection := range opened.Rejected {
		assert.Equal(t, notification.ReasonClientState, rejection.Reason)
		assert.Empty(t, rejection.Gap)
		assert.Empty(t, rejection.ItemID)
		require.ErrorIs(t, rejection.Err, notification.ErrClientState)
	}
	assert.Zero(t, source.asked.Load())
	assert.Zero(t, count.items.Load())
}

func TestForgeryCostsTheSameForManyUsersAsForOne(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	forged := promptItem(t, key)
	forged.ClientState = strings.Repeat("A", len(forged.ClientState))
	many := collection(nil, slices.Repeat([]notification.Item{forged}, 1000)...)
	cost := func(users int) time.Duration {
		settings := openerSettings(firstKey(t), key)
		for i := range users {
			settings.Resources = append(settings.Resources, "copilot/users/"+strconv.Itoa(i)+"/interactionHistory/getAllEnterpriseInteractions")
		}
		opener := notification.NewDecrypter(settings)
		least := time.Hour
		for range 5 {
			began := time.Now()
			opened, err := opener.Decrypt(t.Context(), many, noon)
			least = min(least, time.Since(began))
			require.NoError(t, err)
			require.Len(t, opened.Rejected, 1000)
		}
		return least
	}
	assert.Less(t, cost(5000), 20*cost(1))
}

func TestOpenSaysWhenItCannotDecide(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	zero := openerSettings(firstKey(t), &notification.Key{})
	tests := map[string]struct {
		ctx      context.Context
		settings notification.Settings
		want     error
	}{
		"keys are not available":      {t.Context(), openerSettings(&keys{err: errDown}, key), notification.ErrKeysUnavailable},
		"the caller does not wait on": {canceled, openerSettings(firstKey(t), key), context.Canceled},
		"a key derives no state":      {t.Context(), zero, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opened, err := notification.NewDecrypter(test.settings).Decrypt(test.ctx,
				collection([]string{mint(t, tokenClaims())}, promptItem(t, key), notification.Item{}), noon)
			require.Error(t, err)
			if test.want != nil {
				require.ErrorIs(t, err, test.want)
			}
			assert.Empty(t, opened)
		})
	}
}
