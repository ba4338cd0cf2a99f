// SPDX-License-Identifier: Apache-2.0

package directory_test

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/directory"
	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

const cacheTTL = 12 * time.Hour

var properties = []string{"department", "country"}

// tenant is a Graph with a directory.
type tenant struct {
	mu    sync.Mutex
	users map[string]interaction.Person
	// listed are the licensed users when their first page was requested.
	listed []interaction.Person
	pages  int      // requests for a page of licensed users
	reads  []string // ids of the users that were read
	at     []time.Time
	// failList and failRead may fail a request.
	failList, failRead func(id string) error
	latency            time.Duration
}

func (g *tenant) wait(ctx context.Context) error {
	g.mu.Lock()
	latency := g.latency
	g.at = append(g.at, time.Now())
	g.mu.Unlock()
	return graph.Sleep(ctx, latency)
}

func (g *tenant) LicensedUsers(ctx context.Context, next string, selected []string) (page graph.UserPage, err error) {
	if err := g.wait(ctx); err != nil {
		return page, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.Equal(selected, properties) {
		return page, fmt.Errorf("%v are selected", selected)
	}
	g.pages++
	if g.failList != nil {
		if err := g.failList(next); err != nil {
			return page, err
		}
	}
	if next == "" {
		g.listed = nil
		for _, person := range g.users {
			if person.Licensed {
				g.listed = append(g.listed, person)
			}
		}
		slices.SortFunc(g.listed, func(x, y interaction.Person) int { return strings.Compare(x.ID, y.ID) })
	}
	skip, _ := strconv.Atoi(next)
	end := min(skip+999, len(g.listed))
	if page.Items = slices.Clone(g.listed[skip:end]); end < len(g.listed) {
		page.Next = strconv.Itoa(end)
	}
	return page, nil
}

func (g *tenant) User(ctx context.Context, id string, selected []string) (interaction.Person, error) {
	if err := g.wait(ctx); err != nil {
		return interaction.Person{}, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.Equal(selected, properties) {
		return interaction.Person{}, fmt.Errorf("%v are selected", selected)
	}
	g.reads = append(g.reads, id)
	if g.failRead != nil {
		if err := g.failRead(id); err != nil {
			return interaction.Person{}, err
		}
	}
	person, found := g.users[id]
	if !found {
		return interaction.Person{}, &graph.Error{Operation: "read user", Status: http.StatusNotFound, Code: "Request_ResourceNotFound"}
	}
	return person, nil
}

// add adds users with the numbers from to to-1.
func (g *tenant) add(from, to int, licensed bool) {
	for n := from; n < to; n++ {
		g.users[guid(n)] = interaction.Person{ID: guid(n), Department: fmt.Sprintf("Department %d", n%7), Country: "Norway", Licensed: licensed}
	}
}

// set changes the tenant.
func (g *tenant) set(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
}

func (g *tenant) requests() (pages, reads int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.pages, len(g.reads)
}

// misses counts those of a Directory.
type misses struct{ atomic.Int64 }

func (m *misses) DirectoryMisses(count int) { m.Add(int64(count)) }

// lookups is a Directory with lookups, at a tenant.
type lookups struct {
	*directory.Directory
	settings directory.Settings
	tenant   *tenant
	client   *fakeClient
	misses   *misses
	logs     *observer.ObservedLogs
}

func newLookups() *lookups {
	core, logs := observer.New(zap.InfoLevel)
	l := &lookups{tenant: &tenant{users: map[string]interaction.Person{}}, client: &fakeClient{values: map[string][]byte{}}, misses: &misses{}, logs: logs}
	l.settings = directory.Settings{
		Graph: l.tenant, Store: statestore.New(l.client), Logger: zap.New(core),
		Lookup: true, Properties: properties, CacheTTL: cacheTTL, CacheSize: 100_000, Telemetry: l.misses,
	}
	return l
}

// run runs the Directory. The returned function ends it.
func (l *lookups) run(t *testing.T) (stop func()) {
	t.Helper()
	l.Directory = directory.New(l.settings)
	require.NoError(t, l.Load(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { l.Run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// lookup returns the persons of interactions of users.
func (l *lookups) lookup(ids ...string) []*interaction.Person {
	received := make([]interaction.Received, len(ids))
	for i, id := range ids {
		received[i].UserID = id
	}
	l.Lookup(received)
	persons := make([]*interaction.Person, 0, len(ids))
	for i := range received {
		persons = append(persons, received[i].Person)
	}
	return persons
}

func (l *lookups) department(id string) string {
	if person := l.lookup(id)[0]; person != nil {
		return person.Department
	}
	return ""
}

func guids(from, to int) (ids []string) {
	for n := from; n < to; n++ {
		ids = append(ids, guid(n))
	}
	return ids
}

// after lets time pass, and waits for what is done then.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestLookup_FindsListedUsers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLookups()
		l.tenant.add(0, 2500, true)
		stop := l.run(t)
		defer stop()
		after(time.Second)
		for i, person := range l.lookup(guids(0, 2500)...) {
			require.NotNil(t, person)
			assert.Equal(t, guid(i), person.ID)
			assert.Equal(t, fmt.Sprintf("Department %d", i%7), person.Department)
			assert.True(t, person.Licensed)
		}
		assert.Zero(t, l.misses.Load())
		assert.Equal(t, "Department 3", l.lookup(strings.ToUpper(guid(3)))[0].Department)
		assert.Equal(t, "Department 5", l.Person(user(5)).Department)
		pages, reads := l.tenant.requests()
		assert.Equal(t, []int{3, 0}, []int{pages, reads})
	})
}

// The directory may be late: interactions go on without it, and the next ones have it.
func TestLookup_MissIsReadForNextInteraction(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLookups()
		l.tenant.add(7, 8, false)
		stop := l.run(t)
		defer stop()
		after(time.Second)
		l.tenant.set(func() { l.tenant.latency = time.Minute })
		for range 3 {
			began := time.Now()
			assert.Equal(t, []*interaction.Person{nil, nil}, l.lookup(guid(7), guid(7)))
			assert.Equal(t, began, time.Now(), "a lookup waits for nothing")
			after(time.Second)
		}
		assert.EqualValues(t, 6, l.misses.Load())
		assert.Nil(t, l.Person(user(7)))
		after(time.Minute)
		assert.Equal(t, "Department 0", l.department(guid(7)))
		assert.False(t, l.lookup(guid(7))[0].Licensed)
		after(time.Hour)
		_, reads := l.tenant.requests()
		assert.Equal(t, 1, reads)
		assert.EqualValues(t, 6, l.misses.Load())
	})
}

// A list takes a while, so that the first users on it are older than CacheTTL before the next list is due.
func TestLookup_LeavesLicensedUsersToNextList(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLookups()
		l.tenant.add(0, 2500, true)
		l.tenant.latency = time.Minute
		stop := l.run(t)
		defer stop()
		for range 3 * cacheTTL / time.Minute {
			after(time.Minute)
			l.lookup(guid(0), guid(2499))
		}
		_, reads := l.tenant.requests()
		assert.Zero(t, reads)
	})
}

func TestLookup_WhoWaitsLongestIsReadFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLookups()
		l.tenant.latency = time.Minute
		stop := l.run(t)
		defer stop()
		l.lookup(guids(0, 5)...)
		for range 10 {
			after(time.Minute)
			l.lookup(guids(0, 3)...) // the first ones again and again
		}
		assert.Equal(t, guids(0, 5), l.tenant.reads)
	})
}

func TestLookup_LeavesOutWhoIsNoUser(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLookups()
		stop := l.run(t)
		defer stop()
		assert.Equal(t, []*interaction.Person{nil, nil, nil}, l.lookup("", "anonymous", "28:cowork-bot"))
		after(time.Hour)
		_, reads := l.tenant.requests()
		assert.Zero(t, reads)
		assert.Zero(t, l.misses.Load())
	})
}

func TestLookup_OffReadsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLookups()
		l.tenant.add(0, 5, true)
		l.settings.Lookup = false
		stop := l.run(t)
		defer stop()
		assert.Equal(t, []*interaction.Person{nil}, l.lookup(guid(1)))
		after(48 * time.Hour)
		assert.Empty(t, l.tenant.at)
		assert.Zero(t, l.misses.Load())
		_, known := l.Licensed()
		assert.False(t, known)
	})
}

func TestLookup_UnknownUserIsReadOncePerCacheTTL(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLookups()
		stop := l.run(t)
		defer stop()
		after(time.Second)
		l.lookup(guid(1))
		for range 11 {
			after(time.Hour)
			assert.Nil(t, l.lookup(guid(1))[0])
		}
		_, reads := l.tenant.requests()
		assert.Equal(t, 1, reads)
		assert.EqualValues(t, 1, l.misses.Load(), "that there is no such user is known")
		l.tenant.set(func() { l.tenant.add(1, 2, false) })
		after(3 * time.Hour)
		l.lookup(guid(1))
		after(time.Second)
		assert.Equal(t, "Department 1", l.department(guid(1)))
		_, reads = l.tenant.requests()
		assert.Equal(t, 2, reads)
	})
}

