// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pipeline"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/otelcopilot/m365copilotreceiver"
	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadata"
)

// newTurns returns n invented interactions of all apps.
func newTurns(n int) []graphtest.Interaction {
	stream := graphtest.NewTurns(7, graphtest.TurnSettings{TenantID: tenant, Users: 20})
	var all []graphtest.Interaction
	for at := time.Now(); len(all) < n; at = at.Add(10 * time.Second) {
		all = append(all, stream.Next(at)...)
	}
	return all[:n]
}

func TestReceiver_DeliversEachInteractionOnce(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.run(t)
	in := newTurns(1000)
	h.deliver(t, in...)

	want := make([]string, len(in))
	for i, each := range in {
		var published struct{ ID, SessionID string }
		require.NoError(t, json.Unmarshal(each.JSON, &published))
		want[i] = published.SessionID + " " + published.ID
	}
	records := h.records()
	got := make([]string, len(records))
	uids := map[string]bool{}
	for i, record := range records {
		got[i] = valueOf(record, "gen_ai.conversation.id") + " " + valueOf(record, "microsoft.copilot.interaction.id")
		uids[valueOf(record, "log.record.uid")] = true
		assert.Equal(t, "microsoft.copilot.interaction", record.EventName())
		assert.Equal(t, "false", valueOf(record, "microsoft.copilot.content.captured"))
		if valueOf(record, "microsoft.copilot.interaction.type") == "userPrompt" {
			assert.NotEmpty(t, valueOf(record, "user.id"))
		}
		assert.Regexp(t, `^(userPrompt|aiResponse)( in [\w. ]+)?, \d+ characters$`, record.Body().AsString(), "no text leaves the receiver unless configured")
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

// It does not run in parallel, since it measures time.
func TestSubscription_IsActiveWithinFiveSeconds(t *testing.T) {
	h := newHarness(t)
	subscription := h.run(t)
	took := time.Since(h.startedAt)
	t.Logf("subscribed after %s", took)
	assert.Less(t, took, 5*time.Second)
	assert.Equal(t, "copilot/interactionHistory/getAllEnterpriseInteractions", subscription.Resource)
}

// Start waits for no answer of Graph, and the receiver recovers by itself.
func TestReceiver_StartsWhileGraphIsUnreachable(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.config.Encryption.Certificates = []m365copilotreceiver.CertificateConfig{newEncryptionCertificate(t)}
	h.emulator.Fail(graphtest.OpToken, graphtest.Fault{Delay: 3 * time.Second, Reset: true})
	h.start(t)
	t.Logf("both signals started in %s", h.startDuration)
	assert.Empty(t, h.emulator.Requests(graphtest.OpToken), "both signals started, and no request was answered")
	event := h.host.await(t, componentstatus.StatusRecoverableError)
	require.Error(t, event.Err())

	h.emulator.Heal()
	h.subscribed(t)
	h.host.await(t, componentstatus.StatusOK)
	h.deliver(t, newTurns(10)...)
	assert.Len(t, h.records(), 10)
}

func TestContent_CapturesTextAndReferences(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.config.Content = m365copilotreceiver.ContentConfig{Capture: m365copilotreceiver.CaptureText, References: true}
	h.run(t)
	h.deliver(t, graphtest.Created([]byte(`{
		"id": "1764599405123", "sessionId": "19:s@thread.v2", "requestId": "r", "interactionType": "aiResponse",
		"appClass": "IPM.SkypeTeams.Message.Copilot.BizChat", "body": {"contentType": "html", "content": "<p>Two &amp; two</p>"},
		"links": [{"linkUrl": "https://contoso.example/plan", "displayName": "Plan.docx", "linkType": "File"}]}`))...)
	records := h.records()
	require.Len(t, records, 1)
	assert.Equal(t, "Two & two", records[0].Body().Str())
	references, ok := records[0].Attributes().Get("microsoft.copilot.references")
	require.True(t, ok)
	assert.Equal(t, []any{map[string]any{"kind": "link", "name": "Plan.docx", "url": "https://contoso.example/plan", "type": "File"}}, references.Slice().AsRaw())
}

// An adopted subscription is renewed if lifecycle events may have been missed.
func TestSubscription_RenewsAdoptedAfterPossibleMiss(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ stored, renewed bool }{
		"a quick restart with storage missed nothing": {true, false},
		"without storage it is unknown":               {false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			h.config.Encryption.Certificates = []m365copilotreceiver.CertificateConfig{newEncryptionCertificate(t)}
			if test.stored {
				h.withStorage(t)
			}
			h.run(t)
			ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
			defer cancel()
			require.NoError(t, h.emulator.WaitRequests(ctx, graphtest.OpList, 2))
			h.stop(t)
			before := len(h.emulator.Requests(graphtest.OpList))
			h.start(t)
			if test.renewed {
				require.NoError(t, h.emulator.WaitRequests(ctx, graphtest.OpRenew, 1))
			}
			require.NoError(t, h.emulator.WaitRequests(ctx, graphtest.OpList, before+2))
			assert.Equal(t, test.renewed, len(h.emulator.Requests(graphtest.OpRenew)) == 1)
			assert.Len(t, h.emulator.Requests(graphtest.OpCreate), 1)
		})
	}
}

