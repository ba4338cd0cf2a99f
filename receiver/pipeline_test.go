// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/directory"
	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/panics"
	"github.com/otelcopilot/m365copilotreceiver/internal/record"
)

var (
	errFull    = errors.New("the queue is full")
	errRefused = consumererror.NewPermanent(errors.New("the record is malformed"))
)

// delivery is a call of the logs pipeline that waits for its result.
type delivery struct {
	ids  []string
	done chan<- error
}

// deliveries makes each call of the logs pipeline wait for its result.
func deliveries(t *testing.T, r *Receiver) <-chan delivery {
	t.Helper()
	calls := make(chan delivery)
	sendLogs(t, r, func(_ context.Context, logs plog.Logs) error {
		done := make(chan error)
		calls <- delivery{ids: idsOf(logs), done: done}
		return <-done
	})
	return calls
}

func sendLogs(t *testing.T, r *Receiver, consume consumer.ConsumeLogsFunc) {
	t.Helper()
	next, err := consumer.NewLogs(consume)
	require.NoError(t, err)
	r.SendLogs(next)
}

// idsOf returns the interaction and the change of each record.
func idsOf(logs plog.Logs) []string {
	var ids []string
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				id, _ := record.Attributes().Get("microsoft.copilot.interaction.id")
				change, _ := record.Attributes().Get("microsoft.copilot.change.type")
				ids = append(ids, id.AsString()+" "+change.AsString())
			}
		}
	}
	return ids
}

func deliveredIDs(sink *consumertest.LogsSink) []string {
	var ids []string
	for _, logs := range sink.AllLogs() {
		ids = append(ids, idsOf(logs)...)
	}
	return ids
}

// take runs Take in the background. Its end can be observed in a bubble of synctest.
func take(ctx context.Context, r *Receiver, received ...interaction.Received) <-chan error {
	result := make(chan error, 1)
	go func() { result <- r.pipeline.Take(ctx, received) }()
	return result
}

// The history of a user without license is not read until a prompt of theirs arrives. A user who was determined in another
// way, such as by reading that history, must not end this.
func TestPipeline_ReportsUsersOfPromptsOnly(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		source interaction.UserSource
		seen   int
	}{
		"a prompt names its user":                         {interaction.UserFromPrompt, 1},
		"the prompt of the same request named the user":   {interaction.UserFromRequest, 0},
		"prompts of the same conversation named the user": {interaction.UserFromConversation, 0},
		"it was read from the user's history":             {interaction.UserFromHistory, 0},
		"the user is unknown":                             {"", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, _ := newTestReceiver(t)
			logs := &consumertest.LogsSink{}
			r.SendLogs(logs)
			_, err := r.pipeline.deliver(t.Context(), list(interaction.Received{UserID: userID, UserSource: c.source}))
			require.NoError(t, err)
			assert.Len(t, r.pipeline.directory.Changed(), c.seen)
			assert.Equal(t, 1, logs.LogRecordCount())
		})
	}
}

// promptOf returns a prompt of a user, the first of a session.
func promptIn(user, session string) interaction.Received {
	return interaction.Received{
		Interaction: interaction.Interaction{
			ID: "1700000000000", SessionID: session, RequestID: "r1", Type: interaction.TypeUserPrompt,
			From: interaction.IdentitySet{User: &interaction.Identity{ID: user}},
		},
		TenantID: tenant, Change: interaction.Created,
	}
}

