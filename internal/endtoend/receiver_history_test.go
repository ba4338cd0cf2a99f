// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/extension/storage/storagetest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/config/configtls"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/otelcopilot/m365copilotreceiver"
	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// withStorage gives the receiver a storage that survives its restarts.
func (h *harness) withStorage(t *testing.T) {
	t.Helper()
	id := storagetest.NewStorageID("copilot")
	h.config.Storage = &id
	h.host.extensions = map[component.ID]component.Component{id: storagetest.NewFileBackedStorageExtension("copilot", t.TempDir())}
}

// restart stops the receiver and starts it with the same configuration and storage.
func (h *harness) restart(t *testing.T) {
	t.Helper()
	h.stop(t)
	h.start(t)
}

// newPrompts returns n prompts of testUser, a second apart, the last a minute ago.
func newPrompts(t *testing.T, n int) []graphtest.Interaction {
	t.Helper()
	all := make([]graphtest.Interaction, n)
	for i := range all {
		all[i] = promptAt(t, time.Now().Add(time.Duration(i-n)*time.Second-time.Minute), i)
	}
	return all
}

// promptAt returns a prompt of testUser with a number.
func promptAt(t *testing.T, at time.Time, number int) graphtest.Interaction {
	t.Helper()
	text, err := json.Marshal(map[string]any{
		"id": strconv.FormatInt(at.UnixMilli(), 10), "sessionId": "19:" + testUser, "requestId": strconv.Itoa(number), "interactionType": "userPrompt",
		"etag": strconv.FormatInt(at.UnixMilli(), 10), "createdDateTime": at.UTC().Format(time.RFC3339Nano),
		"from": map[string]any{"user": map[string]any{"id": testUser}},
	})
	require.NoError(t, err)
	return graphtest.Interaction{JSON: text}
}

const testUser = "b2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f00"

// interactionIDs returns the ids of interactions, sorted.
func interactionIDs(t *testing.T, interactions ...graphtest.Interaction) []string {
	t.Helper()
	all := make([]string, len(interactions))
	for i, each := range interactions {
		var id struct{ ID string }
		require.NoError(t, json.Unmarshal(each.JSON, &id))
		all[i] = id.ID
	}
	slices.Sort(all)
	return all
}

// deliveredIDs returns the ids of all records, sorted and with repetitions.
func (h *harness) deliveredIDs() []string {
	var all []string
	for _, record := range h.records() {
		all = append(all, valueOf(record, "microsoft.copilot.interaction.id"))
	}
	slices.Sort(all)
	return all
}

// awaitRecords waits until n records are there.
func (h *harness) awaitRecords(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return h.logs.LogRecordCount() >= n }, waitTimeout, 10*time.Millisecond)
}

func (h *harness) decrypted(t *testing.T) int64 {
	t.Helper()
	metric, err := h.telemetry.GetMetric("otelcol_receiver_m365_copilot_items_decrypted")
	require.NoError(t, err)
	sum, ok := metric.Data.(metricdata.Sum[int64])
	require.True(t, ok)
	return sum.DataPoints[0].Value
}

// If half of a batch was delivered before, the whole batch delivers each interaction once and decrypts only the other half.
func TestDedupe_SkipsDecryptionOfRedelivered(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.run(t)
	in := newPrompts(t, 10)
	whole, err := h.emulator.Collection(in...)
	require.NoError(t, err)
	half := whole
	half.Value = whole.Value[:5]
	for _, c := range []graphtest.Collection{half, whole, whole} {
		status, err := h.emulator.Post(t.Context(), c)
		require.NoError(t, err)
		assert.Equal(t, 202, status)
	}
	assert.Equal(t, interactionIDs(t, in...), h.deliveredIDs())
	assert.EqualValues(t, 10, h.decrypted(t))
	duplicates, err := h.telemetry.GetMetric("otelcol_receiver_m365_copilot_duplicates")
	require.NoError(t, err)
	assert.EqualValues(t, 15, duplicates.Data.(metricdata.Sum[int64]).DataPoints[0].Value)
}

func TestDedupe_SurvivesRestart(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.withStorage(t)
	h.run(t)
	in := newPrompts(t, 10)
	c, err := h.emulator.Collection(in...)
	require.NoError(t, err)
	_, err = h.emulator.Post(t.Context(), c)
	require.NoError(t, err)
	h.restart(t)
	h.subscribed(t)
	require.Eventually(t, func() bool {
		status, err := h.emulator.Post(t.Context(), c)
		return err == nil && status == 202
	}, waitTimeout, 10*time.Millisecond)
	assert.Equal(t, interactionIDs(t, in...), h.deliveredIDs())
	assert.Len(t, h.emulator.Requests(graphtest.OpCreate), 1, "the generated key survived, so the subscription did")
	assert.Empty(t, h.emulator.Requests(graphtest.OpDelete))
}