// New keys are taken into use while the receiver runs, within half a minute.
func TestEncryption_ReloadsKeyFilesWhileRunning(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	certificate := newEncryptionCertificate(t)
	h.config.Encryption.Certificates = []m365copilotreceiver.CertificateConfig{certificate}
	first := h.run(t)
	in := newTurns(6)
	h.deliver(t, in[:3]...)
	renewed := newEncryptionCertificate(t)
	require.NoError(t, os.Rename(renewed.KeyFile, certificate.KeyFile))
	require.NoError(t, os.Rename(renewed.CertFile, certificate.CertFile))

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	require.NoError(t, h.emulator.WaitRequests(ctx, graphtest.OpCreate, 2))
	assert.NotEqual(t, first.EncryptionCertificateID, h.subscribed(t).EncryptionCertificateID)
	require.Eventually(t, func() bool { return h.lines.FilterMessage("subscription recreated").Len() == 1 }, waitTimeout, 10*time.Millisecond)
	_, err := h.emulator.SendLifecycle(ctx, graphtest.ReauthorizationRequired)
	require.NoError(t, err)
	require.NoError(t, h.emulator.WaitRequests(ctx, graphtest.OpRenew, 1))
	h.deliver(t, in[3:]...)
	assert.Len(t, h.records(), 6)
	assert.Zero(t, h.lines.FilterMessage("subscription adopted").Len(), "the manager is still the same")
	assert.Empty(t, h.emulator.Violations())
}

func TestSubscription_IsRecreatedWhenRemoved(t *testing.T) {
	t.Parallel()
	for name, announced := range map[string]bool{"announced by a lifecycle event": true, "found by the next check": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			first := h.run(t)
			require.NoError(t, h.emulator.RemoveSubscription(t.Context(), first.ID, announced))
			ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
			defer cancel()
			require.NoError(t, h.emulator.WaitRequests(ctx, graphtest.OpCreate, 2))
			assert.NotEqual(t, first.ID, h.subscribed(t).ID)
			h.deliver(t, newTurns(3)...)
			assert.Len(t, h.records(), 3)
		})
	}
}

func TestSubscription_RenewsOnReauthorizationRequired(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.config.Subscription.CheckInterval = time.Hour
	h.run(t)
	_, err := h.emulator.SendLifecycle(t.Context(), graphtest.ReauthorizationRequired)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	require.NoError(t, h.emulator.WaitRequests(ctx, graphtest.OpRenew, 1))
	assert.Empty(t, h.emulator.Violations())
	assert.Empty(t, h.emulator.Requests(graphtest.OpReauthorize))
}