// What is replayed from a history is attributed as everything else is, also if it is refused at first.
func TestPipeline_AttributesReplayedAnswers(t *testing.T) {
	t.Parallel()
	const other = "0d9c8b7a-6f5e-4d3c-8b2a-190807060504"
	r, _ := newTestReceiver(t)
	users, refused := map[string]string{}, false
	sendLogs(t, r, func(_ context.Context, logs plog.Logs) error {
		if !refused {
			refused = true
			return errFull
		}
		for _, record := range logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().All() {
			request, _ := record.Attributes().Get("microsoft.copilot.request.id")
			if user, found := record.Attributes().Get("user.id"); found {
				users[request.AsString()] = user.AsString()
			}
		}
		return nil
	})
	asks := promptIn(other, "s")
	answers, unknown := asks, asks
	answers.ID, answers.Type, answers.From = "1700000000001", interaction.TypeAIResponse, interaction.IdentitySet{}
	unknown.ID, unknown.Type, unknown.From, unknown.RequestID = "1700000000002", interaction.TypeAIResponse, interaction.IdentitySet{}, "r2"
	page := list(unknown, answers, asks)
	for i := range page {
		page[i].Source, page[i].UserID, page[i].UserSource = interaction.FromHistory, userID, interaction.UserFromHistory
	}
	_, err := r.pipeline.Backfill(t.Context(), page, gap.Replay)
	require.ErrorIs(t, err, errFull)
	_, err = r.pipeline.Backfill(t.Context(), page, gap.Replay)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"r1": other}, users, "the user of the history and the other share the conversation")
}

func TestPipeline_LetsSelectedPropertiesLeave(t *testing.T) {
	t.Parallel()
	received := list(interaction.Received{Person: &interaction.Person{Department: "Sales", Country: "Germany", Licensed: true}})
	for name, test := range map[string]struct {
		directory directory.Settings
		want      record.Person
	}{
		"none by default":        {},
		"the license":            {directory.Settings{Lookup: true}, record.Person{Licensed: new(true)}},
		"the license and others": {directory.Settings{Lookup: true, Properties: []string{"country"}}, record.Person{Country: "Germany", Licensed: new(true)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, _ := newTestReceiver(t, func(s *setup) { s.settings.Directory = test.directory })
			assert.Equal(t, test.want, r.pipeline.privacy.Apply(received)[0].Person)
		})
	}
}

// One request has an interaction that is in flight in another one, and a new one.
func TestPipeline_WorstOutcomeDecides(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		// other and own are the outcomes of the one in flight and of the new one, again that of the one in flight at a second try.
		other, own, again error
		want              []error
		permanent         bool
	}{
		"both are delivered":                                           {},
		"its own is refused for now":                                   {own: errFull, want: []error{errFull}},
		"its own is refused for good":                                  {own: errRefused, want: []error{errRefused}, permanent: true},
		"the other is refused for now, then delivered":                 {other: errFull},
		"the other is refused for now twice":                           {other: errFull, again: errFull, want: []error{errFull}},
		"the other is refused for now, then for good":                  {other: errFull, again: errRefused, want: []error{errRefused}, permanent: true},
		"the other is refused for good":                                {other: errRefused},
		"its own is refused for good, and the other for now":           {other: errFull, own: errRefused, want: []error{errRefused}, permanent: true},
		"its own is refused for good, and the other for now twice":     {other: errFull, own: errRefused, again: errFull, want: []error{errRefused, errFull}},
		"both are refused for good, the other after a failure for now": {other: errFull, own: errRefused, again: errRefused, want: []error{errRefused}, permanent: true},
		"both are refused for now":                                     {other: errFull, own: errFull, want: []error{errFull}},
		"a part of its own is refused for now, and a part for good":    {own: errors.Join(errRefused, errFull), want: []error{errFull, errRefused}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, _ := newTestReceiver(t)
				calls := deliveries(t, r)
				shared, own := interactionAt(time.Now()), interactionAt(time.Now().Add(time.Second))
				other := take(t.Context(), r, shared)
				inFlight := <-calls
				result := take(t.Context(), r, shared, own)
				second := <-calls
				assert.Equal(t, []string{own.ID + " created"}, second.ids, "what is in flight is not sent twice")
				second.done <- test.own
				synctest.Wait()
				waits := test.own == nil || failure.Permanent(test.own)
				assert.Equal(t, waits, len(result) == 0, "it waits for what is in flight elsewhere, unless Graph retries anyway")
				inFlight.done <- test.other
				require.ErrorIs(t, <-other, test.other)
				if waits && errors.Is(test.other, errFull) {
					third := <-calls
					assert.Equal(t, []string{shared.ID + " created"}, third.ids, "what failed elsewhere is delivered here")
					third.done <- test.again
				}
				err := <-result
				for _, want := range test.want {
					require.ErrorIs(t, err, want)
				}
				assert.Equal(t, len(test.want) > 0, err != nil)
				assert.Equal(t, test.permanent, failure.Permanent(err))
			})
		})
	}
}