func TestLookup_RefreshesOldPropertiesAtNextUse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLookups()
		l.tenant.add(0, 2, false)
		stop := l.run(t)
		defer stop()
		after(time.Second)
		l.lookup(guids(0, 2)...)
		after(time.Second)
		l.tenant.set(func() {
			l.tenant.users[guid(0)] = interaction.Person{ID: guid(0), Department: "Legal"}
			delete(l.tenant.users, guid(1)) // who leaves
		})
		after(cacheTTL)
		assert.Equal(t, "Department 0", l.department(guid(0)))
		after(cacheTTL / 10)
		assert.Equal(t, "Department 0", l.department(guid(0)), "old properties are better than none")
		assert.Equal(t, "Department 1", l.department(guid(1)))
		after(time.Second)
		assert.Equal(t, "Legal", l.department(guid(0)))
		assert.Nil(t, l.lookup(guid(1))[0], "a user who left has no properties any more")
		assert.Nil(t, l.Person(user(1)))
		_, reads := l.tenant.requests()
		assert.Equal(t, 4, reads)
	})
}

func TestRun_ListsLicensedUsersOncePerCacheTTL(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*directory.Settings){
		"for lookups": func(*directory.Settings) {},
		"for those who need the list alone": func(s *directory.Settings) {
			s.Lookup, s.ListLicensed = false, true
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLookups()
				change(&l.settings)
				l.tenant.add(0, 1500, true)
				stop := l.run(t)
				defer stop()
				for n := range 6 {
					after(time.Minute)
					pages, reads := l.tenant.requests()
					assert.Equal(t, []int{2 * (n + 1), 0}, []int{pages, reads})
					users, known := l.Licensed()
					assert.True(t, known)
					assert.Len(t, users, 1500)
					assert.Equal(t, l.settings.Lookup, l.Person(user(7)) != nil, "properties are kept for lookups alone")
					after(cacheTTL)
				}
			})
		})
	}
}

// Whoever lists the users, it serves all.
func TestList_SharesListWithRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLookups()
		l.tenant.add(0, 3, true)
		l.tenant.latency = time.Second
		stop := l.run(t)
		defer stop()
		list := func() int {
			users, all, err := l.List(t.Context(), time.Time{})
			require.NoError(t, err)
			require.True(t, all)
			return len(users)
		}
		assert.Equal(t, 3, list())
		pages, _ := l.tenant.requests()
		assert.Equal(t, 1, pages, "at the same time as Run")

		l.tenant.set(func() { l.tenant.latency = 0; l.tenant.add(3, 4, true) })
		after(16 * time.Minute)
		assert.False(t, l.Known().Listed)
		assert.Equal(t, 4, list(), "the history needs a list that is no older than 15 minutes")
		assert.Equal(t, "Department 3", l.department(guid(3)), "and it has the properties")
		after(cacheTTL - time.Minute)
		pages, reads := l.tenant.requests()
		assert.Equal(t, []int{2, 0}, []int{pages, reads}, "the list of the history counts for Run as well")
		after(time.Minute)
		pages, _ = l.tenant.requests()
		assert.Equal(t, 3, pages)
	})
}

func TestList_WaitsNoLongerThanItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLookups()
		l.tenant.latency = time.Hour
		stop := l.run(t)
		defer stop()
		after(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		_, _, err := l.List(ctx, time.Time{})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, time.Minute, time.Since(began))
	})
}

