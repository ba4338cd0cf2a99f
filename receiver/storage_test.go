package receiver

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/extension/storage/storagetest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/xextension/storage"
)

// hangingStorage is a storage whose calls return only when their context ends.
type hangingStorage struct{}

func (hangingStorage) wait(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func (h hangingStorage) Get(ctx context.Context, _ string) ([]byte, error) { return nil, h.wait(ctx) }

func (h hangingStorage) Set(ctx context.Context, _ string, _ []byte) error { return h.wait(ctx) }

func (h hangingStorage) Delete(ctx context.Context, _ string) error { return h.wait(ctx) }

func (h hangingStorage) Batch(ctx context.Context, _ ...*storage.Operation) error { return h.wait(ctx) }
func (hangingStorage) Close(context.Context) error                                { return nil }

func TestTimeoutClient_CallsTimeOut(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(ctx context.Context, client storage.Client) error{
		"get":    func(ctx context.Context, client storage.Client) error { _, err := client.Get(ctx, "k"); return err },
		"set":    func(ctx context.Context, client storage.Client) error { return client.Set(ctx, "k", nil) },
		"delete": func(ctx context.Context, client storage.Client) error { return client.Delete(ctx, "k") },
		"batch":  func(ctx context.Context, client storage.Client) error { return client.Batch(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				require.ErrorIs(t, call(t.Context(), timeoutClient{hangingStorage{}}), context.DeadlineExceeded)
				assert.Equal(t, storageTimeout, time.Since(began))
			})
		})
	}
}

func TestOpenStorage_SeparatesTenants(t *testing.T) {
	t.Parallel()
	extension := storagetest.NewFileBackedStorageExtension("copilot", t.TempDir())
	host := fakeHost{extension.ID: extension}
	open := func(tenant string) storage.Client {
		client, err := openStorage(t.Context(), host, &extension.ID, component.MustNewID("m365_copilot"), tenant)
		require.NoError(t, err)
		return client
	}
	first := open("6F1D2C3B-0a4e-4d55-9b77-2f8e1c0a9d10")
	require.NoError(t, first.Set(t.Context(), checkpointKey, []byte("1764599400")))
	require.NoError(t, first.Close(t.Context()))

	other := open("00000000-0a4e-4d55-9b77-2f8e1c0a9d10")
	value, err := other.Get(t.Context(), checkpointKey)
	require.NoError(t, err)
	assert.Nil(t, value)
	require.NoError(t, other.Close(t.Context()))

	again := open("6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10")
	assert.Equal(t, "1764599400", string(storedValue(t, again, checkpointKey)))
	require.NoError(t, again.Close(t.Context()))
}

type fakeHost map[component.ID]component.Component

func (h fakeHost) GetExtensions() map[component.ID]component.Component { return h }