// Whatever brings it again would see it refused again. A replay asks for it explicitly.
func TestPipeline_KnowsWhatWasRefusedForGood(t *testing.T) {
	t.Parallel()
	r, c := newTestReceiver(t)
	one, fromHistory := interactionAt(time.Now()), inHistory(interactionAt(time.Now().Add(time.Second)))
	sendLogs(t, r, func(context.Context, plog.Logs) error { return errRefused })
	require.ErrorIs(t, r.pipeline.Take(t.Context(), list(one)), errRefused)
	_, err := r.pipeline.Backfill(t.Context(), list(fromHistory), gap.Startup)
	require.ErrorIs(t, err, errRefused)

	logs := &consumertest.LogsSink{}
	r.SendLogs(logs)
	assert.True(t, c.cache.Known(one.ContentDigest))
	delivered, err := r.pipeline.Backfill(t.Context(), list(inHistory(one), fromHistory), gap.Startup)
	require.NoError(t, err)
	assert.Zero(t, delivered)
	delivered, err = r.pipeline.Backfill(t.Context(), list(fromHistory), gap.Replay)
	require.NoError(t, err)
	assert.Equal(t, backfill.Delivered{New: 1}, delivered)
	assert.Equal(t, []string{fromHistory.ID + " created"}, deliveredIDs(logs))
}

func TestPipeline_WaitsUntilTheDeadlineOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, _ := newTestReceiver(t)
		calls := deliveries(t, r)
		one := interactionAt(time.Now())
		first := take(t.Context(), r, one)
		inFlight := <-calls
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := r.pipeline.Take(ctx, list(one))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.False(t, failure.Permanent(err))
		inFlight.done <- nil
		require.NoError(t, <-first)
		require.NoError(t, r.pipeline.Take(t.Context(), list(one)), "it is a duplicate now")
	})
}

func TestPipeline_DecidesOtherVersionAnew(t *testing.T) {
	t.Parallel()
	created := interactionAt(time.Now())
	updated := updateOf(created)
	t.Run("in flight in another call", func(t *testing.T) {
		t.Parallel()
		for name, outcome := range map[string]error{"it is delivered": nil, "it is refused": errFull} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					r, _ := newTestReceiver(t)
					calls := deliveries(t, r)
					first := take(t.Context(), r, created)
					inFlight := <-calls
					second := take(t.Context(), r, updated)
					synctest.Wait()
					assert.Empty(t, calls, "one at a time")
					inFlight.done <- outcome
					require.ErrorIs(t, <-first, outcome)
					next := <-calls
					assert.Equal(t, []string{updated.ID + " updated"}, next.ids)
					next.done <- nil
					require.NoError(t, <-second, "what became of the other version does not matter")
				})
			})
		}
	})
	t.Run("in the same call", func(t *testing.T) {
		t.Parallel()
		r, _ := newTestReceiver(t)
		logs := &consumertest.LogsSink{}
		r.SendLogs(logs)
		require.NoError(t, r.pipeline.Take(t.Context(), list(created, updated, created)))
		assert.Equal(t, []string{created.ID + " created", created.ID + " updated"}, deliveredIDs(logs))
	})
}