func TestLicensed_KeepsLastListThatSucceeded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLookups()
		l.tenant.add(0, 3, true)
		stop := l.run(t)
		defer stop()
		after(time.Second)
		l.tenant.set(func() { l.tenant.failList = func(string) error { return graph.ErrUnreadable } })
		after(48 * time.Hour)
		assert.InDelta(t, 36, l.logs.FilterMessageSnippet("directory can't be read").Len(), 1, "once an hour while it lasts")
		users, known := l.Licensed()
		assert.True(t, known)
		assert.Equal(t, []gap.User{user(0), user(1), user(2)}, users)
		l.tenant.set(func() { l.tenant.failList, l.tenant.users = nil, nil })
		after(time.Hour)
		users, known = l.Licensed()
		assert.True(t, known, "that nobody has a license is known")
		assert.Empty(t, users)
	})
}

func TestLookup_LicenseEndsWithNextList(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLookups()
		l.tenant.add(0, 3, true)
		stop := l.run(t)
		defer stop()
		after(time.Second)
		before := l.lookup(guid(1))[0]
		l.tenant.set(func() { l.tenant.users[guid(1)] = interaction.Person{ID: guid(1), Department: "Legal"} })
		after(cacheTTL - time.Minute)
		assert.True(t, l.lookup(guid(1))[0].Licensed)
		after(2 * time.Minute)
		assert.False(t, l.lookup(guid(1))[0].Licensed)
		assert.False(t, l.Person(user(1)).Licensed)
		assert.True(t, l.Person(user(2)).Licensed)
		assert.True(t, before.Licensed, "what a record has does not change")
		after(time.Second)
		assert.Equal(t, &interaction.Person{ID: guid(1), Department: "Legal"}, l.lookup(guid(1))[0])
		_, reads := l.tenant.requests()
		assert.Equal(t, 1, reads)
	})
}

func TestLookup_UserJoinsBetweenLists(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLookups()
		l.tenant.add(0, 3, true)
		stop := l.run(t)
		defer stop()
		after(time.Hour)
		l.tenant.set(func() { l.tenant.add(3, 4, true) })
		assert.Nil(t, l.lookup(guid(3))[0])
		after(time.Second)
		assert.True(t, l.lookup(guid(3))[0].Licensed)
		for range 72 {
			after(time.Hour)
			assert.Equal(t, "Department 3", l.department(guid(3)))
		}
		_, reads := l.tenant.requests()
		assert.Equal(t, 1, reads, "the lists have the user")
		assert.EqualValues(t, 1, l.misses.Load())
	})
}

// The bar: at most a page for each 999 licensed users, or a request for each other user, and CacheTTL.
func TestRun_FewRequestsFor50000Users(t *testing.T) {
	t.Parallel()
	const licensed, others, periods = 45_000, 5_000, 3
	synctest.Test(t, func(t *testing.T) {
		l := newLookups()
		l.tenant.add(0, licensed, true)
		l.tenant.add(licensed, licensed+others, false)
		l.tenant.failList = everyTenth(func() error { return &graph.Error{Operation: "list users", Status: 429, RetryAfter: 20 * time.Second} })
		l.tenant.failRead = everyTenth(func() error { return &graph.Error{Operation: "read user", Status: 429, RetryAfter: time.Second} })
		stop := l.run(t)
		defer stop()
		all := guids(0, licensed+others)
		began := time.Now()
		for time.Since(began) < periods*cacheTTL-5*time.Hour {
			l.lookup(all...) // also while the list is read
			after(time.Minute)
			l.lookup(all...)
			after(4 * time.Hour)
		}
		found := 0
		for _, person := range l.lookup(all...) {
			if person != nil {
				found++
			}
		}
		assert.Equal(t, licensed+others, found)
		pages, reads := l.tenant.requests()
		repeated := 1.0 / 9 // those that Graph refused
		t.Logf("%d pages, %d reads in %d x %v", pages, reads, periods, cacheTTL)
		assert.LessOrEqual(t, float64(pages), (licensed/999+1)*periods*(1+repeated)+1)
		assert.LessOrEqual(t, float64(reads), others*periods*(1+repeated)+1)
		for i := 25; i < len(l.tenant.at); i++ {
			require.GreaterOrEqual(t, l.tenant.at[i].Sub(l.tenant.at[i-25]), time.Second-time.Millisecond, "26 requests take at least a second")
		}
	})
}

