package receiver

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/xextension/storage"
)

// hanging is a storage extension, and its client, that does not answer until nobody waits any more.
type hanging struct {
	component.StartFunc
	component.ShutdownFunc
}

func (h hanging) GetClient(context.Context, component.Kind, component.ID, string) (storage.Client, error) {
	return h, nil
}

func (hanging) hang(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func (h hanging) Get(ctx context.Context, _ string) ([]byte, error)        { return nil, h.hang(ctx) }
func (h hanging) Set(ctx context.Context, _ string, _ []byte) error        { return h.hang(ctx) }
func (h hanging) Delete(ctx context.Context, _ string) error               { return h.hang(ctx) }
func (h hanging) Batch(ctx context.Context, _ ...*storage.Operation) error { return h.hang(ctx) }
func (hanging) Close(context.Context) error                                { return nil }
func (h hanging) GetExtensions() map[component.ID]component.Component {
	return map[component.ID]component.Component{hangingID: h}
}

var hangingID = component.MustNewID("redis_storage")

func TestAStorageThatHangsIsOneThatFails(t *testing.T) {
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
				client, err := openStorage(t.Context(), hanging{}, &hangingID, component.MustNewID("m365_copilot"))
				require.NoError(t, err)
				began := time.Now()
				require.ErrorIs(t, call(t.Context(), client), context.DeadlineExceeded)
				assert.Equal(t, storagePatience, time.Since(began))
				require.NoError(t, client.Close(t.Context()))
			})
		})
	}
}
