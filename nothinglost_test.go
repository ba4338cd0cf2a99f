package m365copilotreceiver

import (
	"context"
	"encoding/json"
	"maps"
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

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// withStorage gives the receiver a storage that survives its restarts.
func (w *harness) withStorage(t *testing.T) {
	t.Helper()
	id := storagetest.NewStorageID("copilot")
	w.config.Storage = &id
	w.host.extensions = map[component.ID]component.Component{id: storagetest.NewFileBackedStorageExtension("copilot", t.TempDir())}
}

// restart stops the receiver and starts it with the same configuration and storage.
func (w *harness) restart(t *testing.T) {
	t.Helper()
	w.stop(t)
	w.start(t)
}

// prompts invents n prompts of the asker, a second apart, the last a minute ago.
func prompts(t *testing.T, n int) []graphtest.Interaction {
	t.Helper()
	all := make([]graphtest.Interaction, n)
	for i := range all {
		at := time.Now().Add(time.Duration(i-n)*time.Second - time.Minute)
		text, err := json.Marshal(map[string]any{
			"id": strconv.FormatInt(at.UnixMilli(), 10), "sessionId": "19:" + asker, "requestId": strconv.Itoa(i), "interactionType": "userPrompt",
			"etag": strconv.FormatInt(at.UnixMilli(), 10), "createdDateTime": at.UTC().Format(time.RFC3339Nano),
			"from": map[string]any{"user": map[string]any{"id": asker}},
		})
		require.NoError(t, err)
		all[i] = graphtest.Interaction{JSON: text}
	}
	return all
}

const asker = "b2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f00"

// ids are those of interactions, sorted.
func ids(t *testing.T, interactions ...graphtest.Interaction) []string {
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

// arrived are the ids of all records, sorted; what came twice stands there twice.
func (w *harness) arrived() []string {
	var all []string
	for _, record := range w.records() {
		all = append(all, valueOf(record, "microsoft.copilot.interaction.id"))
	}
	slices.Sort(all)
	return all
}

// awaitRecords waits until n records are there.
func (w *harness) awaitRecords(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return w.logs.LogRecordCount() >= n }, patience, 10*time.Millisecond)
}

func (w *harness) decrypted(t *testing.T) int64 {
	t.Helper()
	metric, err := w.telemetry.GetMetric("otelcol_receiver_m365_copilot_items_decrypted")
	require.NoError(t, err)
	sum, ok := metric.Data.(metricdata.Sum[int64])
	require.True(t, ok)
	return sum.DataPoints[0].Value
}

func TestARedeliveredBatchOfWhichHalfWasDeliveredYieldsEachOnceAndCostsNoDecryptionForThatHalf(t *testing.T) {
	t.Parallel()
	w := newHarness(t)
	w.run(t)
	in := prompts(t, 10)
	whole, err := w.emulator.Collection(in...)
	require.NoError(t, err)
	half := whole
	half.Value = whole.Value[:5]
	for _, c := range []graphtest.Collection{half, whole, whole} {
		status, err := w.emulator.Post(t.Context(), c)
		require.NoError(t, err)
		assert.Equal(t, 202, status)
	}
	assert.Equal(t, ids(t, in...), w.arrived())
	assert.EqualValues(t, 10, w.decrypted(t))
	duplicates, err := w.telemetry.GetMetric("otelcol_receiver_m365_copilot_duplicates")
	require.NoError(t, err)
	assert.EqualValues(t, 15, duplicates.Data.(metricdata.Sum[int64]).DataPoints[0].Value)
}

func TestWhatWasDeliveredIsKnownAfterARestart(t *testing.T) {
	t.Parallel()
	w := newHarness(t)
	w.withStorage(t)
	w.run(t)
	in := prompts(t, 10)
	c, err := w.emulator.Collection(in...)
	require.NoError(t, err)
	_, err = w.emulator.Post(t.Context(), c)
	require.NoError(t, err)
	w.restart(t)
	w.subscribed(t)
	require.Eventually(t, func() bool {
		status, err := w.emulator.Post(t.Context(), c)
		return err == nil && status == 202
	}, patience, 10*time.Millisecond)
	assert.Equal(t, ids(t, in...), w.arrived())
	assert.Len(t, w.emulator.Requests(graphtest.OpCreate), 1, "the generated key survived, so the subscription did")
	assert.Empty(t, w.emulator.Requests(graphtest.OpDelete))
}