// everyTenth fails each tenth request.
func everyTenth(err func() error) func(string) error {
	n := 0
	return func(string) error {
		if n++; n%10 == 0 {
			return err()
		}
		return nil
	}
}

func TestRun_HonorsRetryAfter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLookups()
		l.tenant.add(0, 2, true)
		l.tenant.add(2, 3, false)
		throttled := true
		throttle := func(string) error {
			if throttled {
				return &graph.Error{Operation: "list users", Status: 429, RetryAfter: 10 * time.Minute}
			}
			return nil
		}
		l.tenant.failList = throttle
		stop := l.run(t)
		defer stop()
		after(9 * time.Minute)
		assert.Equal(t, []*interaction.Person{nil, nil, nil}, l.lookup(guids(0, 3)...))
		pages, reads := l.tenant.requests()
		assert.Equal(t, []int{1, 0}, []int{pages, reads})
		l.tenant.set(func() { throttled = false })
		after(2 * time.Minute)
		assert.NotContains(t, l.lookup(guids(0, 3)...), (*interaction.Person)(nil))
		pages, reads = l.tenant.requests()
		assert.Equal(t, []int{2, 1}, []int{pages, reads})
		assert.Zero(t, l.logs.Len(), "being throttled is no failure")
	})
}

// Graph asks the application to wait, so that a list waits for what the request for a user was told.
func TestList_WaitsForRetryAfterOfUser(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLookups()
		l.tenant.add(0, 2, true)
		l.tenant.failRead = func(string) error {
			if len(l.tenant.reads) == 1 {
				return &graph.Error{Operation: "read user", Status: 429, RetryAfter: 10 * time.Minute}
			}
			return nil
		}
		stop := l.run(t)
		defer stop()
		after(16 * time.Minute) // after which the history needs a new list
		l.lookup(guid(7))
		after(time.Second)
		began := time.Now()
		_, all, err := l.List(t.Context(), time.Time{})
		require.NoError(t, err)
		assert.True(t, all)
		assert.InDelta(t, (10 * time.Minute).Seconds(), time.Since(began).Seconds(), 2)
	})
}

func TestList_GoesOnWithoutDirectoryThatIsThrottled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLookups()
		l.tenant.add(0, 2, true)
		l.tenant.failList = func(string) error { return &graph.Error{Operation: "list users", Status: 429, RetryAfter: time.Minute} }
		stop := l.run(t)
		defer stop()
		l.Seen(guid(7))
		began := time.Now()
		users, all, err := l.List(t.Context(), time.Time{})
		require.NoError(t, err)
		assert.False(t, all)
		assert.Equal(t, []gap.User{user(7)}, users)
		assert.InDelta(t, 5, time.Since(began).Minutes(), 0.1)
		lines := l.logs.FilterMessageSnippet("directory can't be read").All()
		require.Len(t, lines, 1)
		assert.Equal(t, string(failure.Unavailable), lines[0].ContextMap()["code"])
	})
}

func TestRun_ShortestCacheTTL(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLookups()
		l.settings.CacheTTL = time.Second
		l.tenant.add(0, 1, true)
		l.tenant.add(1, 2, false)
		stop := l.run(t)
		defer stop()
		for range 10 * 60 {
			l.lookup(guids(0, 2)...)
			after(100 * time.Millisecond)
		}
		pages, reads := l.tenant.requests()
		assert.InDelta(t, 60, pages, 2)
		assert.InDelta(t, 60, reads, 10)
		l.tenant.set(func() { l.tenant.failList = func(string) error { return refusal("list users") } })
		after(time.Hour)
		refused, _ := l.tenant.requests()
		assert.InDelta(t, 4, refused-pages, 1, "a list that fails is left alone for 15 minutes")
	})
}

func refusal(operation string) error {
	return &graph.Error{Operation: operation, Status: http.StatusForbidden, Code: "Authorization_RequestDenied"}
}