func TestPipeline_DeliversOnceFromBothSources(t *testing.T) {
	t.Parallel()
	r, _ := newTestReceiver(t)
	logs := &consumertest.LogsSink{}
	r.SendLogs(logs)
	known, new := interactionAt(time.Now()), interactionAt(time.Now().Add(time.Second))
	require.NoError(t, r.pipeline.Take(t.Context(), list(known)))
	delivered, err := r.pipeline.Backfill(t.Context(), list(inHistory(known), inHistory(new)), gap.Startup)
	require.NoError(t, err)
	assert.Equal(t, backfill.Delivered{New: 1, Recovered: 1}, delivered)
	require.NoError(t, r.pipeline.Take(t.Context(), list(new)))
	assert.Equal(t, []string{known.ID + " created", new.ID + " created"}, deliveredIDs(logs))
}

func TestPipeline_CountsRecovered(t *testing.T) {
	t.Parallel()
	one := interactionAt(time.Now())
	for name, test := range map[string]struct {
		earlier []interaction.Received
		read    interaction.Received
		outcome error
		want    backfill.Delivered
	}{
		"a creation that only the history has": {read: inHistory(one), want: backfill.Delivered{New: 1, Recovered: 1}},
		"not a creation that was delivered":    {earlier: list(one), read: inHistory(one)},
		"not a new version":                    {earlier: list(one), read: inHistory(updateOf(one)), want: backfill.Delivered{New: 1}},
		"not what is refused for now":          {read: inHistory(one), outcome: errFull},
		"not what is refused for good":         {read: inHistory(one), outcome: errRefused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, _ := newTestReceiver(t)
			r.SendLogs(&consumertest.LogsSink{})
			require.NoError(t, r.pipeline.Take(t.Context(), test.earlier))
			sendLogs(t, r, func(context.Context, plog.Logs) error { return test.outcome })
			delivered, err := r.pipeline.Backfill(t.Context(), list(test.read), gap.Startup)
			require.ErrorIs(t, err, test.outcome)
			assert.Equal(t, test.want, delivered)
		})
	}
}

func TestPipeline_ReplayPassesTheCache(t *testing.T) {
	t.Parallel()
	r, _ := newTestReceiver(t)
	logs := &consumertest.LogsSink{}
	r.SendLogs(logs)
	one, refused := interactionAt(time.Now()), interactionAt(time.Now().Add(time.Second))
	require.NoError(t, r.pipeline.Take(t.Context(), list(one)))
	counted := dataPoints(r)
	for range 2 {
		delivered, err := r.pipeline.Backfill(t.Context(), list(inHistory(one)), gap.Replay)
		require.NoError(t, err)
		assert.Equal(t, backfill.Delivered{New: 1}, delivered, "nothing is recovered")
	}
	assert.Equal(t, []string{one.ID + " created", one.ID + " created", one.ID + " created"}, deliveredIDs(logs))
	assert.Equal(t, counted, dataPoints(r), "replays count in no metric")

	sendLogs(t, r, func(context.Context, plog.Logs) error { return errFull })
	_, err := r.pipeline.Backfill(t.Context(), list(inHistory(refused)), gap.Replay)
	require.ErrorIs(t, err, errFull)
	assert.False(t, r.pipeline.cache.Known(refused.ContentDigest))
}

// dataPoints returns the sums of all metrics of interactions.
func dataPoints(r *Receiver) map[string]int64 {
	sums := map[string]int64{}
	for _, resource := range r.pipeline.metrics.Collect(time.Now()).ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				if metric.Type().String() != "Sum" {
					continue
				}
				for _, point := range metric.Sum().DataPoints().All() {
					sums[metric.Name()] += point.IntValue()
				}
			}
		}
	}
	return sums
}