func TestSubscription_OnePerUser(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	const anna, ben = "b2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f00", "0d9c8b7a-6f5e-4d3c-8b2a-190807060504"
	h.config.Subscription.Users = []string{anna, ben}
	h.run(t)
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	require.NoError(t, h.emulator.Wait(ctx, func(s graphtest.Stats) bool { return s.Subscriptions == 2 }))
	for _, user := range []string{anna, ben, "another"} {
		_, err := h.emulator.Publish(ctx, graphtest.Created([]byte(`{"id": "1764599405123", "sessionId": "`+user+`", "requestId": "r",
			"interactionType": "userPrompt", "from": {"user": {"id": "`+user+`"}}}`))...)
		require.NoError(t, err)
	}
	require.NoError(t, h.emulator.WaitDelivered(ctx, 2))
	users := []string{}
	for _, record := range h.records() {
		users = append(users, valueOf(record, "user.id"))
	}
	assert.ElementsMatch(t, []string{anna, ben}, users)
}

// blockedConsumer is a pipeline that blocks until its context ends, like an exporter whose full queue blocks.
type blockedConsumer struct{ consumertest.Consumer }

func (blockedConsumer) ConsumeLogs(ctx context.Context, _ plog.Logs) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestReceiver_ShutdownEndsWithBlockedPipeline(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.nextLogs = blockedConsumer{consumertest.NewNop()}
	h.config.Subscription.DeleteOnShutdown = true
	h.run(t)
	_, err := h.emulator.Publish(t.Context(), newPrompts(t, 1)...)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	require.NoError(t, h.emulator.Wait(ctx, func(stats graphtest.Stats) bool { return stats.Refused > 0 }))
	for _, signal := range h.signals {
		require.NoError(t, signal.Shutdown(context.Background()))
	}
	assert.Equal(t, 1, h.lines.FilterMessage("deliveries in flight at shutdown were cut short, Graph retries them").Len())
	assert.Empty(t, h.emulator.Subscriptions(), "the steps after that are done")
}

func TestReceiver_RunsNextToAnother(t *testing.T) {
	t.Parallel()
	first, second := newHarness(t), newHarness(t)
	factory := m365copilotreceiver.NewFactory()
	for i, h := range []*harness{first, second} {
		set := receiver.Settings{
			ID:                component.NewIDWithName(metadata.Type, string(rune('a'+i))),
			TelemetrySettings: h.telemetry.NewTelemetrySettings(),
			BuildInfo:         component.NewDefaultBuildInfo(),
		}
		signal, err := factory.CreateLogs(t.Context(), set, h.config, h.nextLogs)
		require.NoError(t, err)
		require.NoError(t, signal.Start(t.Context(), h.host))
		t.Cleanup(func() { assert.NoError(t, signal.Shutdown(context.Background())) })
	}
	for i, h := range []*harness{first, second} {
		h.subscribed(t)
		h.deliver(t, graphtest.Created([]byte(`{"id": "1764599405123", "sessionId": "`+string(rune('a'+i))+`"}`))...)
		require.Len(t, h.records(), 1)
		assert.Equal(t, string(rune('a'+i)), valueOf(h.records()[0], "gen_ai.conversation.id"))
	}
}

func TestSubscription_DeleteOnShutdown(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		asked bool
		left  int
	}{
		"the subscription stays by default":         {false, 1},
		"the subscription is deleted if configured": {true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			h.config.Subscription.DeleteOnShutdown = test.asked
			h.run(t)
			h.stop(t)
			assert.Len(t, h.emulator.Subscriptions(), test.left)
		})
	}
}

// The contract of receivers: what a pipeline accepts is delivered once, what it refuses permanently is dropped, and what it
// can't accept now is retried, here by Graph. It does not run in parallel, since the checker allows 5 seconds for it.
func TestReceiver_MeetsConsumeContract(t *testing.T) {
	h := newHarness(t, func(s *graphtest.Settings) { s.RetryDelay, s.MaxRetryDelay = time.Millisecond, 50*time.Millisecond })
	receivertest.CheckConsumeContract(receivertest.CheckConsumeContractParams{
		T:             t,
		Factory:       withTestIDs(),
		Signal:        pipeline.SignalLogs,
		Config:        h.config,
		Generator:     &publisher{t: t, harness: h},
		GenerateCount: 200,
	})
}

// publisher generates interactions of the emulated tenant.
type publisher struct {
	t       *testing.T
	harness *harness
	// created counts the subscriptions of the scenarios before.
	created int
	last    atomic.Int64
}

