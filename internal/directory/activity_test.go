// SPDX-License-Identifier: Apache-2.0

package directory_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/directory"
	"github.com/otelcopilot/m365copilotreceiver/internal/record"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

// activityHarness is an Activity with its storage.
type activityHarness struct {
	*directory.Activity
	client *fakeClient
	logs   *observer.ObservedLogs
}

func newActivityHarness(t *testing.T) *activityHarness {
	t.Helper()
	h := &activityHarness{client: &fakeClient{values: map[string][]byte{}}}
	h.restart(t)
	return h
}

// restart replaces the Activity by one that has loaded what is stored.
func (h *activityHarness) restart(t *testing.T) {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	h.logs = logs
	h.Activity = directory.NewActivity(statestore.New(h.client), zap.New(core))
	require.NoError(t, h.Load(t.Context()))
}

// runFor runs it for a time, and then ends it as a crash does.
func (h *activityHarness) runFor(t *testing.T, length time.Duration) {
	t.Helper()
	ctx, crash := context.WithTimeout(t.Context(), length)
	defer crash()
	h.Run(ctx)
}

// assertActive checks the number of active users, in all and in each app.
func (h *activityHarness) assertActive(t *testing.T, users int, apps map[string]int) {
	t.Helper()
	gotUsers, gotApps := h.Active(time.Now())
	assert.Equal(t, users, gotUsers)
	assert.Equal(t, apps, gotApps)
}

func subject(n int) record.Subject {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
	return record.Subject(sum[:16])
}

func prompt(user int, app string, at time.Time) record.Record {
	return record.Record{Type: "userPrompt", Change: "created", Subject: subject(user), AppName: app, CreatedAt: at}
}

// activityModel is all prompts so far, with the times that count.
type activityModel []record.Record

func (m activityModel) active(now time.Time) (users int, apps map[string]int) {
	all, inApp := map[record.Subject]bool{}, map[string]map[record.Subject]bool{}
	for _, r := range m {
		if !r.CreatedAt.After(now.Add(-24 * time.Hour)) {
			continue
		}
		all[r.Subject] = true
		if inApp[r.AppName] == nil {
			inApp[r.AppName] = map[record.Subject]bool{}
		}
		inApp[r.AppName][r.Subject] = true
	}
	apps = map[string]int{}
	for app, users := range inApp {
		if app != "" {
			apps[app] = len(users)
		}
	}
	return len(all), apps
}

func (m activityModel) of(subject record.Subject, now time.Time) (last time.Time, days int) {
	const layout = time.DateOnly
	counted, seen := map[string]bool{}, map[string]bool{}
	for n := range 28 {
		counted[now.UTC().AddDate(0, 0, -n).Format(layout)] = true
	}
	for _, r := range m {
		if r.Subject != subject {
			continue
		}
		if r.CreatedAt.After(last) {
			last = r.CreatedAt
		}
		if day := r.CreatedAt.UTC().Format(layout); counted[day] {
			seen[day] = true
		}
	}
	return last, len(seen)
}

// randomPrompts returns prompts of the last days, some of the last hours, some in the future, some once more.
func randomPrompts(random *rand.Rand, earlier activityModel) (records []record.Record) {
	apps := []string{"Word", "Excel", "Teams", "BizChat", ""}
	for range random.IntN(20) {
		ago := time.Duration(random.Int64N(int64(40 * 24 * time.Hour)))
		switch random.IntN(4) {
		case 0:
			ago = -ago / 1000
		case 1:
		default:
			ago /= 40
		}
		records = append(records, prompt(random.IntN(40), apps[random.IntN(len(apps))], time.Now().Add(-ago)))
		if len(earlier) > 0 {
			records = append(records, earlier[random.IntN(len(earlier))])
		}
	}
	return records
}

// Prompts come in any order, again, late and early; the receiver is restarted, and time passes.
func TestActivity_CountsLikeAllPromptsTogether(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 13))
				h, model := newActivityHarness(t), activityModel{}
				for range 150 {
					added := randomPrompts(random, model)
					h.Add(added)
					for _, r := range added {
						if r.CreatedAt.After(time.Now()) {
							r.CreatedAt = time.Now()
						}
						r.CreatedAt = r.CreatedAt.UTC().Truncate(time.Millisecond)
						model = append(model, r)
					}
					if random.IntN(5) == 0 {
						require.NoError(t, h.Save(t.Context()))
						h.restart(t)
					}
					time.Sleep(time.Duration(random.Int64N(int64(12 * time.Hour))))
					users, apps := model.active(time.Now())
					h.assertActive(t, users, apps)
					one := subject(random.IntN(41))
					wantLast, wantDays := model.of(one, time.Now())
					last, days := h.Of(one, time.Now())
					require.True(t, wantLast.Equal(last), "want %s, got %s", wantLast, last)
					require.Equal(t, wantDays, days)
				}
			})
		})
	}
}

