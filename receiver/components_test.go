// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"encoding/base64"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/extension/xextension/storage"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

// startWebhook starts the webhook, and returns a function that posts to it, and the valid clientState.
func startWebhook(t *testing.T, r *Receiver, c *components) (post func(body string) int, state string) {
	t.Helper()
	state = notification.ClientState(c.keys.ring[0], r.settings.TenantID, r.settings.ClientID, tenantWide)
	require.NoError(t, c.server.Start(t.Context(), nil, componenttest.NewNopTelemetrySettings()))
	t.Cleanup(func() { assert.NoError(t, c.server.Shutdown(context.Background())) })
	return func(body string) int {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+c.server.Addr().String()+"/n", strings.NewReader(body))
		require.NoError(t, err)
		request.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.StatusCode
	}, state
}

// padded fills a body with spaces up to a length.
func padded(body string, length int) string { return body + strings.Repeat(" ", length-len(body)) }

// Anybody can send requests that are refused. They neither prove that Graph reached the webhook nor cause a backfill.
func TestWebhook_ForgedRequestsOpenNoGap(t *testing.T) {
	t.Parallel()
	r, c := newTestReceiver(t, stored(newStore(t)))
	post, _ := startWebhook(t, r, c)
	forged := `{"value":[{"clientState":"guessed"},{"lifecycleEvent":"missed"}],"validationTokens":["a.b.c"]}`
	for name, test := range map[string]struct {
		body   string
		status int
	}{
		"dropped":             {forged, http.StatusAccepted},
		"over the byte limit": {padded(forged, 2*minInFlightBytes), http.StatusServiceUnavailable},
		"larger than allowed": {padded(forged, 3*minInFlightBytes), http.StatusRequestEntityTooLarge},
	} {
		assert.Equal(t, test.status, post(test.body), name)
	}

	assert.Nil(t, r.pipeline.lastAuthentic.Load(), "as if Graph had reached the webhook")
	assert.Empty(t, tracked(t, c), "as if Graph had been asked to retry")
	assert.Empty(t, missing(c))
}

// tracked returns the minutes of the items that Graph was asked to send again, in Unix minutes.
func tracked(t *testing.T, c *components) []int64 {
	t.Helper()
	c.undelivered.Save(t.Context())
	var minutes []int64
	c.gaps.View(func(state *gap.State, _ time.Time) { minutes = slices.Sorted(maps.Keys(state.Refused)) })
	return minutes
}

// A notification with a valid clientState that can't be verified now is retried by Graph.
func TestWebhook_TracksUndecidableNotification(t *testing.T) {
	t.Parallel()
	r, c := newTestReceiver(t, stored(newStore(t)))
	post, state := startWebhook(t, r, c)
	lost, late := interactionAt(time.Now().Add(-time.Hour)), interactionAt(time.Now().Add(-2*time.Hour))
	item := func(of interaction.Received) string {
		return `{"clientState":"` + state + `","changeType":"created","tenantId":"` + tenant + `","resourceData":{"id":"` + of.ID + `"},"encryptedContent":{"dataSignature":"` + of.ID + `"}}`
	}
	token := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","kid":"k"}`)) + ".e30.e30"
	body := `{"value":[` + item(lost) + `,` + item(late) + `,{"lifecycleEvent":"missed","clientState":"` + state + `"}],"validationTokens":["` + token + `"]}`
	assert.Equal(t, http.StatusServiceUnavailable, post(body), "the signing keys are out of reach")
	minute := func(of interaction.Received) int64 {
		at, _ := of.CreatedAt()
		return at.Unix() / 60
	}
	assert.Equal(t, []int64{minute(late), minute(lost)}, tracked(t, c))
	assert.Empty(t, missing(c), "as Graph may still send it")
	assert.False(t, r.pipeline.accepting.since.IsZero(), "it shows in the status if it lasts")

	late.ContentDigest = (&notification.Item{ChangeType: "created", EncryptedContent: &notification.EncryptedContent{DataSignature: late.ID}}).ContentDigest()
	require.NoError(t, r.pipeline.Take(t.Context(), list(late)))
	assert.Equal(t, []int64{minute(lost)}, tracked(t, c), "it was recognized when it came again")
}

