package receiver

import (
	"context"
	"fmt"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/xextension/storage"
)

// openStorage returns the receiver's client of the storage extension. It is called once for all signals, since a file can
// be open only once. Each tenant has its own storage, because state such as who has no license differs between tenants.
// Without an extension nothing is stored.
func openStorage(
	ctx context.Context, host component.Host, id *component.ID, receiver component.ID, tenant string,
) (storage.Client, error) {
	if id == nil {
		return storage.NewNopClient(), nil
	}
	extension, found := host.GetExtensions()[*id]
	if !found {
		return nil, fmt.Errorf("storage: there is no extension %q: add it under extensions and to service.extensions", id)
	}
	provider, ok := extension.(storage.Extension)
	if !ok {
		return nil, fmt.Errorf("storage: %q is not a storage extension: name one, such as file_storage", id)
	}
	client, err := provider.GetClient(ctx, component.KindReceiver, receiver, tenant)
	if err != nil {
		return nil, fmt.Errorf("storage: open %q: if its file is damaged, move it away; if it is locked, another collector uses it: %w",
			id, err)
	}
	return client, nil
}
