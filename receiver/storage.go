package receiver

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/xextension/storage"
)

// openStorage gets the receiver's client of the storage extension, once for all signals, since a file can be open only
// once. Each tenant has its own: what is known of one, such as who has no license, is wrong of another. Without an
// extension nothing is kept.
func openStorage(ctx context.Context, host component.Host, id *component.ID, receiver component.ID, tenant string) (storage.Client, error) {
	if id == nil {
		return storage.NewNopClient(), nil
	}
	extension, found := host.GetExtensions()[*id]
	if !found {
		return nil, fmt.Errorf("storage: there is no extension %q: add it under extensions and to service.extensions", id)
	}
	keeper, ok := extension.(storage.Extension)
	if !ok {
		return nil, fmt.Errorf("storage: %q is no storage extension: name one, such as file_storage", id)
	}
	client, err := keeper.GetClient(ctx, component.KindReceiver, receiver, strings.ToLower(tenant))
	if err != nil {
		return nil, fmt.Errorf("storage: open %q: if its file is damaged, move it away; if it is locked, another collector uses it: %w", id, err)
	}
	return timeoutClient{client}, nil
}

// storageTimeout is how long a call to the storage may take. It is for what hangs: a disk that is merely slow is faster.
const storageTimeout = 3 * time.Second

// timeoutClient is a storage client whose calls end in time, so that a storage that does not answer is one that fails: what
// calls it knows how to go on without.
type timeoutClient struct{ client storage.Client }

func (i timeoutClient) Get(ctx context.Context, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	return i.client.Get(ctx, key)
}

func (i timeoutClient) Set(ctx context.Context, key string, value []byte) error {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	return i.client.Set(ctx, key, value)
}

func (i timeoutClient) Delete(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	return i.client.Delete(ctx, key)
}

func (i timeoutClient) Batch(ctx context.Context, operations ...*storage.Operation) error {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	return i.client.Batch(ctx, operations...)
}

func (i timeoutClient) Close(ctx context.Context) error { return i.client.Close(ctx) }
