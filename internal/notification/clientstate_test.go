package notification_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

func TestClientState_DependsOnEveryInput(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	states := map[string]bool{}
	for _, of := range []struct {
		key                      *notification.Key
		tenant, client, resource string
	}{
		{key, tenant, client, resource},
		{contentKey(t, 3072), tenant, client, resource},
		{key, client, client, resource},
		{key, tenant, tenant, resource},
		{key, tenant, client, "copilot/users/u/interactionHistory/getAllEnterpriseInteractions"},
	} {
		state, err := notification.ClientState(of.key, of.tenant, of.client, of.resource)
		require.NoError(t, err)
		assert.Len(t, state, 43, "32 bytes in base64url without padding, of the 128 that Graph allows")
		states[state] = true
	}
	assert.Len(t, states, 5)
}

func TestClientState_IgnoresLeadingSlash(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	state, err := notification.ClientState(key, tenant, client, "/"+resource)
	require.NoError(t, err)
	assert.Equal(t, clientState(t, key), state)
}

func TestClientState_RequiresKey(t *testing.T) {
	t.Parallel()
	for _, key := range []*notification.Key{nil, {}} {
		_, err := notification.ClientState(key, tenant, client, resource)
		require.ErrorContains(t, err, "no private key")
	}
}
