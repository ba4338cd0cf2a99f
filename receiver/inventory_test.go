// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/directory"
	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadata"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

const day = 24 * time.Hour

// fakeUsers is a directory.
type fakeUsers struct {
	licensed []gap.User
	unknown  bool
}

func (u *fakeUsers) Licensed() ([]gap.User, bool) { return u.licensed, !u.unknown }

func (*fakeUsers) Person(gap.User) *interaction.Person { return nil }

func licensedUser(n int) string { return fmt.Sprintf("%08x-5d31-4f0c-8e62-7a1b3c5d9f00", n) }

func licensedUserList(count int) *fakeUsers {
	users := &fakeUsers{}
	for n := range count {
		u, _ := gap.ParseUser(licensedUser(n))
		users.licensed = append(users.licensed, u)
	}
	return users
}

// inventoryHarness is an inventory whose entries are kept by the test.
type inventoryHarness struct {
	*inventory
	users *fakeUsers
	store *testStore
	// received are the users whose prompts are received.
	received []gap.User

	// batches are the users of each batch that was taken, counts is how often there was each uid.
	batches [][]string
	counts  map[string]int
	// outcome is the result of each call of the logs pipeline.
	outcome func(context.Context) error
}

func newInventoryHarness(t *testing.T, users *fakeUsers, interval time.Duration, logger *zap.Logger) *inventoryHarness {
	t.Helper()
	h := &inventoryHarness{users: users, store: newStore(t), counts: map[string]int{}, outcome: func(context.Context) error { return nil }}
	h.restart(t, interval, logger)
	return h
}

// restart replaces the inventory by one that has loaded what is stored.
func (h *inventoryHarness) restart(t *testing.T, interval time.Duration, logger *zap.Logger) {
	t.Helper()
	set := receivertest.NewNopSettings(metadata.Type)
	set.Logger = logger
	r, err := New(set, Settings{TenantID: tenant, Inventory: interval, ReceivedUsers: h.received}, func() {})
	require.NoError(t, err)
	sendLogs(t, r, h.consume)
	store := statestore.New(h.store)
	r.pipeline.activity = directory.NewActivity(store, logger)
	h.inventory = newInventory(r.settings, r.pipeline, h.users, store, logger)
	require.NoError(t, h.load(t.Context()))
}

func (h *inventoryHarness) consume(ctx context.Context, logs plog.Logs) error {
	if err := h.outcome(ctx); err != nil {
		return err
	}
	var batch []string
	for _, event := range logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().All() {
		uid, _ := event.Attributes().Get("log.record.uid")
		user, _ := event.Attributes().Get("user.id")
		h.counts[uid.Str()]++
		batch = append(batch, user.Str())
	}
	h.batches = append(h.batches, batch)
	return nil
}

// runFor runs it for a time and then ends it, with what a shutdown stores unless it crashes.
func (h *inventoryHarness) runFor(t *testing.T, length time.Duration, crash bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	h.Run(ctx)
	if !crash {
		h.save(t.Context())
	}
}

// ofUser returns how many entries there are for each user, and in all.
func (h *inventoryHarness) ofUser() (counts map[string]int, total int) {
	counts = map[string]int{}
	for _, batch := range h.batches {
		for _, user := range batch {
			counts[user]++
			total++
		}
	}
	return counts, total
}

func (h *inventoryHarness) assertEachUser(t *testing.T, times int) {
	t.Helper()
	counts, _ := h.ofUser()
	assert.Len(t, counts, len(h.users.licensed))
	for user, count := range counts {
		assert.Equal(t, times, count, user)
	}
	for uid, count := range h.counts {
		assert.Equal(t, 1, count, uid)
	}
}

func TestInventory_EmitsEachUserOnceADay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(9*time.Hour + 30*time.Minute)
		h := newInventoryHarness(t, licensedUserList(300), day, zap.NewNop())
		h.runFor(t, 3*day+1, false)
		h.assertEachUser(t, 3)
		for _, batch := range h.batches {
			assert.Less(t, len(batch), 10, "they are spread over the day")
		}
	})
}

