package receiver

import (
	"context"
	"fmt"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/xextension/storage"
)

// openStorage gets the receiver's client of the storage extension, once for all signals, since a file can be open only
// once. Without an extension nothing is kept.
func openStorage(ctx context.Context, host component.Host, id *component.ID, receiver component.ID) (storage.Client, error) {
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
	client, err := keeper.GetClient(ctx, component.KindReceiver, receiver, "")
	if err != nil {
		return nil, fmt.Errorf("storage: open %q: if its file is damaged, move it away; if it is locked, another collector uses it: %w", id, err)
	}
	return client, nil
}