// The gap of a collector that was down until its subscription ended is read for the users who were seen before.
func TestHistory_FillsDowntimeGap(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.withStorage(t)
	h.run(t)
	h.confirmed(t)
	all := newPrompts(t, 50)
	seen, lost := all[:2], all[2:]
	h.deliver(t, seen...)
	h.stop(t)
	require.NoError(t, h.emulator.AddHistory(lost...))
	require.NoError(t, h.emulator.ExpireSubscription(h.emulator.Subscriptions()[0].ID, time.Now()))
	h.start(t)
	h.awaitRecords(t, len(all))
	assert.Equal(t, interactionIDs(t, all...), h.deliveredIDs(), "of a user who was seen before")
	for _, record := range h.records() {
		assert.Equal(t, testUser, valueOf(record, "user.id"))
	}
	assert.Equal(t, map[string]int{"notification": len(seen), "history": len(lost)}, h.sources())
	unread := func() map[string]float64 {
		missing := map[string]float64{}
		for _, point := range h.lastMetrics(t)["microsoft.copilot.history.gap"].Gauge().DataPoints().All() {
			reason, _ := point.Attributes().Get("microsoft.copilot.reason")
			missing[reason.Str()] = point.DoubleValue()
		}
		return missing
	}
	require.Eventually(t, func() bool { return unread()["users_unknown"] > 0 && unread()["startup"] == 0 }, waitTimeout, 50*time.Millisecond,
		"what other users did is missing until the directory may be listed")
	missing := unread()
	delete(missing, "users_unknown")
	assert.Equal(t, map[string]float64{
		"startup": 0, "subscription": 0, "removed_key": 0, "undelivered": 0, "unverified": 0, "undecryptable": 0, "empty": 0, "lookback": 0,
	}, missing, "every other gap is closed, and each reason has the value 0")
}

func TestHistory_ImportsLookbackOnFirstStart(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.withStorage(t)
	h.config.History.Users, h.config.History.Lookback = []string{testUser}, 24*time.Hour
	old := newPrompts(t, 30)
	require.NoError(t, h.emulator.AddHistory(old...))
	h.run(t)
	h.awaitRecords(t, len(old))
	assert.Equal(t, interactionIDs(t, old...), h.deliveredIDs())
}

// An import that is larger than the cache does not push out what was delivered live: where Graph sends that again, it is known.
func TestHistory_ImportEvictsNoLiveEntry(t *testing.T) {
	t.Parallel()
	for name, age := range map[string]time.Duration{
		"of a time longer ago than the window": 30 * time.Hour,
		"of the last hours":                    3 * time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const entries, imported, live = 100, 250, 50
			h := newHarness(t)
			h.withStorage(t)
			h.config.Dedupe.MaxEntries = entries
			h.set(t, "history: {users: [%s], lookback: 48h}", testUser)
			old := make([]graphtest.Interaction, imported)
			for i := range old {
				old[i] = promptAt(t, time.Now().Add(time.Duration(i)*time.Second-age), i)
			}
			require.NoError(t, h.emulator.AddHistory(old...))
			h.emulator.Fail(graphtest.OpHistory, graphtest.Fault{Status: http.StatusServiceUnavailable, RetryAfter: "1"})
			h.run(t)
			in := h.promptsNow(t, live)
			sent, err := h.emulator.Collection(in...)
			require.NoError(t, err)
			post := func() {
				t.Helper()
				require.Eventually(t, func() bool {
					status, err := h.emulator.Post(t.Context(), sent)
					return err == nil && status == http.StatusAccepted
				}, waitTimeout, 10*time.Millisecond)
			}
			post()
			assert.Equal(t, map[string]int{"notification": live}, h.sources(), "the import comes later")
			h.emulator.Heal()
			h.awaitRecords(t, live+imported)
			post()
			assert.Equal(t, map[string]int{"notification": live, "history": imported}, h.sources())
			h.restart(t)
			h.confirmed(t)
			post()
			assert.Equal(t, map[string]int{"notification": live, "history": imported}, h.sources(), "nor after a restart")
		})
	}
}

