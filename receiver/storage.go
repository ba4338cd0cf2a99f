// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"fmt"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/xextension/storage"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
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
		return nil, failure.With(fmt.Errorf("storage: there is no extension %q", id), failure.New(failure.ExtensionMissing, id))
	}
	provider, ok := extension.(storage.Extension)
	if !ok {
		return nil, failure.With(
			fmt.Errorf("storage: %q is not a storage extension: name one, such as file_storage", id), failure.New(failure.SettingWrong))
	}
	client, err := provider.GetClient(ctx, component.KindReceiver, receiver, tenant)
	if err != nil {
		err = fmt.Errorf("storage: open %q: if its file is damaged, move it away; if it is locked, another collector uses it: %w", id, err)
		return nil, failure.With(err, failure.New(failure.StorageUnreadable))
	}
	return client, nil
}
