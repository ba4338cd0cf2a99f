package m365copilotreceiver

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pipeline"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadata"
)

// The contract of receivers: what a pipeline takes is delivered once, what it refuses for good is dropped, and what it
// can't take now is offered again, here by Graph.
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

// publisher is the tenant as a source of interactions.
type publisher struct {
	t       *testing.T
	harness *harness
	// created counts the subscriptions of the scenarios before.
	created int
	last    atomic.Int64
}

// Start waits for the subscription of the receiver of this scenario: each makes a key, and so a subscription, of its own.
func (p *publisher) Start() {
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	require.NoError(p.t, p.harness.emulator.Wait(ctx, func(s graphtest.Stats) bool {
		return s.Subscriptions == 1 && s.Requests[graphtest.OpCreate] > p.created
	}))
	p.created = p.harness.emulator.Stats().Requests[graphtest.OpCreate]
}

func (*publisher) Stop() {}

func (p *publisher) Generate() []receivertest.UniqueIDAttrVal {
	id := strconv.FormatInt(1_764_599_405_123+p.last.Add(1), 10)
	_, err := p.harness.emulator.Publish(context.Background(),
		graphtest.Created([]byte(`{"id": "`+id+`", "sessionId": "19:s@thread.v2", "interactionType": "userPrompt"}`))...)
	require.NoError(p.t, err)
	return []receivertest.UniqueIDAttrVal{receivertest.UniqueIDAttrVal(id)}
}

// withTestIDs is the factory with the interaction's id in the attribute by which the contract counts.
func withTestIDs() receiver.Factory {
	factory := NewFactory()
	return receiver.NewFactory(metadata.Type, createDefaultConfig, receiver.WithLogs(
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