// Each entry of history.replay is delivered once more, whatever the cache holds, with the same uids. It counts in no metric.
func TestHistory_ReplaysOncePerEntry(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.withStorage(t)
	h.config.History.Users = []string{testUser}
	h.run(t)
	in := newPrompts(t, 20)
	h.deliver(t, in...)
	uids := func() []string {
		var all []string
		for _, record := range h.records() {
			all = append(all, valueOf(record, "log.record.uid"))
		}
		slices.Sort(all)
		return all
	}
	first := uids()
	require.Len(t, slices.Compact(slices.Clone(first)), len(in))

	replay := func(from, to time.Time) {
		t.Helper()
		h.stop(t)
		h.set(t, "history: {replay: [{from: %s, to: %s}]}", from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339))
		h.logs.Reset()
		h.metrics.Reset()
		h.start(t)
	}
	from, to := time.Now().Add(-time.Hour), time.Now()
	replay(from, to)
	h.awaitRecords(t, len(in))
	assert.Equal(t, first, uids())
	assert.Equal(t, map[string]int{"history": len(in)}, h.sources())
	h.confirmed(t)
	h.stop(t)
	metrics := h.lastMetrics(t)
	for _, name := range []string{"microsoft.copilot.interactions", "microsoft.copilot.interaction.ingestion_delay"} {
		assert.NotContains(t, metrics, name)
	}
	for _, reason := range []string{"replay", "reconcile", "startup"} {
		assert.Zero(t, h.recovered(t, reason))
	}
	_, found := h.point(t, "microsoft.copilot.history.gap", "microsoft.copilot.reason", "replay")
	assert.False(t, found)

	h.logs.Reset()
	before := len(h.emulator.Requests(graphtest.OpHistory))
	h.start(t)
	h.confirmed(t)
	h.confirmed(t)
	assert.Empty(t, h.records(), "it was done")
	assert.Len(t, h.emulator.Requests(graphtest.OpHistory), before)

	replay(from, to.Add(time.Second))
	h.awaitRecords(t, len(in))
	assert.Equal(t, first, uids(), "another entry is another one")
}

// Without a checkpoint nothing is known of the run before. What Graph may have retried in vain is read.
func TestHistory_AdoptionWithoutCheckpointReadsFiveHours(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.config.History.Users = []string{testUser}
	h.config.Encryption.Certificates = []m365copilotreceiver.CertificateConfig{newEncryptionCertificate(t)}
	h.run(t)
	h.confirmed(t)
	assert.Empty(t, h.emulator.Requests(graphtest.OpHistory), "a new subscription misses nothing")
	h.stop(t)
	found, tooOld := promptAt(t, time.Now().Add(-290*time.Minute), 0), promptAt(t, time.Now().Add(-310*time.Minute), 1)
	require.NoError(t, h.emulator.AddHistory(found, tooOld))
	h.start(t)
	h.awaitRecords(t, 1)
	require.Eventually(t, func() bool { return h.readReasons(t) != "" }, waitTimeout, 20*time.Millisecond)
	assert.Contains(t, h.readReasons(t), "startup")
	assert.Equal(t, interactionIDs(t, found), h.deliveredIDs())
	assert.Len(t, h.emulator.Requests(graphtest.OpCreate), 1)
}

func TestHistory_IsPolledWithoutSubscription(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.withStorage(t)
	h.config.Subscription.NotificationURL = ""
	h.config.Webhook.ServerConfig.NetAddr.Endpoint = "0.0.0.0:8443" // where nothing listens
	h.config.Webhook.ServerConfig.TLS = configoptional.None[configtls.ServerConfig]()
	h.config.History.Users, h.config.History.PollInterval = []string{testUser}, time.Second
	h.start(t)
	in := newPrompts(t, 5)
	require.NoError(t, h.emulator.AddHistory(in...))
	h.awaitRecords(t, len(in))
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	require.NoError(t, h.emulator.WaitRequests(ctx, graphtest.OpHistory, 4))
	assert.Equal(t, interactionIDs(t, in...), h.deliveredIDs(), "polls overlap, and each interaction is delivered once")
	assert.Empty(t, h.emulator.Requests(graphtest.OpCreate), "there is no subscription")
}

func TestHistory_FetchesUndecryptableItem(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.config.History.Users = []string{testUser}
	h.run(t)
	in := newPrompts(t, 1)
	require.NoError(t, h.emulator.AddHistory(in...))
	c, err := h.emulator.Collection(in...)
	require.NoError(t, err)
	c.Value[0].EncryptedContent.DataSignature = "c3BvaWxlZA=="
	status, err := h.emulator.Post(t.Context(), c)
	require.NoError(t, err)
	assert.Equal(t, 202, status)
	h.awaitRecords(t, 1)
	assert.Equal(t, interactionIDs(t, in...), h.deliveredIDs())
}

func TestStorage_ErrorSaysHowToFix(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		extension component.Component
		want      string
		code      failure.Code
	}{
		"a missing extension":          {nil, "service.extensions", failure.ExtensionMissing},
		"an extension of another kind": {storagetest.NewNonStorageExtension("x"), "not a storage extension", failure.SettingWrong},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			id := storagetest.NewNonStorageID("x")
			h.config.Storage = &id
			if test.extension != nil {
				h.host.extensions = map[component.ID]component.Component{id: test.extension}
			}
			signal, err := m365copilotreceiver.NewFactory().CreateLogs(t.Context(), h.settings(), h.config, h.nextLogs)
			require.NoError(t, err)
			err = signal.Start(t.Context(), h.host)
			require.ErrorContains(t, err, test.want)
			require.ErrorContains(t, err, string(test.code))
			assert.NoError(t, signal.Shutdown(t.Context()))
		})
	}
}
