// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"fmt"

	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/directory"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap/gapstore"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

// Stored is what the storage of a receiver holds of its last run.
type Stored struct {
	// Gaps is the state of the gaps with the checkpoint.
	Gaps gap.State
	// Subscriptions are those that the receiver created or adopted.
	Subscriptions []subscription.Known
	// Generated holds the generated encryption key, nil if there is none.
	Generated notification.Ring
	// Users are those whose prompts came and who have a history, the newest first.
	Users []gap.User
	// Damaged names the values that can't be used. The receiver replaces them when it starts.
	Damaged []string
}

// ReadStored reads the storage of a receiver through its client, and changes nothing. It fails if the storage can't be read.
func ReadStored(ctx context.Context, client storage.Client) (Stored, error) {
	store, stored := statestore.New(client), Stored{}
	note := func(name string, damaged bool) {
		if damaged {
			stored.Damaged = append(stored.Damaged, name)
		}
	}
	var damaged bool
	var err error
	if stored.Gaps, damaged, err = gapstore.Stored(ctx, store); err != nil {
		return Stored{}, err
	}
	note("known gaps and the checkpoint", damaged)
	if stored.Subscriptions, damaged, err = subscription.Stored(ctx, store); err != nil {
		return Stored{}, err
	}
	note("own subscriptions", damaged)
	if stored.Users, damaged, err = directory.Stored(ctx, store); err != nil {
		return Stored{}, err
	}
	note("users seen", damaged)
	keys, damaged, err := statestore.NewValue[storedKeys](statestore.ValueSettings{
		Store: store, Key: keysKey, Version: keysVersion, Name: "the encryption keys", Logger: zap.NewNop(),
	}).Load(ctx)
	if err != nil {
		return Stored{}, fmt.Errorf("read the generated key: %w", err)
	}
	if len(keys.PrivateKey) > 0 && !damaged {
		key, parseErr := notification.ParseKey(notification.DefaultKeyID, keys.Certificate, keys.PrivateKey)
		if damaged = parseErr != nil; !damaged {
			stored.Generated = notification.Ring{key}
		}
	}
	note("the encryption keys", damaged)
	return stored, nil
}