func TestInventory_RestartsNeitherRepeatNorSkip(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 5))
				interval := []time.Duration{10 * time.Second, time.Hour, day}[random.IntN(3)]
				upTo := func(longest time.Duration) time.Duration { return time.Duration(random.Int64N(int64(longest))) }
				time.Sleep(upTo(interval))
				h := newInventoryHarness(t, licensedUserList(100), interval, zap.NewNop())
				const intervals = 10
				end := time.Now().Add(intervals * interval)
				h.runFor(t, upTo(interval), true)
				for time.Until(end) > 2*interval {
					time.Sleep(upTo(interval * 7 / 10))
					h.restart(t, interval, zap.NewNop())
					h.runFor(t, interval/5+upTo(interval), random.IntN(2) == 0)
				}
				for ; time.Until(end) > 0; time.Sleep(min(time.Until(end), interval/2)) {
					h.emit(t.Context())
				}
				h.emit(t.Context())
				h.assertEachUser(t, intervals)
			})
		})
	}
}

// A crash between the delivery of a batch and the storage of the position repeats the batch, with the same uids.
func TestInventory_CrashRepeatsABatchWithTheSameUIDs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newInventoryHarness(t, licensedUserList(50), day, zap.NewNop())
		h.store.fail = failsToWrite
		h.runFor(t, day+1, true)
		h.assertEachUser(t, 1)
		h.store.fail = func(*storage.Operation) error { return nil }
		h.restart(t, day, zap.NewNop())
		h.emit(t.Context())
		assert.Len(t, h.counts, 50)
	})
}

func TestInventory_AfterLongDowntimeEachUserComesOnceInBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newInventoryHarness(t, licensedUserList(2500), day, zap.NewNop())
		h.save(t.Context())
		time.Sleep(10 * day)
		h.restart(t, day, zap.NewNop())
		h.emit(t.Context())
		h.assertEachUser(t, 1)
		require.Len(t, h.batches, 3)
		assert.Equal(t, []int{1000, 1000, 500}, []int{len(h.batches[0]), len(h.batches[1]), len(h.batches[2])})
	})
}

func TestInventory_WithoutListNothingIsEmittedUntilThereIsOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newInventoryHarness(t, licensedUserList(50), day, zap.NewNop())
		h.users.unknown = true
		h.runFor(t, day/2, false)
		assert.Empty(t, h.batches)
		h.users.unknown = false
		h.restart(t, day, zap.NewNop())
		h.runFor(t, day/2+1, false)
		h.assertEachUser(t, 1)
	})
}

func TestInventory_TriesAgainEachMinuteUntilTaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		logger, lines := observed()
		h := newInventoryHarness(t, licensedUserList(1), day, logger)
		var tries []time.Time
		h.outcome = func(context.Context) error {
			if tries = append(tries, time.Now()); len(tries) <= 10 {
				return errFull
			}
			return nil
		}
		h.runFor(t, 2*day, false)
		require.GreaterOrEqual(t, len(tries), 11)
		for i := range tries[1:11] {
			assert.Equal(t, time.Minute, tries[i+1].Sub(tries[i]))
		}
		for uid, count := range h.counts {
			assert.Equal(t, 1, count, uid)
		}
		refused := lines.FilterMessage("the logs pipeline did not take licensed users").All()
		require.NotEmpty(t, refused)
		assert.Equal(t, string(failure.LogsPipelineRefusing), refused[0].ContextMap()["code"])
	})
}

func TestInventory_RefusedForGoodIsNotSentAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		logger, lines := observed()
		h := newInventoryHarness(t, licensedUserList(50), day, logger)
		h.outcome = func(context.Context) error { return errRefused }
		h.runFor(t, day+1, false)
		assert.NotZero(t, lines.FilterMessage("the logs pipeline did not take licensed users").Len())
		h.outcome = func(context.Context) error { return nil }
		h.restart(t, day, logger)
		h.emit(t.Context())
		assert.Empty(t, h.batches)
		h.runFor(t, day+1, false)
		h.assertEachUser(t, 1)
	})
}

// A pipeline that blocks delays the users, and no batch is sent while another is.
func TestInventory_BlockedPipelineDelays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newInventoryHarness(t, licensedUserList(200), day, zap.NewNop())
		var once sync.Once
		sending, most := 0, 0
		h.outcome = func(context.Context) error {
			sending++
			most = max(most, sending)
			once.Do(func() { time.Sleep(3 * day) })
			sending--
			return nil
		}
		h.runFor(t, 3*day+time.Hour, false)
		assert.Equal(t, 1, most)
		counts, total := h.ofUser()
		assert.Len(t, counts, 200)
		assert.Less(t, total, 2*200, "what became due several times meanwhile comes once")
		for uid, count := range h.counts {
			assert.Equal(t, 1, count, uid)
		}
	})
}