func TestRun_WaitsForMissingPermission(t *testing.T) {
	t.Parallel()
	for name, revoke := range map[string]func(l *lookups){
		"at the start": func(*lookups) {},
		"when a user is read": func(l *lookups) {
			after(time.Minute)
			l.lookup(guid(8))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLookups()
				l.tenant.add(0, 3, true)
				l.tenant.add(3, 4, false)
				l.tenant.failRead = func(string) error { return refusal("read user") }
				if name == "at the start" {
					l.tenant.failList = func(string) error { return refusal("list users") }
				}
				stop := l.run(t)
				defer stop()
				revoke(l)
				l.tenant.set(func() { l.tenant.failList = func(string) error { return refusal("list users") } })
				began := time.Now()
				for time.Since(began) < 24*time.Hour {
					l.lookup(guids(0, 4)...)
					after(10 * time.Second)
				}
				assert.LessOrEqual(t, len(l.tenant.at), 4*24+3, "one request each 15 minutes")
				lines := l.logs.FilterMessageSnippet("directory can't be read")
				assert.InDelta(t, 24, lines.Len(), 1, "one line an hour")
				assert.Equal(t, l.logs.Len(), lines.Len())
				fields := lines.All()[0].ContextMap()
				assert.Equal(t, string(failure.UsersPermissionMissing), fields["code"])
				assert.Contains(t, fields["hint"], "User.Read.All")
				assert.Equal(t, "Authorization_RequestDenied", fields["microsoft_code"])

				l.tenant.set(func() { l.tenant.failList, l.tenant.failRead = nil, nil })
				after(time.Hour)
				assert.Equal(t, 1, l.logs.FilterMessage("directory can be read again").Len())
				assert.NotContains(t, l.lookup(guids(0, 4)...), (*interaction.Person)(nil))

				l.tenant.set(func() { l.tenant.failRead, l.tenant.at = func(string) error { return refusal("read user") }, nil })
				l.lookup(guids(9, 20)...)
				after(14 * time.Minute)
				assert.Len(t, l.tenant.at, 1, "one refusal is enough")
			})
		})
	}
}

func TestRun_ReadsUsersWhereTheyAreNotListed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLookups()
		l.tenant.add(0, 3, true)
		l.tenant.failList = func(string) error { return &graph.Error{Operation: "list users", Status: 400} }
		stop := l.run(t)
		defer stop()
		for range 25 {
			l.lookup(guids(0, 3)...)
			after(time.Hour)
		}
		for _, person := range l.lookup(guids(0, 3)...) {
			assert.True(t, person.Licensed)
		}
		_, reads := l.tenant.requests()
		assert.Equal(t, 2*3, reads, "once in each CacheTTL")
		assert.Zero(t, l.logs.FilterMessage("directory can be read again").Len())
		_, known := l.Licensed()
		assert.False(t, known)
	})
}

func TestRun_ReadsUserAgainAfterFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLookups()
		l.tenant.add(0, 1, false)
		l.tenant.failRead = func(string) error {
			if len(l.tenant.reads) == 1 {
				return &graph.Error{Operation: "read user", Status: 500}
			}
			return nil
		}
		stop := l.run(t)
		defer stop()
		after(time.Second)
		l.lookup(guid(0))
		after(2 * time.Second)
		assert.Equal(t, "Department 0", l.department(guid(0)))
		assert.Zero(t, l.logs.Len())
	})
}

// The list fails then too, so it is tried instead of one user after the other.
func TestRun_ReportsOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLookups()
		l.tenant.add(0, 20, false)
		stop := l.run(t)
		defer stop()
		after(time.Second)
		outage := func(string) error { return &graph.Error{Operation: "read user", Status: 500} }
		l.tenant.set(func() { l.tenant.failList, l.tenant.failRead, l.tenant.at = outage, outage, nil })
		for range 12 * 60 {
			l.lookup(guids(0, 20)...)
			after(time.Minute)
		}
		_, reads := l.tenant.requests()
		assert.Equal(t, 2*5, reads)
		assert.LessOrEqual(t, len(l.tenant.at), 2*5+12*4*5, "the list is tried each 15 minutes, five times")
		lines := l.logs.FilterMessageSnippet("directory can't be read").All()
		require.InDelta(t, 12, len(lines), 1, "once an hour")
		assert.Equal(t, string(failure.Unavailable), lines[0].ContextMap()["code"])
		assert.Len(t, lines, l.logs.Len(), "and nothing else")

		l.tenant.set(func() { l.tenant.failList, l.tenant.failRead = nil, nil })
		l.lookup(guids(0, 20)...)
		after(16 * time.Minute)
		assert.NotContains(t, l.lookup(guids(0, 20)...), (*interaction.Person)(nil))
		assert.Equal(t, 1, l.logs.FilterMessage("directory can be read again").Len())
	})
}

func TestRun_UserThatCannotBeReadStopsNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLookups()
		l.tenant.add(0, 20, false)
		l.tenant.failRead = func(id string) error {
			if id == guid(1) {
				return &graph.Error{Operation: "read user", Status: 500}
			}
			return nil
		}
		stop := l.run(t)
		defer stop()
		l.lookup(guids(0, 20)...)
		after(5 * time.Minute)
		for i, person := range l.lookup(guids(0, 20)...) {
			assert.Equal(t, i == 1, person == nil)
		}
		assert.Zero(t, l.logs.Len())
	})
}

// A list that fails is continued at the page that failed, and changes nothing until it is complete.
func TestRun_ListFailsInTheMiddle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLookups()
		l.tenant.add(0, 2500, true)
		stop := l.run(t)
		defer stop()
		after(time.Second)
		down := true
		l.tenant.set(func() {
			l.tenant.pages = 0
			l.tenant.failList = func(next string) error {
				if down && next == "1998" {
					return &graph.Error{Operation: "list users", Status: 503}
				}
				return nil
			}
			for n := range 2500 {
				delete(l.tenant.users, guid(n)) // who had a license
			}
			l.tenant.add(10_000, 12_100, true)
		})
		after(cacheTTL + time.Minute)
		pages, _ := l.tenant.requests()
		assert.Equal(t, 2+5, pages)
		users, _ := l.Licensed()
		assert.Len(t, users, 2500)
		assert.True(t, l.Person(user(0)).Licensed)
		l.tenant.set(func() { down = false })
		after(15 * time.Minute)
		users, _ = l.Licensed()
		assert.Len(t, users, 2100)
		assert.False(t, l.Person(user(0)).Licensed)
	})
}

func TestLookup_CacheSmallerThanDirectory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLookups()
		l.settings.CacheSize = 100
		l.tenant.add(0, 5000, true)
		stop := l.run(t)
		defer stop()
		after(time.Second)
		cached := func() (n int) {
			for i := range 5000 {
				if l.Person(user(i)) != nil {
					n++
				}
			}
			return n
		}
		assert.Equal(t, 100, cached())
		used := guids(4000, 4050)
		l.lookup(used...)
		after(time.Minute)
		assert.NotContains(t, l.lookup(used...), (*interaction.Person)(nil))
		assert.Equal(t, 100, cached())
		for range 5 {
			after(cacheTTL)
			assert.NotContains(t, l.lookup(used...), (*interaction.Person)(nil), "a list evicts nobody")
		}
		_, reads := l.tenant.requests()
		assert.Equal(t, 50, reads)
		users, _ := l.Licensed()
		assert.Len(t, users, 5000, "who is licensed is known of all")
	})
}

func TestLookup_BoundsUsersToRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLookups()
		l.tenant.latency = time.Hour // until all were looked up
		stop := l.run(t)
		defer stop()
		l.lookup(guids(0, 30_000)...)
		l.tenant.set(func() { l.tenant.latency = 0 })
		after(24 * time.Hour)
		_, reads := l.tenant.requests()
		assert.Equal(t, 10_000, reads)
		assert.EqualValues(t, 30_000, l.misses.Load())
	})
}

