// SPDX-License-Identifier: Apache-2.0

package directory_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/directory"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeGraph lists licensed users.
type fakeGraph struct {
	licensed []string
	err      error
	requests int
}

func (g *fakeGraph) LicensedUsers(context.Context, string, []string) (page graph.UserPage, err error) {
	g.requests++
	for _, id := range g.licensed {
		page.Items = append(page.Items, interaction.Person{ID: id, Licensed: true})
	}
	return page, g.err
}

func (*fakeGraph) User(context.Context, string, []string) (interaction.Person, error) {
	return interaction.Person{}, errors.ErrUnsupported
}

// fakeClient is a storage that can fail.
type fakeClient struct {
	storage.Client
	mu     sync.Mutex
	values map[string][]byte
	err    error
}

func (c *fakeClient) Get(_ context.Context, key string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.values[key], c.err
}

func (c *fakeClient) Batch(_ context.Context, operations ...*storage.Operation) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, op := range operations {
		c.values[op.Key] = op.Value
	}
	return c.err
}

func (c *fakeClient) setError(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

type harness struct {
	*directory.Directory
	graph  *fakeGraph
	client *fakeClient
	logs   *observer.ObservedLogs
}

func newHarness() *harness {
	time.Sleep(time.Until(time.Date(2026, 11, 24, 9, 30, 0, 0, time.UTC)))
	h := &harness{graph: &fakeGraph{}, client: &fakeClient{values: map[string][]byte{}}}
	h.restart()
	return h
}

// restart replaces the Directory by one with the same storage, which Load has not been called of.
func (h *harness) restart() {
	core, logs := observer.New(zap.DebugLevel)
	h.logs = logs
	h.Directory = directory.New(directory.Settings{Graph: h.graph, Store: statestore.New(h.client), Logger: zap.New(core)})
}

func (h *harness) list(t *testing.T) (ids []string, all bool) {
	t.Helper()
	users, all, err := h.List(t.Context(), time.Time{})
	require.NoError(t, err)
	for _, user := range users {
		ids = append(ids, user.String())
	}
	return ids, all
}

func guid(n int) string { return fmt.Sprintf("%08x-0000-4000-8000-000000000000", n) }

func user(n int) gap.User {
	u, _ := gap.ParseUser(guid(n))
	return u
}

func TestList_CombinesLicensedAndSeen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.graph.licensed = []string{guid(3), "no id", guid(1), strings.ToUpper(guid(10))}
		h.Seen(guid(2), strings.ToUpper(guid(1)), "no id", guid(10))
		ids, all := h.list(t)
		assert.True(t, all)
		assert.Equal(t, []string{guid(1), guid(2), guid(3), guid(10)}, ids)
		assert.True(t, h.Known().Listed)

		time.Sleep(14 * time.Minute)
		h.list(t)
		assert.Equal(t, 1, h.graph.requests, "the list is valid for 15 minutes")
		time.Sleep(2 * time.Minute)
		assert.False(t, h.Known().Listed)
		h.list(t)
		assert.Equal(t, 2, h.graph.requests)
	})
}

func TestList_LeavesOutUsersSeenBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.graph.licensed = []string{guid(1), guid(3)}
		h.Seen(guid(1))
		time.Sleep(time.Minute)
		since := time.Now()
		h.Seen(guid(1), guid(2))
		users, _, err := h.List(t.Context(), since)
		require.NoError(t, err)
		assert.Equal(t, []gap.User{user(2), user(3)}, users)
		assert.Equal(t, since.UnixNano(), h.Known().NewestSeen.UnixNano())
	})
}

func TestList_FailsWithUsersSeen(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err      error
		requests int
	}{
		"a list that fails is tried five times": {graph.ErrUnreadable, 5},
		"a list that is refused is tried once":  {&graph.Error{Operation: "list users", Status: http.StatusForbidden}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				h.graph.licensed = []string{guid(1)}
				_, all := h.list(t)
				require.True(t, all)
				time.Sleep(time.Hour)
				h.graph.requests, h.graph.err = 0, test.err
				h.Seen(guid(7))
				ids, all := h.list(t)
				assert.False(t, all)
				assert.Equal(t, []string{guid(7)}, ids, "an old list is not used")
				assert.Equal(t, test.requests, h.graph.requests)
				lines := h.logs.FilterMessageSnippet("directory can't be read").All()
				require.Len(t, lines, 1)
				assert.NotEmpty(t, lines[0].ContextMap()["hint"])

				h.graph.err = nil
				time.Sleep(15*time.Minute - time.Second)
				_, all = h.list(t)
				assert.False(t, all)
				time.Sleep(time.Second)
				_, all = h.list(t)
				assert.True(t, all)
				assert.Equal(t, 1, h.logs.FilterMessage("directory can be read again").Len())
			})
		})
	}
}

func TestList_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.graph.err = errors.New("connection reset")
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		began := time.Now()
		_, _, err := h.List(ctx, time.Time{})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, 1500*time.Millisecond, time.Since(began))
		assert.Zero(t, h.logs.Len())
	})
}

