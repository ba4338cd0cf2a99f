// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// startError starts the receiver, which must fail, and shuts it down.
func (h *harness) startError(t *testing.T) error {
	t.Helper()
	h.create(t, h.settings())
	err := h.signals[0].Start(t.Context(), h.host)
	h.stop(t)
	require.Error(t, err)
	return err
}

// A receiver that does not know what earlier runs left to do does not start, says so, and writes nothing over what it could not
// read. With a storage that works the next start goes on as if nothing had happened.
func TestStart_FailsIfStorageCanNotBeRead(t *testing.T) {
	t.Parallel()
	hangs := func(s *memoryStorage) (heal func()) { return s.hang() }
	obeys := func(s *memoryStorage) (heal func()) {
		s.intercept(func(ctx context.Context, _ *storage.Operation) error { <-ctx.Done(); return ctx.Err() })
		return func() { s.intercept(nil) }
	}
	fails := func(key ...string) func(*memoryStorage) (heal func()) {
		return func(s *memoryStorage) func() {
			s.fail(errors.New("the disk is on fire"), key...)
			return func() { s.intercept(nil) }
		}
	}
	// The storage is given up twice, while it is read and when it is closed.
	const readAndClose = 2 * 5 * time.Second
	for name, test := range map[string]struct {
		fail   func(*memoryStorage) (heal func())
		poll   bool
		want   string
		atMost time.Duration
	}{
		"since it hangs":                         {fail: hangs, want: "did not answer within 5s", atMost: readAndClose},
		"since it hangs until a timeout":         {fail: obeys, want: "did not answer within 5s", atMost: 5 * time.Second},
		"since it fails":                         {fail: fails(), want: "the disk is on fire"},
		"since it hangs, without a subscription": {fail: hangs, poll: true, want: "did not answer within 5s", atMost: readAndClose},
		"since it fails, without a subscription": {fail: fails(), poll: true, want: "the disk is on fire"},
		"since only the gaps can't be read":      {fail: fails("gaps"), want: "the disk is on fire"},
		"since only the keys can't be read":      {fail: fails("keys"), want: "the disk is on fire"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			h.config.History.Users = []string{testUser}
			stored := h.withMemoryStorage()
			h.run(t)
			in := newPrompts(t, 10)
			sent, err := h.emulator.Collection(in...)
			require.NoError(t, err)
			_, err = h.emulator.Post(t.Context(), sent)
			require.NoError(t, err)
			h.confirmed(t)
			h.stop(t)
			before, writes := stored.snapshot()
			require.Contains(t, before, "keys")
			require.Contains(t, before, "gaps")

			url := h.config.Subscription.NotificationURL
			if test.poll {
				h.config.Subscription.NotificationURL, h.config.History.PollInterval = "", time.Minute
			}
			synctest.Test(t, func(t *testing.T) {
				heal := test.fail(stored)
				began := time.Now()
				err := h.startError(t)
				assert.LessOrEqual(t, time.Since(began), test.atMost)
				for _, want := range []string{test.want, `storage: "test_storage/copilot" can't be read`, "start again"} {
					require.ErrorContains(t, err, want)
				}
				heal()
				time.Sleep(time.Minute) // what hung may go on
			})
			after, now := stored.snapshot()
			assert.Equal(t, before, after)
			assert.Equal(t, writes, now)

			h.config.Subscription.NotificationURL, h.config.History.PollInterval = url, 0
			h.start(t)
			h.confirmed(t)
			status, err := h.emulator.Post(t.Context(), sent)
			require.NoError(t, err)
			assert.Equal(t, http.StatusAccepted, status)
			assert.Equal(t, interactionIDs(t, in...), h.deliveredIDs(), "what was delivered before is known")
			assert.Len(t, h.emulator.Requests(graphtest.OpCreate), 1, "the key, and so the subscription, is the same")
			assert.Empty(t, h.emulator.Requests(graphtest.OpHistory), "nothing is missing")
		})
	}
}

func TestStart_ReplacesDamagedKeys(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	stored := h.withMemoryStorage()
	first := h.run(t)
	h.stop(t)
	require.Equal(t, 1, stored.damage("keys"))
	h.start(t)
	assert.Equal(t, 1, h.lines.FilterMessageSnippet("encryption keys in storage are damaged").Len())
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	require.NoError(t, h.emulator.WaitRequests(ctx, graphtest.OpCreate, 2))
	second := h.subscribed(t)
	assert.NotEqual(t, first.EncryptionCertificateID, second.EncryptionCertificateID)
	require.Eventually(t, func() bool {
		return h.lines.FilterMessage("subscription recreated").FilterField(zap.String("reason", "removed_key")).Len() == 1
	}, waitTimeout, 10*time.Millisecond)

	h.restart(t)
	assert.Zero(t, h.lines.FilterMessageSnippet("damaged").Len())
	assert.Equal(t, second.ID, h.subscribed(t).ID)
}

// Whatever arrives as soon as Start has returned can be decrypted, and is not delivered twice.
func TestStart_ListensOnceItCanDecrypt(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.withMemoryStorage()
	h.run(t)
	in := newPrompts(t, 10)
	before, err := h.emulator.Collection(in[:5]...)
	require.NoError(t, err)
	all, err := h.emulator.Collection(in...)
	require.NoError(t, err)
	_, err = h.emulator.Post(t.Context(), before)
	require.NoError(t, err)
	h.stop(t)
	h.emulator.Fail(graphtest.OpList, graphtest.Fault{Reset: true})
	h.start(t)
	status, err := h.emulator.Post(t.Context(), all)
	require.NoError(t, err)
	assert.Equal(t, http.StatusAccepted, status)
	assert.Equal(t, interactionIDs(t, in...), h.deliveredIDs())
}
