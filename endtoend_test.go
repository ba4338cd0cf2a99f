package m365copilotreceiver

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// turns invents at least n interactions of all apps.
func turns(n int) []graphtest.Interaction {
	stream := graphtest.NewTurns(7, graphtest.TurnSettings{TenantID: testTenant, Users: 20})
	var all []graphtest.Interaction
	for at := time.Now(); len(all) < n; at = at.Add(10 * time.Second) {
		all = append(all, stream.Next(at)...)
	}
	return all[:n]
}

func TestAThousandInteractionsInAThousandRecordsOut(t *testing.T) {
	t.Parallel()
	w := newHarness(t)
	w.run(t)
	in := turns(1000)
	w.deliver(t, in...)

	want := make([]string, len(in))
	for i, each := range in {
		var published struct{ ID, SessionID string }
		require.NoError(t, json.Unmarshal(each.JSON, &published))
		want[i] = published.SessionID + " " + published.ID
	}
	records := w.records()
	got := make([]string, len(records))
	uids := map[string]bool{}
	for i, record := range records {
		got[i] = valueOf(record, "gen_ai.conversation.id") + " " + valueOf(record, "microsoft.copilot.interaction.id")
		uids[valueOf(record, "log.record.uid")] = true
		assert.Equal(t, "microsoft.copilot.interaction", record.EventName())
		assert.Empty(t, record.Body().AsString(), "no text leaves unless it is asked for")
	}
	slices.Sort(want)
	slices.Sort(got)
	assert.Equal(t, want, got)
	assert.Len(t, uids, 1000)
}

func valueOf(record plog.LogRecord, name string) string {
	value, ok := record.Attributes().Get(name)
	if !ok {
		return ""
	}
	return value.AsString()
}

func TestTheSubscriptionIsActiveWithinFiveSeconds(t *testing.T) {
	t.Parallel()
	w := newHarness(t)
	subscription := w.run(t)
	took := time.Since(w.begun)
	t.Logf("subscribed after %s", took)
	assert.Less(t, took, 5*time.Second)
	assert.Equal(t, "copilot/interactionHistory/getAllEnterpriseInteractions", subscription.Resource)
}

func TestStartReturnsAtOnceWhileGraphIsOutOfReachAndRecoversByItself(t *testing.T) {
	t.Parallel()
	w := newHarness(t)
	w.emulator.Fail(graphtest.OpToken, graphtest.Fault{Reset: true})
	w.start(t)
	t.Logf("both signals started in %s", w.started)
	assert.Less(t, w.started, 50*time.Millisecond)
	event := w.host.await(t, componentstatus.StatusRecoverableError)
	require.Error(t, event.Err())

	w.emulator.Heal()
	w.subscribed(t)
	w.host.await(t, componentstatus.StatusOK)
	w.deliver(t, turns(10)...)
	assert.Len(t, w.records(), 10)
}

func TestTextAndReferencesLeaveWhenAskedFor(t *testing.T) {
	t.Parallel()
	w := newHarness(t)
	w.config.Content = ContentConfig{Capture: CaptureText, References: true}
	w.run(t)
	w.deliver(t, graphtest.Created([]byte(`{
		"id": "1764599405123", "sessionId": "19:s@thread.v2", "requestId": "r", "interactionType": "aiResponse",
		"appClass": "IPM.SkypeTeams.Message.Copilot.BizChat", "body": {"contentType": "html", "content": "<p>Two &amp; two</p>"},
		"links": [{"linkUrl": "https://contoso.example/plan", "displayName": "Plan.docx", "linkType": "File"}]}`))...)
	records := w.records()
	require.Len(t, records, 1)
	assert.Equal(t, "Two & two", records[0].Body().Str())
	references, ok := records[0].Attributes().Get("microsoft.copilot.references")
	require.True(t, ok)
	assert.Equal(t, []any{map[string]any{"kind": "link", "name": "Plan.docx", "url": "https://contoso.example/plan", "type": "File"}}, references.Slice().AsRaw())
}

func TestAnAdoptedSubscriptionIsRenewedWhereItsEventsMayHaveGoneByUnheard(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ stored, renewed bool }{
		"a quick restart, as storage tells, missed nothing": {true, false},
		"without storage nobody knows":                      {false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newHarness(t)
			w.config.Encryption.Certificates = []CertificateConfig{encryptionCertificate(t, "2026-11")}
			if test.stored {
				w.withStorage(t)
			}
			w.run(t)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			require.NoError(t, w.emulator.WaitRequests(ctx, graphtest.OpList, 2))
			w.stop(t)
			before := len(w.emulator.Requests(graphtest.OpList))
			w.start(t)
			require.NoError(t, w.emulator.WaitRequests(ctx, graphtest.OpList, before+2))
			assert.Equal(t, test.renewed, len(w.emulator.Requests(graphtest.OpRenew)) == 1)
			assert.Len(t, w.emulator.Requests(graphtest.OpCreate), 1)
		})
	}
}