func TestPipeline_ImportKeepsRecentDeliveriesKnown(t *testing.T) {
	t.Parallel()
	const entries = 50
	r, c := newTestReceiver(t, func(s *setup) { s.settings.Cache.MaxEntries = entries })
	r.SendLogs(&consumertest.LogsSink{})
	var recent, old []interaction.Received
	for i := range entries {
		recent = append(recent, interactionAt(time.Now().Add(-time.Duration(i)*time.Second)))
		old = append(old, inHistory(interactionAt(time.Now().Add(-30*24*time.Hour-time.Duration(i)*time.Second))))
	}
	require.NoError(t, r.pipeline.Take(t.Context(), recent))
	delivered, err := r.pipeline.Backfill(t.Context(), old, gap.Lookback)
	require.NoError(t, err)
	assert.Equal(t, entries, delivered.New)
	for i := range recent {
		assert.True(t, c.cache.Known(recent[i].ContentDigest))
	}
}

func TestPipeline_PanicReleasesReservation(t *testing.T) {
	t.Parallel()
	logger, lines := observed()
	r, _ := newTestReceiver(t, logged(logger))
	before := lines.Len()
	logs := &consumertest.LogsSink{}
	one := interactionAt(time.Now())
	one.Body.Content = "my salary"
	sendLogs(t, r, func(context.Context, plog.Logs) error { panic(one.Body.Content) })
	err := r.pipeline.Take(t.Context(), list(one))
	var panicked *panics.Error
	require.ErrorAs(t, err, &panicked)
	assert.False(t, failure.Permanent(err))
	require.Equal(t, before+1, lines.Len())
	assert.NotContains(t, lines.All()[before].ContextMap()["error"], one.Body.Content)

	r.SendLogs(logs)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	require.NoError(t, r.pipeline.Take(ctx, list(one)))
	assert.Equal(t, []string{one.ID + " created"}, deliveredIDs(logs))
}

// What Graph is asked to send again is read from the history should it not be delivered until Graph stops retrying.
func TestPipeline_TracksRefusedUntilDelivered(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		outcomes []error
		missing  []gap.Reason
	}{
		"it is delivered at once":      {[]error{nil}, nil},
		"it is refused for good":       {[]error{errRefused}, nil},
		"it is refused every time":     {[]error{errFull, errFull}, []gap.Reason{gap.Undelivered}},
		"it is delivered later":        {[]error{errFull, errFull, nil}, nil},
		"it is refused for good later": {[]error{errFull, errRefused}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, c := newTestReceiver(t)
				one := interactionAt(time.Now())
				for _, outcome := range test.outcomes {
					sendLogs(t, r, func(context.Context, plog.Logs) error { return outcome })
					require.ErrorIs(t, r.pipeline.Take(t.Context(), list(one)), outcome)
					time.Sleep(time.Minute)
				}
				time.Sleep(retriesEnd)
				c.undelivered.Save(t.Context())
				assert.Equal(t, test.missing, missingReasons(c))
			})
		})
	}
}

// A blocked pipeline may return long after Graph was asked to send it again.
func TestPipeline_TracksBeforeDelivery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, c := newTestReceiver(t)
		calls := deliveries(t, r)
		now := time.Now()
		result := take(t.Context(), r, interactionAt(now))
		blocked := <-calls
		time.Sleep(retriesEnd)
		c.undelivered.Save(t.Context())
		require.Equal(t, []gap.Reason{gap.Undelivered}, missingReasons(c), "Graph has stopped retrying")
		assert.True(t, missing(c)[0].From.Equal(now.Truncate(time.Minute)))
		blocked.done <- nil
		require.NoError(t, <-result)
	})
}

// Outsiders and outages determine how often a line occurs.
func TestPipeline_WarnsOncePerMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		logger, lines := observed()
		p := &pipeline{logger: logger}
		p.warn("a", "first", errFull)
		p.warn("b", "second", errFull)
		time.Sleep(59 * time.Second)
		p.warn("a", "too soon", errFull)
		assert.Equal(t, 2, lines.Len())
		time.Sleep(time.Second)
		p.warn("a", "third", errFull)
		assert.Equal(t, 3, lines.Len())
		assert.Zero(t, lines.FilterMessage("too soon").Len())
	})
}
