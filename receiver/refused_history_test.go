package receiver

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// fakeOutput refuses until it is well.
type fakeOutput struct {
	mu       sync.Mutex // guards what follows
	healthy  bool
	got      map[string]int
	complete chan struct{}
	want     int
}

func (p *fakeOutput) Deliver(_ context.Context, received []interaction.Received) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.healthy {
		return errors.New("the queue is full")
	}
	for i := range received {
		p.got[received[i].ID]++
	}
	if len(p.got) == p.want {
		close(p.complete)
	}
	return nil
}

func TestUndelivered_BackfillsAfterRetryDeadline(t *testing.T) {
	t.Parallel()
	const (
		tenant, client, secret = "6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10", "1a2b3c4d-5e6f-4a0b-8c1d-2e3f4a5b6c7d", "secret"
		userID                 = "b2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f00"
		n                      = 20
		timeout                = 20 * time.Second
	)
	emulator := graphtest.New(graphtest.Settings{TenantID: tenant, ClientID: client, ClientSecret: secret})
	base, err := emulator.Start("")
	require.NoError(t, err)
	t.Cleanup(emulator.Close)

	out := &fakeOutput{got: map[string]int{}, want: n, complete: make(chan struct{})}
	in, err := dedupe.New(dedupe.Settings{Next: out, MaxOpen: 100, Window: time.Hour, MaxEntries: 1000})
	require.NoError(t, err)
	backfiller := backfill.New(backfill.Settings{
		TenantID: tenant, MaxGap: time.Hour, Users: []string{userID}, RequestsPerSecond: 25, Concurrency: 1,
		Graph: graph.New(graph.Settings{Endpoint: base, Tokens: graph.NewTokens(graph.CredentialSettings{
			TokenURL: graph.TokenURL(base, tenant), ClientID: client, Scope: graph.DefaultScope(base), Secret: secret,
		})}),
		Intake: in, Store: newStore(t), Logger: zap.NewNop(),
	})
	tracker := newUndelivered(newStore(t), zap.NewNop(), 4*time.Hour, backfiller)
	webhook := &trackedIntake{deduplicator: in, undelivered: tracker, silence: &silenceDetector{}}

	var offered []interaction.Received
	now := time.Now()
	for i := range n {
		at := now.Add(-time.Duration(i) * time.Minute)
		r := interactionAt(at)
		r.SessionID, r.TenantID, r.Change = strconv.Itoa(i), tenant, interaction.Created
		offered = append(offered, r)
		require.NoError(t, emulator.AddHistory(graphtest.Interaction{UserID: userID, JSON: []byte(`{"id": "` + r.ID + `", "sessionId": "` + r.SessionID + `"}`)}))
	}
	require.Error(t, webhook.Take(t.Context(), offered), "Graph is asked to send again")
	out.mu.Lock()
	out.healthy = true
	out.mu.Unlock()
	require.NoError(t, webhook.Take(t.Context(), offered[:5]), "some of it comes again in time")

	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	var running sync.WaitGroup
	running.Go(func() { backfiller.Run(ctx) })
	tracker.openExpired(ctx, now.Add(5*time.Hour))
	select {
	case <-out.complete:
	case <-ctx.Done():
		require.FailNow(t, "not everything was found")
	}
	cancel()
	running.Wait()
	for id, count := range out.got {
		assert.Equal(t, 1, count, id)
	}
}