// The gap of a long downtime is known only after the cache was read. The deliveries of that time must be known nevertheless.
func TestComponents_LoadKeepsEntriesOfStartupGap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		r, c := newTestReceiver(t, stored(store))
		observer := subscriptionGaps{c.gaps}
		delivered := interactionAt(time.Now())
		require.NoError(t, r.pipeline.Take(t.Context(), list(delivered)))
		observer.Checked()
		require.NoError(t, c.save(t.Context()))

		time.Sleep(72 * time.Hour)
		_, c = newTestReceiver(t, stored(store))
		assert.Equal(t, []gap.Reason{gap.Startup}, missingReasons(c))
		during(t, func() { time.Sleep(time.Hour) }, c.cache.Run)
		assert.True(t, c.cache.Known(delivered.ContentDigest))

		subscriptionGaps{c.gaps}.Checked()
		c.gaps.Update(t.Context(), func(state *gap.State, _ time.Time) {
			state.Gaps = nil // as if it had been read
		})
		during(t, func() { time.Sleep(time.Hour) }, c.cache.Run)
		assert.False(t, c.cache.Known(delivered.ContentDigest), "nothing needs it any more")
	})
}

// Deliveries stay known beyond the dedupe window if the history since then will be read: from 65 minutes before the last check,
// with 5 minutes of overlap.
func TestComponents_DedupeRetainsLongOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, c := newTestReceiver(t)
		during(t, func() {
			before := interactionAt(time.Now())
			require.NoError(t, r.pipeline.Take(t.Context(), list(before)))
			time.Sleep(2 * time.Minute)
			needed := interactionAt(time.Now())
			require.NoError(t, r.pipeline.Take(t.Context(), list(needed)))
			time.Sleep(69 * time.Minute)
			subscriptionGaps{c.gaps}.Checked()
			time.Sleep(30 * time.Hour)
			assert.True(t, c.cache.Known(needed.ContentDigest))
			assert.False(t, c.cache.Known(before.ContentDigest))
		}, c.cache.Run)
	})
}

func TestComponents_DedupeForgetsAfterWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, c := newTestReceiver(t)
		observer := subscriptionGaps{c.gaps}
		one := interactionAt(time.Now())
		require.NoError(t, r.pipeline.Take(t.Context(), list(one)))
		during(t, func() {
			for range 25 * 60 / 5 {
				observer.Checked()
				time.Sleep(5 * time.Minute)
			}
			assert.True(t, c.cache.Known(one.ContentDigest))
			for range 2 * 60 / 5 {
				observer.Checked()
				time.Sleep(5 * time.Minute)
			}
			assert.False(t, c.cache.Known(one.ContentDigest))
		}, c.cache.Run)
	})
}

// Each value that a start reads can fail it. Nothing is written over what could not be read.
func TestReceiver_LoadFailsIfValueCanNotBeRead(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	var read []string
	store.fail = func(operation *storage.Operation) error {
		if operation.Type == storage.Get {
			read = append(read, operation.Key)
		}
		return nil
	}
	newTestReceiver(t, stored(store))
	for _, key := range []string{"keys", "gaps", "subscriptions", "dedupe/index"} {
		require.Contains(t, read, key)
	}
	for _, key := range read {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			store, wrote := newStore(t), false
			store.fail = func(operation *storage.Operation) error {
				switch {
				case operation.Key != key:
					return nil
				case operation.Type == storage.Get:
					return errStorage
				}
				wrote = true
				return nil
			}
			_, err := loadTestReceiver(t, stored(store))
			require.ErrorIs(t, err, errStorage)
			assert.Equal(t, failure.StorageUnreadable, failure.Of(err).Code)
			assert.False(t, wrote)
		})
	}
}

// Each value that a start reads is reported and replaced where it is damaged.
func TestReceiver_LoadReplacesDamagedValue(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"keys", "gaps", "subscriptions", "dedupe/index"} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			store := newStore(t)
			require.NoError(t, store.Set(t.Context(), key, []byte("damaged")))
			logger, lines := observed()
			_, c := newTestReceiver(t, stored(store), logged(logger))
			assert.Equal(t, 1, lines.FilterMessageSnippet("replaced").Len())
			during(t, func() {}, c.manager.Run)
			c.undelivered.Track([32]byte{1}, "", time.Now())
			require.NoError(t, c.save(t.Context()))

			logger, lines = observed()
			newTestReceiver(t, stored(store), logged(logger))
			assert.Zero(t, lines.FilterMessageSnippet("replaced").Len())
		})
	}
}

// The Collector's exit code is 0 unless a component fails to shut down.
func TestReceiver_ShutdownReturnsFatalError(t *testing.T) {
	t.Parallel()
	died := errors.New("the listener died")
	r, c := newTestReceiver(t)
	require.NoError(t, c.close(t.Context()))
	r.status.Fatal(died)

	require.ErrorIs(t, r.Shutdown(context.Background()), died)
}