func TestActivity_CountsOnlyPromptsOfKnownUsers(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*record.Record){
		"not a response":                 func(r *record.Record) { r.Type = "aiResponse" },
		"not an update":                  func(r *record.Record) { r.Change = "updated" },
		"not a deletion":                 func(r *record.Record) { r.Change = "deleted" },
		"not a prompt of a user unknown": func(r *record.Record) { r.Subject = record.Subject{} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, r := newActivityHarness(t), prompt(1, "Word", time.Now())
			change(&r)
			h.Add([]record.Record{r})
			h.assertActive(t, 0, map[string]int{})
			last, days := h.Of(r.Subject, time.Now())
			assert.Zero(t, last)
			assert.Zero(t, days)
			require.NoError(t, h.Save(t.Context()))
			assert.Empty(t, h.client.values)
		})
	}
}

func TestActivity_KeepsLastPromptLongAfterIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newActivityHarness(t)
		at := time.Now().UTC().Truncate(time.Millisecond)
		h.Add([]record.Record{prompt(1, "Word", at)})
		for range 10 {
			time.Sleep(40 * 24 * time.Hour)
			h.assertActive(t, 0, map[string]int{})
			require.NoError(t, h.Save(t.Context()))
			h.restart(t)
		}
		last, days := h.Of(subject(1), time.Now())
		assert.Equal(t, at, last)
		assert.Zero(t, days)
	})
}

func TestActivity_FewUsersAreStoredWithinSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, users := newActivityHarness(t), 200
		for n := range users {
			h.Add([]record.Record{prompt(n, "Word", time.Now())})
		}
		h.runFor(t, 3*time.Second)
		h.restart(t)
		h.assertActive(t, users, map[string]int{"Word": users})
	})
}

// A crash costs less than five minutes, with up to 100,000 users.
func TestActivity_CrashCostsWhatWasNotWritten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, records := newActivityHarness(t), make([]record.Record, 0, 20_000)
		for n := range 20_000 {
			records = append(records, prompt(n, "Word", time.Now()))
		}
		h.Add(records)
		h.runFor(t, 5*time.Minute+time.Nanosecond)
		h.Add([]record.Record{prompt(len(records), "Word", time.Now())})
		h.restart(t)
		h.assertActive(t, len(records), map[string]int{"Word": len(records)})
	})
}

// What is being stored doesn't change. The race detector checks it.
func TestActivity_IsStoredWhilePromptsCome(t *testing.T) {
	t.Parallel()
	const users, rounds = 100, 50
	h := newActivityHarness(t)
	var adding sync.WaitGroup
	for _, app := range []string{"Word", "Excel"} {
		adding.Go(func() {
			for n := range users * rounds {
				h.Add([]record.Record{prompt(n%users, app, time.Now())})
			}
		})
	}
	for range rounds {
		require.NoError(t, h.Save(t.Context()))
		h.Active(time.Now())
	}
	adding.Wait()
	require.NoError(t, h.Save(t.Context()))
	h.restart(t)
	h.assertActive(t, users, map[string]int{"Word": users, "Excel": users})
}

// A shutdown may end a save while its copy is made. The race detector checks that the two don't meet.
func TestActivity_EndsWhileItIsStored(t *testing.T) {
	t.Parallel()
	h := newActivityHarness(t)
	for n := range 1000 {
		h.Add([]record.Record{prompt(n, "Word", time.Now())})
		ctx, end := context.WithCancel(t.Context())
		end()
		_ = h.Save(ctx) // stored or not
	}
	require.NoError(t, h.Save(t.Context()))
	h.restart(t)
	h.assertActive(t, 1000, map[string]int{"Word": 1000})
}

func TestActivity_DamageCostsTheUsersOfOneValue(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func([]byte) []byte{
		"empty":              func([]byte) []byte { return []byte{} },
		"of another version": func(value []byte) []byte { return append([]byte{9}, value[1:]...) },
		"cut off":            func(value []byte) []byte { return value[:len(value)/2] },
		"foreign":            func([]byte) []byte { return []byte("hello, I belong to somebody else") },
		"of another type": func([]byte) []byte {
			c := &fakeClient{values: map[string][]byte{}}
			_ = statestore.New(c).Write(context.Background(), statestore.Set{Key: "key", Version: 1, Payload: []byte("no users")})
			return c.values["key"]
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, one, other := newActivityHarness(t), prompt(1, "Word", time.Now()), prompt(3, "Excel", time.Now())
			require.NotEqual(t, one.Subject[0]%32, other.Subject[0]%32)
			h.Add([]record.Record{one, other})
			require.NoError(t, h.Save(t.Context()))
			key := fmt.Sprint("activity/", one.Subject[0]%32)
			h.client.values[key] = damage(h.client.values[key])
			h.restart(t)
			lines := h.logs.FilterMessage("times of activity in storage are damaged and are replaced").All()
			require.Len(t, lines, 1)
			assert.NotEmpty(t, lines[0].ContextMap()["hint"])
			h.assertActive(t, 1, map[string]int{"Excel": 1})

			require.NoError(t, h.Save(t.Context()))
			h.restart(t)
			assert.Zero(t, h.logs.Len(), "and not at the next start")
			h.Add([]record.Record{one})
			h.assertActive(t, 2, map[string]int{"Excel": 1, "Word": 1})
		})
	}
}

