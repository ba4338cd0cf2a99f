// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"testing"

	"github.com/open-telemetry/opentelemetry-collector-contrib/extension/storage/storagetest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/xextension/storage"
)

func TestOpenStorage_SeparatesTenants(t *testing.T) {
	t.Parallel()
	extension := storagetest.NewFileBackedStorageExtension("copilot", t.TempDir())
	host := fakeHost{extension.ID: extension}
	open := func(tenant string) storage.Client {
		client, err := openStorage(t.Context(), host, &extension.ID, component.MustNewID("m365_copilot"), tenant)
		require.NoError(t, err)
		return client
	}
	first := open("6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10")
	require.NoError(t, first.Set(t.Context(), "gaps", []byte("those of the first")))
	require.NoError(t, first.Close(t.Context()))

	other := open("00000000-0a4e-4d55-9b77-2f8e1c0a9d10")
	assert.Nil(t, storedValue(t, other, "gaps"))
	require.NoError(t, other.Close(t.Context()))

	again := open("6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10")
	assert.Equal(t, "those of the first", string(storedValue(t, again, "gaps")))
	require.NoError(t, again.Close(t.Context()))
}