// Start waits for the subscription of this scenario: each receiver generates a key, and so creates a subscription, of its
// own.
func (p *publisher) Start() {
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	require.NoError(p.t, p.harness.emulator.Wait(ctx, func(s graphtest.Stats) bool {
		return s.Subscriptions == 1 && s.Requests[graphtest.OpCreate] > p.created
	}))
	p.created = p.harness.emulator.Stats().Requests[graphtest.OpCreate]
}

func (*publisher) Stop() {}

// Generate waits for earlier interactions, so that few are left for the 5 seconds, which begin after the last.
func (p *publisher) Generate() []receivertest.UniqueIDAttrVal {
	const inFlight = 8
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	id := strconv.FormatInt(1_764_599_405_123+p.last.Add(1), 10)
	_, err := p.harness.emulator.Publish(ctx,
		graphtest.Created([]byte(`{"id": "`+id+`", "sessionId": "19:s@thread.v2", "interactionType": "userPrompt"}`))...)
	require.NoError(p.t, err)
	require.NoError(p.t, p.harness.emulator.Wait(ctx, func(s graphtest.Stats) bool { return s.Offered-s.Acknowledged-s.Lost <= inFlight }))
	return []receivertest.UniqueIDAttrVal{receivertest.UniqueIDAttrVal(id)}
}

// withTestIDs returns the factory of a receiver that adds the interaction's id in the attribute by which the contract counts.
func withTestIDs() receiver.Factory {
	factory := m365copilotreceiver.NewFactory()
	return receiver.NewFactory(metadata.Type, factory.CreateDefaultConfig, receiver.WithLogs(
		func(ctx context.Context, set receiver.Settings, cfg component.Config, next consumer.Logs) (receiver.Logs, error) {
			marking, err := consumer.NewLogs(func(ctx context.Context, logs plog.Logs) error {
				for _, resource := range logs.ResourceLogs().All() {
					for _, scope := range resource.ScopeLogs().All() {
						for _, record := range scope.LogRecords().All() {
							record.Attributes().PutStr(receivertest.UniqueIDAttrName, valueOf(record, "microsoft.copilot.interaction.id"))
						}
					}
				}
				return next.ConsumeLogs(ctx, logs)
			})
			if err != nil {
				return nil, err
			}
			return factory.CreateLogs(ctx, set, cfg, marking)
		}, metadata.LogsStability))
}

// connectionCount counts the connections of a server: those that are open, and all.
type connectionCount struct {
	mu          sync.Mutex // guards what follows
	open, total int
}

func (c *connectionCount) note(_ net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		c.open++
		c.total++
	case http.StateClosed, http.StateHijacked:
		c.open--
	case http.StateActive, http.StateIdle:
	}
}

func (c *connectionCount) now() (open, total int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open, c.total
}

func TestReceiver_ShutdownClosesConnectionsToGraph(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*testing.T, *harness){
		"with a client secret": func(*testing.T, *harness) {},
		"with headers": func(_ *testing.T, h *harness) {
			h.config.Graph.Headers = configopaque.MapList{{Name: "X-Proxy", Value: "a"}}
		},
		"with an authenticator extension": func(t *testing.T, h *harness) {
			t.Helper()
			host := strings.TrimPrefix(h.config.Graph.Endpoint, "http://")
			// The extension's own connections are not the receiver's to close.
			authority := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, r *http.Request) {
				r.Host = host
				h.emulator.ServeHTTP(writer, r)
			}))
			t.Cleanup(authority.Close)
			h.withAuthenticator(t, authority.URL)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			counted := &connectionCount{}
			graph := httptest.NewUnstartedServer(h.emulator)
			graph.Config.ConnState = counted.note
			graph.Start()
			t.Cleanup(graph.Close)
			h.config.Graph.Endpoint, h.config.Auth.Authority = graph.URL, graph.URL
			change(t, h)
			h.run(t)
			h.deliver(t, newTurns(2)...)
			h.stop(t)
			_, total := counted.now()
			require.Positive(t, total)
			require.Eventually(t, func() bool { open, _ := counted.now(); return open == 0 }, 5*time.Second, 10*time.Millisecond,
				"a connection stays open for 90 s")
			assert.Empty(t, h.emulator.Violations())
		})
	}
}