func TestInventory_EndsWhileThePipelineRefuses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newInventoryHarness(t, licensedUserList(1000), day, zap.NewNop())
		h.outcome = func(context.Context) error { return errFull }
		began := time.Now()
		h.runFor(t, time.Hour, false)
		assert.Equal(t, time.Hour, time.Since(began))
		h.outcome = func(context.Context) error { return nil }
		h.restart(t, day, zap.NewNop())
		h.runFor(t, day-time.Hour+1, false)
		h.assertEachUser(t, 1)
	})
}

// A pipeline that blocks is given up when the receiver shuts down, and the users come after the restart.
func TestInventory_EndsWhileThePipelineBlocks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		logger, lines := observed()
		h := newInventoryHarness(t, licensedUserList(1000), day, zap.NewNop())
		h.restart(t, day, logger)
		lines.TakeAll()
		h.outcome = func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}
		began := time.Now()
		h.runFor(t, time.Hour, false)
		assert.Equal(t, time.Hour, time.Since(began))
		assert.Zero(t, lines.Len(), "a shutdown is no failure of the pipeline")
		h.outcome = func(context.Context) error { return nil }
		h.restart(t, day, zap.NewNop())
		h.runFor(t, day-time.Hour+1, false)
		h.assertEachUser(t, 1)
	})
}

// The pipeline may be shut down by the time a call returns that ignored its context.
func TestInventory_EndsAfterTheBatchInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newInventoryHarness(t, licensedUserList(2500), day, zap.NewNop())
		time.Sleep(10 * day)
		ctx, cancel := context.WithCancel(t.Context())
		h.outcome = func(context.Context) error {
			cancel()
			return nil
		}
		h.emit(ctx)
		batches := len(h.batches) // not the batches themselves, of 1,000 ids each
		assert.Equal(t, 1, batches)
		h.emit(t.Context())
		h.assertEachUser(t, 1)
	})
}

func TestInventory_ClockThatWasAheadDelaysNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newInventoryHarness(t, licensedUserList(100), day, zap.NewNop())
		h.done = time.Now().Add(30 * day)
		h.position.Changed()
		h.save(t.Context())
		h.restart(t, day, zap.NewNop())
		h.runFor(t, day+time.Minute, false)
		counts, _ := h.ofUser()
		assert.Len(t, counts, 100)
	})
}

// Of users whose prompts are not received it would say that they never prompt.
func TestInventory_HasOnlyUsersWhosePromptsAreReceived(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newInventoryHarness(t, licensedUserList(100), day, zap.NewNop())
		h.received = slices.Concat(licensedUserList(3).licensed, []gap.User{{0xff}}) // who has no license
		h.restart(t, day, zap.NewNop())
		h.runFor(t, day+1, false)
		h.users = licensedUserList(3)
		h.assertEachUser(t, 1)
	})
}

func TestInventory_WithoutStorageSaysSo(t *testing.T) {
	t.Parallel()
	const line = "the inventory knows only prompts since this start"
	logger, lines := observed()
	wanted := func(s *setup) { s.settings.Inventory = day }
	newTestReceiver(t, logged(logger), wanted)
	require.Equal(t, 1, lines.FilterMessage(line).Len())
	assert.Equal(t, string(failure.ActivityInMemory), lines.FilterMessage(line).All()[0].ContextMap()["code"])
	newTestReceiver(t, logged(logger))
	newTestReceiver(t, logged(logger), wanted, stored(newStore(t)))
	assert.Equal(t, 1, lines.FilterMessage(line).Len(), "neither without inventory nor with storage")
}

func TestInventory_LoadFailsWhenStorageFails(t *testing.T) {
	t.Parallel()
	h := newInventoryHarness(t, licensedUserList(1), day, zap.NewNop())
	h.store.fail = failsAlways
	require.ErrorIs(t, h.load(t.Context()), errStorage)
}

// promptOf returns a prompt of a user in Word.
func promptOf(user string, at time.Time) interaction.Received {
	prompt := interactionAt(at)
	prompt.Type, prompt.AppClass, prompt.CreatedDateTime = interaction.TypeUserPrompt, "IPM.SkypeTeams.Message.Copilot.Word", at
	prompt.From.User = &interaction.Identity{ID: user}
	return prompt
}