func TestActivity_LoadFailsWhenStorageFails(t *testing.T) {
	t.Parallel()
	h := newActivityHarness(t)
	h.client.setError(errors.New("disk full"))
	require.ErrorContains(t, h.Load(t.Context()), "disk full")
	assert.Zero(t, h.logs.Len())
}

func TestActivity_StoresAgainAfterFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newActivityHarness(t)
		h.client.setError(errors.New("disk full"))
		h.Add([]record.Record{prompt(1, "Word", time.Now())})
		require.ErrorContains(t, h.Save(t.Context()), "disk full")
		time.AfterFunc(6*time.Minute, func() {
			h.client.mu.Lock()
			defer h.client.mu.Unlock()
			h.client.err = nil
			clear(h.client.values)
		})
		h.runFor(t, 6*time.Minute+10*time.Second)
		assert.Equal(t, 1, h.logs.FilterMessage("times of activity can't be stored").Len())
		assert.Equal(t, 1, h.logs.FilterMessage("times of activity are stored again").Len())
		h.restart(t)
		h.assertActive(t, 1, map[string]int{"Word": 1})
	})
}

func TestActivity_ForgetsLongestInactiveUser(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var users []int // of one shard
		for n := 0; len(users) < 6401; n++ {
			if subject(n)[0]%32 == 7 {
				users = append(users, n)
			}
		}
		h := newActivityHarness(t)
		for i, user := range users[:6400] {
			h.Add([]record.Record{prompt(user, "Word", time.Now().Add(-time.Duration(i)*time.Second))})
		}
		h.Add([]record.Record{prompt(users[6400], "Word", time.Now())})
		knows := func(i int) bool {
			last, _ := h.Of(subject(users[i]), time.Now())
			return !last.IsZero()
		}
		assert.True(t, knows(6400))
		assert.False(t, knows(6399), "the one with the earliest last prompt")
		assert.True(t, knows(6398))
		h.assertActive(t, 6400, map[string]int{"Word": 6400})
	})
}

func TestActivity_CountsTwentyAppsOfAUser(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newActivityHarness(t)
		for n := range 25 {
			h.Add([]record.Record{prompt(1, fmt.Sprint("App ", n), time.Now())})
			time.Sleep(time.Minute)
		}
		_, apps := h.Active(time.Now())
		assert.Len(t, apps, 20)
		assert.Contains(t, apps, "App 24", "those used last")
		time.Sleep(24 * time.Hour)
		h.assertActive(t, 0, map[string]int{})
	})
}

// countingClient counts the bytes that are written.
type countingClient struct {
	*fakeClient
	written int
}

func (c *countingClient) Batch(ctx context.Context, operations ...*storage.Operation) error {
	for _, op := range operations {
		c.written += len(op.Value)
	}
	return c.fakeClient.Batch(ctx, operations...)
}

// Each user sends a prompt every hour, in two or three apps a day. Not parallel: it measures the heap of the process.
func TestActivity_Of100000UsersIsExactAndSmall(t *testing.T) {
	const users = 100_000
	apps := []string{"Word", "Excel", "Teams", "BizChat", "Outlook"}
	prompts := func(app int) (records []record.Record) {
		for n := range users {
			records = append(records, prompt(n, apps[(n+app)%len(apps)], time.Now()))
		}
		return records
	}
	synctest.Test(t, func(t *testing.T) {
		h := newActivityHarness(t)
		client := &countingClient{fakeClient: h.client}
		h.Activity = directory.NewActivity(statestore.New(client), zap.NewNop())
		before := heap()
		want := map[string]int{}
		for app := range 3 {
			records := prompts(app)
			if app == 2 {
				records = records[:users/2]
			}
			for some := range slices.Chunk(records, 100) {
				h.Add(some)
			}
			for _, r := range records {
				want[r.AppName]++
			}
			time.Sleep(time.Hour)
		}
		used := heap() - before
		h.assertActive(t, users, want)
		h.Add(prompts(0))
		h.runFor(t, 5*time.Minute)
		perSecond := float64(client.written) / (5 * time.Minute).Seconds()
		t.Logf("%d users in 2.5 apps: %.1f MiB, %.0f bytes written each second", users, float64(used)/(1<<20), perSecond)
		assert.Less(t, used, 40<<20)
		assert.Less(t, perSecond, 50_000.0)

		require.NoError(t, h.Save(t.Context()))
		h.restart(t)
		h.assertActive(t, users, want)
	})
}

func BenchmarkActivity(b *testing.B) {
	const users = 100_000
	a := directory.NewActivity(statestore.New(&fakeClient{}), zap.NewNop())
	var records []record.Record
	for n := range users {
		records = append(records, prompt(n, "Word", time.Now()), prompt(n, "Excel", time.Now()))
	}
	a.Add(records)
	b.Run("add", func(b *testing.B) {
		for n := 0; b.Loop(); n++ {
			a.Add(records[n%len(records) : n%len(records)+1])
		}
	})
	b.Run("active", func(b *testing.B) {
		for b.Loop() {
			a.Active(time.Now())
		}
	})
}
