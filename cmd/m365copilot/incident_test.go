// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// receivedIDs returns the ids of the interactions that the collector got.
func (c *fakeCollector) receivedIDs() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ids []string
	for _, one := range c.decrypted {
		id, _ := one["id"].(string)
		ids = append(ids, id)
	}
	return ids
}

// What is published in an outage is received before it, or lost and in the history alone; afterwards, deliveries go on.
func TestBreakIngress_LosesSubscriptionAndDeliveries(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tls")
	pair, _, err := serverPair(dir, time.Now())
	require.NoError(t, err)
	roots, err := pair.Pool()
	require.NoError(t, err)
	emulator := graphtest.New(graphtest.Settings{
		TenantID: demoTenant, ClientID: demoClient, ClientSecret: demoSecret, RootCAs: roots, RetryDelay: time.Millisecond,
	})
	t.Cleanup(emulator.Close)
	graph, err := emulator.Start("")
	require.NoError(t, err)
	c := newCollector(t, dir)
	c.subscribe(graph)

	turns := graphtest.NewTurns(1, graphtest.TurnSettings{TenantID: demoTenant})
	var published []string
	publish := func() {
		turn := turns.Next(time.Now())
		_, err := emulator.Publish(t.Context(), turn...)
		require.NoError(t, err)
		for _, i := range turn {
			published = append(published, strconv.FormatInt(i.Created.UnixMilli(), 10))
		}
	}
	over := make(chan struct{})
	go func() {
		breakIngress(t.Context(), emulator, options{incident: 50 * time.Millisecond, incidentDuration: 200 * time.Millisecond}, discardLog())
		close(over)
	}()
	for during := true; during; {
		publish()
		select {
		case <-over:
			during = false
		case <-time.After(5 * time.Millisecond):
		}
	}
	publish() // if the publisher got no time in the outage
	require.NoError(t, emulator.WaitIdle(t.Context()))
	assert.Empty(t, emulator.Subscriptions())
	lost := emulator.Lost()
	assert.NotEmpty(t, lost)

	c.subscribe(graph)
	publish()
	require.NoError(t, emulator.WaitIdle(t.Context()))
	assert.Equal(t, lost, emulator.Lost(), "deliveries go on")
	assert.ElementsMatch(t, published, append(c.receivedIDs(), lost...), "what was lost comes in no notification")
}

func discardLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestSimulate_PlaysIncident(t *testing.T) {
	t.Parallel()
	ctx, end := context.WithCancel(t.Context())
	defer end()
	p := runInBackground(ctx, t, "simulate", "-listen", "127.0.0.1:0", "-incident", "1ms", "-incident-duration", "2ms")
	p.expect(`msg="the ingress is broken: .* duration=2ms$`)
	p.expect(`msg="the ingress works again"$`)
	end()
	assert.Equal(t, exitOK, <-p.done)
}

// The times are exact in a bubble: the ingress breaks after -incident, the subscription goes 2 s later, and all is well after
// -incident-duration.
func TestBreakIngress_FollowsItsTimes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		emulator := graphtest.New(graphtest.Settings{TenantID: demoTenant, ClientID: demoClient})
		defer emulator.Close()
		_, err := emulator.AddSubscription(graphtest.Subscription{
			Resource: "copilot/interactionHistory/getAllEnterpriseInteractions", ChangeType: "created", NotificationURL: "https://collector.example/x",
			Expiration: time.Now().Add(time.Hour),
		})
		require.NoError(t, err)
		go breakIngress(t.Context(), emulator, options{incident: time.Minute, incidentDuration: time.Minute}, discardLog())
		for _, step := range []struct {
			after         time.Duration
			broken        bool
			subscriptions int
		}{
			{59 * time.Second, false, 1},
			{2 * time.Second, true, 1},
			{2 * time.Second, true, 0},
			{56 * time.Second, true, 0},
			{2 * time.Second, false, 0},
		} {
			time.Sleep(step.after)
			synctest.Wait()
			assert.Equal(t, step.broken, emulator.IngressBroken(), "after %s more", step.after)
			assert.Len(t, emulator.Subscriptions(), step.subscriptions, "after %s more", step.after)
		}
	})
}

func TestBreakIngress_EndsWithSimulation(t *testing.T) {
	t.Parallel()
	emulator := graphtest.New(graphtest.Settings{TenantID: demoTenant, ClientID: demoClient})
	defer emulator.Close()
	ctx, end := context.WithCancel(t.Context())
	end()
	breakIngress(ctx, emulator, options{incident: time.Hour, incidentDuration: time.Hour}, discardLog())
	assert.False(t, emulator.IngressBroken())
}