// An entry says when its user was active, and counts as no interaction.
func TestInventory_EntrySaysWhenUserWasActive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, c := newTestReceiver(t, stored(newStore(t)), func(s *setup) { s.settings.Inventory = day })
		logs := &consumertest.LogsSink{}
		r.SendLogs(logs)
		users := licensedUserList(2)
		c.inventory.directory = users
		prompt := promptOf(licensedUser(1), time.Now())
		require.NoError(t, r.pipeline.Take(t.Context(), list(prompt)))
		counted := dataPoints(r)
		logs.Reset()
		time.Sleep(day)
		c.inventory.emit(t.Context())
		assert.Equal(t, counted, dataPoints(r))
		require.Equal(t, 2, logs.LogRecordCount())
		for _, batch := range logs.AllLogs() {
			for _, event := range batch.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().All() {
				assert.Equal(t, "microsoft.copilot.user", event.EventName())
				assert.Equal(t, time.Now().UnixNano(), event.Timestamp().AsTime().UnixNano())
				attributes := event.Attributes().AsRaw()
				delete(attributes, "log.record.uid")
				want := map[string]any{
					"user.id": licensedUser(0), "microsoft.copilot.user.licensed": true, "microsoft.copilot.user.days_active": int64(0),
				}
				if attributes["user.id"] == licensedUser(1) {
					want["user.id"], want["microsoft.copilot.user.days_active"] = licensedUser(1), int64(1)
					want["microsoft.copilot.user.last_active"] = prompt.CreatedDateTime.UTC().Format(time.RFC3339Nano)
				}
				assert.Equal(t, want, attributes)
			}
		}
	})
}

func TestGauges_CountUsersAcrossARestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		r, c := newTestReceiver(t, stored(store))
		r.SendLogs(&consumertest.LogsSink{})
		assert.Equal(t, map[string]float64{"user.active": 0}, userGauges(r), "there is a value from the start")
		for n := range 3 {
			time.Sleep(time.Second)
			require.NoError(t, r.pipeline.Take(t.Context(), list(promptOf(licensedUser(n%2), time.Now()))))
		}
		want := map[string]float64{"user.active": 2, "app.user.active Word": 2}
		assert.Equal(t, want, userGauges(r))
		require.NoError(t, c.save(t.Context()))
		r, _ = newTestReceiver(t, stored(store))
		assert.Equal(t, want, userGauges(r))
		time.Sleep(day + time.Second)
		assert.Equal(t, map[string]float64{"user.active": 0}, userGauges(r))
	})
}

func TestGauges_CountWhatWasDelivered(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		created time.Duration // before now
		outcome error
		reason  gap.Reason
		want    float64
	}{
		"a prompt that a gap was read for": {created: time.Hour, reason: gap.Startup, want: 1},
		"a prompt that is replayed":        {created: time.Hour, reason: gap.Replay, want: 1},
		"not an import of earlier prompts": {created: 10 * day, reason: gap.Lookback},
		"not what is refused for now":      {created: time.Hour, outcome: errFull, reason: gap.Startup},
		"not what is refused for good":     {created: time.Hour, outcome: errRefused, reason: gap.Startup},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, c := newTestReceiver(t)
			sendLogs(t, r, func(context.Context, plog.Logs) error { return test.outcome })
			prompt := promptOf(licensedUser(1), time.Now().Add(-test.created))
			_, err := r.pipeline.Backfill(t.Context(), list(inHistory(prompt)), test.reason)
			require.ErrorIs(t, err, test.outcome)
			assert.InDelta(t, test.want, userGauges(r)["user.active"], 0)
			last, _ := c.activity.Of(r.pipeline.privacy.Subject(tenant, licensedUser(1)), time.Now())
			assert.Equal(t, test.outcome == nil, last.Equal(prompt.CreatedDateTime.Truncate(time.Millisecond)))
		})
	}
}

// userGauges returns the gauges of users by their names, and the app.
func userGauges(r *Receiver) map[string]float64 {
	values := map[string]float64{}
	for _, metric := range r.pipeline.metrics.Collect(time.Now(), r.gauges()...).ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().All() {
		name, ofUsers := strings.CutPrefix(metric.Name(), "microsoft.copilot.")
		if !ofUsers || metric.Unit() != "{user}" {
			continue
		}
		for _, point := range metric.Gauge().DataPoints().All() {
			app, _ := point.Attributes().Get("microsoft.copilot.app.name")
			values[strings.TrimSpace(name+" "+app.Str())] = point.DoubleValue()
		}
	}
	return values
}