func TestWhatHappenedWhileTheSubscriptionWasGoneIsFetchedFromTheHistory(t *testing.T) {
	t.Parallel()
	w := newHarness(t)
	w.config.History.Users = []string{asker}
	all := prompts(t, 8)
	before, lost := all[:1], all[1:]
	w.run(t)
	w.deliver(t, before...)
	first := w.emulator.Subscriptions()[0]
	require.NoError(t, w.emulator.RemoveSubscription(t.Context(), first.ID, false))
	require.NoError(t, w.emulator.AddHistory(lost...))
	w.awaitRecords(t, len(all))
	assert.Equal(t, ids(t, all...), w.arrived())
	for _, record := range w.records()[1:] {
		assert.Equal(t, "history", valueOf(record, "microsoft.copilot.source"))
		assert.Equal(t, asker, valueOf(record, "user.id"))
	}
}

func TestWhatHappenedWhileTheCollectorWasDownAndItsSubscriptionEndedIsFetchedFromTheHistory(t *testing.T) {
	t.Parallel()
	w := newHarness(t)
	w.withStorage(t)
	w.run(t)
	all := prompts(t, 50)
	seen, lost := all[:2], all[2:]
	w.deliver(t, seen...)
	w.stop(t)
	require.NoError(t, w.emulator.AddHistory(lost...))
	require.NoError(t, w.emulator.ExpireSubscription(w.emulator.Subscriptions()[0].ID, time.Now()))
	w.start(t)
	w.awaitRecords(t, len(all))
	assert.Equal(t, ids(t, all...), w.arrived(), "of a user who was seen before")
	require.Eventually(t, func() bool {
		missing := map[string]float64{}
		for _, point := range w.latest(t)["microsoft.copilot.history.gap"].Gauge().DataPoints().All() {
			reason, _ := point.Attributes().Get("microsoft.copilot.reason")
			missing[reason.Str()] = point.DoubleValue()
		}
		return maps.Equal(missing, map[string]float64{
			"startup": 0, "subscription": 0, "removed_key": 0, "undelivered": 0, "unverified": 0, "undecryptable": 0, "empty": 0,
			"lookback": 0, "users_unknown": 0,
		})
	}, patience, 50*time.Millisecond, "all was read, and each reason says so")
}

func TestAFirstStartImportsHistory(t *testing.T) {
	t.Parallel()
	w := newHarness(t)
	w.withStorage(t)
	w.config.History.Users, w.config.History.Lookback = []string{asker}, 24*time.Hour
	old := prompts(t, 30)
	require.NoError(t, w.emulator.AddHistory(old...))
	w.run(t)
	w.awaitRecords(t, len(old))
	assert.Equal(t, ids(t, old...), w.arrived())
}

func TestWithoutAPublicEndpointTheHistoryIsPolled(t *testing.T) {
	t.Parallel()
	w := newHarness(t)
	w.withStorage(t)
	w.config.Subscription.NotificationURL = ""
	w.config.Webhook.ServerConfig.NetAddr.Endpoint = "0.0.0.0:8443" // where nothing listens
	w.config.Webhook.ServerConfig.TLS = configoptional.None[configtls.ServerConfig]()
	w.config.History.Users, w.config.History.PollInterval = []string{asker}, time.Second
	w.start(t)
	in := prompts(t, 5)
	require.NoError(t, w.emulator.AddHistory(in...))
	w.awaitRecords(t, len(in))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, w.emulator.WaitRequests(ctx, graphtest.OpHistory, 4))
	assert.Equal(t, ids(t, in...), w.arrived(), "each poll reads some of it again, and each comes out once")
	assert.Empty(t, w.emulator.Requests(graphtest.OpCreate), "there is no subscription")
}

func TestAnItemThatCanNotBeReadIsFetchedFromTheHistory(t *testing.T) {
	t.Parallel()
	w := newHarness(t)
	w.config.History.Users = []string{asker}
	w.run(t)
	in := prompts(t, 1)
	require.NoError(t, w.emulator.AddHistory(in...))
	c, err := w.emulator.Collection(in...)
	require.NoError(t, err)
	c.Value[0].EncryptedContent.DataSignature = "c3BvaWxlZA=="
	status, err := w.emulator.Post(t.Context(), c)
	require.NoError(t, err)
	assert.Equal(t, 202, status)
	w.awaitRecords(t, 1)
	assert.Equal(t, ids(t, in...), w.arrived())
}

func TestAStorageThatIsNoneNamesTheMend(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		extension component.Component
		want      string
	}{
		"a missing extension":          {nil, "service.extensions"},
		"an extension of another kind": {storagetest.NewNonStorageExtension("x"), "no storage extension"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newHarness(t)
			id := storagetest.NewNonStorageID("x")
			w.config.Storage = &id
			if test.extension != nil {
				w.host.extensions = map[component.ID]component.Component{id: test.extension}
			}
			signal, err := NewFactory().CreateLogs(t.Context(), w.settings(), w.config, w.nextLogs)
			require.NoError(t, err)
			require.ErrorContains(t, signal.Start(t.Context(), w.host), test.want)
			assert.NoError(t, signal.Shutdown(t.Context()))
		})
	}
}