func TestRest_EndsAfter72HoursOrWithPrompt(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		prompt time.Duration // since the rest began, 0 for none
		ends   time.Duration
	}{
		"after 72 hours":                       {0, 72 * time.Hour},
		"not with a prompt in the first 24":    {23*time.Hour + 59*time.Minute, 72 * time.Hour},
		"at once with a prompt after 24 hours": {24 * time.Hour, 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				began := time.Now()
				from := began.Add(-time.Hour)
				h.Rest(user(1), from)
				if test.prompt > 0 {
					time.Sleep(test.prompt)
					h.Seen(guid(1))
				}
				for {
					unread, over := h.RestsOver()
					if len(over) > 0 {
						assert.Equal(t, []gap.User{user(1)}, over)
						assert.Equal(t, from.UnixNano(), unread.UnixNano())
						break
					}
					assert.Empty(t, h.Awake([]gap.User{user(1)}, began), "a resting user is not requested")
					time.Sleep(time.Minute)
				}
				assert.InDelta(t, test.ends.Minutes(), time.Since(began).Minutes(), 1)
				h.EndRests([]gap.User{user(1)}, time.Now())
				assert.Len(t, h.Awake([]gap.User{user(1)}, began), 1)
			})
		})
	}
}

func TestRest_RemembersWhatIsNotReadMeanwhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		began := time.Now()
		h.Rest(user(1), began.Add(-time.Hour))
		h.Awake([]gap.User{user(1)}, began.Add(-20*time.Hour))
		h.Awake([]gap.User{user(1)}, began)
		time.Sleep(73 * time.Hour)
		unread, over := h.RestsOver()
		require.Len(t, over, 1)
		assert.Equal(t, began.Add(-20*time.Hour).UnixNano(), unread.UnixNano())
		to := time.Now()
		h.EndRests(over, to)
		h.Rest(user(1), unread)
		time.Sleep(73 * time.Hour)
		unread, _ = h.RestsOver()
		assert.Equal(t, to.UnixNano(), unread.UnixNano(), "a second such answer closes the interval")

		h.HasHistory(user(1))
		h.Rest(user(1), began)
		time.Sleep(73 * time.Hour)
		unread, _ = h.RestsOver()
		assert.Equal(t, began.UnixNano(), unread.UnixNano(), "a new rest has an interval of its own")
	})
}

func TestSeen_WakesForNewUsersOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.Seen(guid(1), guid(1), guid(2))
		assert.Len(t, h.Changed(), 1)
		<-h.Changed()
		h.Seen(guid(1), guid(2), "no id")
		assert.Empty(t, h.Changed())
		h.Rest(user(1), time.Now())
		time.Sleep(25 * time.Hour)
		h.Seen(guid(1))
		assert.Len(t, h.Changed(), 1)
		<-h.Changed()
		time.Sleep(time.Minute)
		h.Seen(guid(1))
		assert.Empty(t, h.Changed(), "the rest has ended already")
	})
}

func TestStored_HasUsersWithHistoryNewestFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		for n := range 3 {
			h.Seen(guid(n))
			time.Sleep(time.Minute)
		}
		h.Rest(user(1), time.Now())
		h.Rest(user(9), time.Now()) // licensed, and never seen
		require.NoError(t, h.Save(t.Context()))

		users, damaged, err := directory.Stored(t.Context(), statestore.New(h.client))
		require.NoError(t, err)
		assert.False(t, damaged)
		assert.Equal(t, []gap.User{user(2), user(0)}, users)
	})
}

func TestSeen_KeepsFirst200000Users(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		for n := range 200_001 {
			h.Seen(guid(n))
		}
		ids, _ := h.list(t)
		assert.Len(t, ids, 200_000)
	})
}

func TestLoad_RestoresUsersAfterKill(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		ctx, stop := context.WithCancel(t.Context())
		go h.Run(ctx)
		h.Seen(guid(1))
		h.Rest(user(2), time.Now())
		time.Sleep(10 * time.Second)
		synctest.Wait()
		stop()
		newest := h.Known().NewestSeen
		h.restart()
		require.NoError(t, h.Load(t.Context()))
		assert.Equal(t, newest, h.Known().NewestSeen)
		ids, _ := h.list(t)
		assert.Equal(t, []string{guid(1)}, ids)
		assert.Empty(t, h.Awake([]gap.User{user(2)}, time.Now()))
	})
}

func TestLoad_FailsWhenStorageFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.client.setError(errors.New("disk full"))
		require.ErrorContains(t, h.Load(t.Context()), "disk full")
		assert.Zero(t, h.logs.Len())
	})
}

func TestLoad_ReplacesDamagedUsers(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string][]byte{
		"empty": {}, "of another version": {9, 0, 0, 0, 0}, "cut off": {1, 0}, "null bytes": make([]byte, 300),
		"foreign": []byte("hello, I belong to somebody else"),
		"with a part of a user": func() []byte {
			c := &fakeClient{values: map[string][]byte{}}
			_ = statestore.New(c).Write(context.Background(), statestore.Set{Key: "users", Version: 1, Payload: make([]byte, 50)})
			return c.values["users"]
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				h.client.values["users"] = damage
				require.NoError(t, h.Load(t.Context()))
				assert.Equal(t, 1, h.logs.FilterMessageSnippet("damaged and are replaced").Len())
				require.NoError(t, h.Save(t.Context()))
				h.restart()
				require.NoError(t, h.Load(t.Context()))
				assert.Zero(t, h.logs.Len(), "and not at the next start")
				ids, _ := h.list(t)
				assert.Empty(t, ids)
			})
		})
	}
}

func TestSave_TriesAgainAfterFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go h.Run(ctx)
		h.client.setError(errors.New("disk full"))
		h.Seen(guid(1))
		time.Sleep(time.Minute)
		assert.Equal(t, 1, h.logs.FilterMessageSnippet("can't be stored").Len())
		require.Error(t, h.Save(t.Context()))
		h.client.setError(nil)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		assert.Equal(t, 1, h.logs.FilterMessageSnippet("are stored again").Len())
	})
}