func TestRun_EndsAtOnce(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(l *lookups){
		"while nothing is to do": func(*lookups) {},
		"during a request":       func(l *lookups) { l.tenant.latency = time.Hour },
		"in the middle of a list": func(l *lookups) {
			l.tenant.add(0, 12_000, true)
			l.tenant.latency = time.Minute
		},
		"while Graph asks to stay away": func(l *lookups) {
			l.tenant.failList = func(string) error { return &graph.Error{Status: 429, RetryAfter: time.Hour} }
		},
		"while the permission is missing": func(l *lookups) {
			l.tenant.failList = func(string) error { return refusal("list users") }
		},
		"while users can't be read": func(l *lookups) { l.tenant.failRead = func(string) error { return graph.ErrUnreadable } },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLookups()
				prepare(l)
				stop := l.run(t)
				l.lookup(guid(1))
				after(10 * time.Minute)
				logged, stopped := l.logs.Len(), time.Now()
				stop()
				assert.Equal(t, stopped, time.Now())
				assert.Equal(t, logged, l.logs.Len(), "the end is no failure")
			})
		})
	}
}

func TestSave_StoresNoProperties(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLookups()
		l.tenant.add(0, 3, true)
		stop := l.run(t)
		after(time.Second)
		require.NotNil(t, l.lookup(guid(1))[0])
		l.Seen(guid(1))
		after(time.Minute)
		stop()
		require.NoError(t, l.Save(t.Context()))
		require.Len(t, l.client.values, 1)
		for _, value := range l.client.values {
			assert.NotContains(t, string(value), "Department")
			assert.Less(t, len(value), 100)
		}
	})
}

// With the race detector it finds what is not guarded.
func TestLookup_WhileUsersAreListed(t *testing.T) {
	t.Parallel()
	l := newLookups()
	l.tenant.add(0, 3000, true)
	l.settings.CacheTTL = time.Millisecond
	stop := l.run(t)
	var looking sync.WaitGroup
	for range 4 {
		looking.Go(func() {
			for range 20 {
				for _, person := range l.lookup(guids(2000, 3100)...) {
					assert.True(t, person == nil || person.Country == "Norway")
				}
				l.Person(user(2500))
				l.Licensed()
			}
		})
	}
	looking.Wait()
	stop()
}

func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// largeGraph lists users with all properties of the default, as a large organization has them.
type largeGraph struct {
	fakeGraph
	users int
}

func (g *largeGraph) LicensedUsers(_ context.Context, next string, _ []string) (page graph.UserPage, err error) {
	from, _ := strconv.Atoi(next)
	for n := from; n < min(from+10_000, g.users); n++ {
		page.Items = append(page.Items, interaction.Person{
			ID: guid(n), UserPrincipalName: fmt.Sprintf("given.family%06d@contoso.com", n), DisplayName: fmt.Sprintf("Given Family %06d", n),
			Department: fmt.Sprintf("A department of the company, number %d", n%400), OfficeLocation: fmt.Sprintf("Building %d", n%300),
			Country: fmt.Sprintf("Country %d", n%60), JobTitle: fmt.Sprintf("Senior something, level %d", n%900),
			CompanyName: fmt.Sprintf("Contoso %d Ltd", n%20), Licensed: true,
		})
	}
	if from+10_000 < g.users {
		page.Next = strconv.Itoa(from + 10_000)
	}
	return page, nil
}

// Not parallel: it measures the heap of the process.
func TestLookup_NeedsLittleMemoryFor100000Users(t *testing.T) {
	const users = 100_000
	l := newLookups()
	l.settings.Graph = &largeGraph{users: users}
	before := heap()
	l.Directory = directory.New(l.settings)
	_, all, err := l.List(t.Context(), time.Time{})
	require.NoError(t, err)
	require.True(t, all)
	used := heap() - before
	require.Equal(t, "Building 299", l.lookup(guid(users - 1 - (users-1)%300 - 1))[0].OfficeLocation)
	t.Logf("%d users: %d bytes each", users, used/users)
	assert.Less(t, used/users, 640)
	runtime.KeepAlive(l)
}

func BenchmarkLookup(b *testing.B) {
	l := newLookups()
	l.settings.Graph = &largeGraph{users: 100_000}
	l.Directory = directory.New(l.settings)
	_, _, err := l.List(b.Context(), time.Time{})
	require.NoError(b, err)
	received := make([]interaction.Received, 1000)
	for i := range received {
		received[i].UserID = guid(97 * i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		l.Lookup(received[i%1000 : i%1000+1])
	}
}