func TestARestartAdoptsTheSubscription(t *testing.T) {
	t.Parallel()
	w := newHarness(t)
	w.config.Encryption.Certificates = []CertificateConfig{encryptionCertificate(t, "2026-11")}
	first := w.run(t)
	w.stop(t)
	w.start(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, w.emulator.WaitRequests(ctx, graphtest.OpList, 2))
	w.deliver(t, turns(5)...)
	assert.Len(t, w.records(), 5)
	assert.Equal(t, first.ID, w.subscribed(t).ID)
	assert.Len(t, w.emulator.Requests(graphtest.OpCreate), 1)
	assert.Empty(t, w.emulator.Requests(graphtest.OpDelete))
}

func TestANewFirstCertificateReplacesTheSubscriptionAndTheOldOneStillDecrypts(t *testing.T) {
	t.Parallel()
	w := newHarness(t)
	old, young := encryptionCertificate(t, "2026-11"), encryptionCertificate(t, "2026-12")
	w.config.Encryption.Certificates = []CertificateConfig{old}
	first := w.run(t)
	late, err := w.emulator.Collection(turns(1)...)
	require.NoError(t, err)
	w.stop(t)

	w.config.Encryption.Certificates = []CertificateConfig{young, old}
	w.start(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, w.emulator.WaitRequests(ctx, graphtest.OpCreate, 2))
	second := w.subscribed(t)
	assert.NotEqual(t, first.ID, second.ID)
	assert.Contains(t, second.EncryptionCertificateID, "2026-12.")

	status, err := w.emulator.Post(t.Context(), late)
	require.NoError(t, err)
	assert.Equal(t, 202, status)
	w.deliver(t, turns(5)...)
	assert.Len(t, w.records(), 6)
}

func TestARemovedSubscriptionIsRecreated(t *testing.T) {
	t.Parallel()
	for name, announced := range map[string]bool{"announced by a lifecycle event": true, "found by the next check": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newHarness(t)
			first := w.run(t)
			require.NoError(t, w.emulator.RemoveSubscription(t.Context(), first.ID, announced))
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			require.NoError(t, w.emulator.WaitRequests(ctx, graphtest.OpCreate, 2))
			assert.NotEqual(t, first.ID, w.subscribed(t).ID)
			w.deliver(t, turns(3)...)
			assert.Len(t, w.records(), 3)
		})
	}
}

func TestAnAuthenticReauthorizationRequestRenewsAtOnce(t *testing.T) {
	t.Parallel()
	w := newHarness(t)
	w.config.Subscription.CheckInterval = time.Hour
	w.run(t)
	_, err := w.emulator.SendLifecycle(t.Context(), graphtest.ReauthorizationRequired)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, w.emulator.WaitRequests(ctx, graphtest.OpRenew, 1))
	assert.Empty(t, w.emulator.Violations())
	assert.Empty(t, w.emulator.Requests(graphtest.OpReauthorize))
}

func TestOneSubscriptionForEachUser(t *testing.T) {
	t.Parallel()
	w := newHarness(t)
	const anna, ben = "b2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f00", "0d9c8b7a-6f5e-4d3c-8b2a-190807060504"
	w.config.Subscription.Users = []string{anna, ben}
	w.run(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, w.emulator.Wait(ctx, func(s graphtest.Stats) bool { return s.Subscriptions == 2 }))
	for _, user := range []string{anna, ben, "another"} {
		_, err := w.emulator.Publish(ctx, graphtest.Created([]byte(`{"id": "1764599405123", "sessionId": "`+user+`", "requestId": "r",
			"interactionType": "userPrompt", "from": {"user": {"id": "`+user+`"}}}`))...)
		require.NoError(t, err)
	}
	require.NoError(t, w.emulator.WaitDelivered(ctx, 2))
	users := []string{}
	for _, record := range w.records() {
		users = append(users, valueOf(record, "user.id"))
	}
	assert.ElementsMatch(t, []string{anna, ben}, users)
}

// stuck is a pipeline that takes nothing until the receiver waits no more, as an exporter whose full queue blocks.
type stuck struct{ consumertest.Consumer }

func (stuck) ConsumeLogs(ctx context.Context, _ plog.Logs) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestAShutdownWithoutADeadlineEndsAlsoBehindAStuckPipeline(t *testing.T) {
	t.Parallel()
	w := newHarness(t)
	w.nextLogs = stuck{consumertest.NewNop()}
	w.config.Subscription.DeleteOnShutdown = true
	w.run(t)
	_, err := w.emulator.Publish(t.Context(), prompts(t, 1)...)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, w.emulator.Wait(ctx, func(stats graphtest.Stats) bool { return stats.Refused > 0 }))
	for _, signal := range w.signals {
		require.NoError(t, signal.Shutdown(context.Background()))
	}
	assert.Equal(t, 1, w.lines.FilterMessage("deliveries under way at the end were cut short").Len())
	assert.Empty(t, w.emulator.Subscriptions(), "what comes after that is done")
}

func TestDeleteOnShutdown(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		asked bool
		left  int
	}{
		"the subscription stays by default":    {false, 1},
		"the subscription goes where asked to": {true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newHarness(t)
			w.config.Subscription.DeleteOnShutdown = test.asked
			w.run(t)
			w.stop(t)
			assert.Len(t, w.emulator.Subscriptions(), test.left)
		})
	}
}
