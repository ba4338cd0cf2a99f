// SPDX-License-Identifier: Apache-2.0

package turn_test

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"strconv"
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

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
	"github.com/otelcopilot/m365copilotreceiver/internal/turn"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a storage client in memory.
type memory struct {
	mu      sync.Mutex // guards what follows
	values  map[string][]byte
	fail    func(key string) bool // which calls fail; nil for none
	writes  int
	bytes   int // written so far
	longest int // value so far
}

func newMemory() *memory { return &memory{values: map[string][]byte{}} }

// load returns an Attribution that knows what is stored.
func (m *memory) load(t *testing.T, maxOpen int, logger *zap.Logger) *turn.Attribution {
	t.Helper()
	a := turn.New(turn.Settings{MaxOpen: maxOpen, Store: statestore.New(m), Logger: logger, Telemetry: &counted{}})
	require.NoError(t, a.Load(t.Context()))
	return a
}

func (m *memory) Get(ctx context.Context, key string) ([]byte, error) {
	get := storage.GetOperation(key)
	err := m.Batch(ctx, get)
	return get.Value, err
}

func (m *memory) Set(ctx context.Context, key string, value []byte) error {
	return m.Batch(ctx, storage.SetOperation(key, value))
}

func (m *memory) Delete(ctx context.Context, key string) error {
	return m.Batch(ctx, storage.DeleteOperation(key))
}

func (*memory) Close(context.Context) error { return nil }

func (m *memory) Batch(_ context.Context, operations ...*storage.Operation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range operations {
		if m.fail != nil && m.fail(o.Key) {
			return errDisk
		}
		switch o.Type {
		case storage.Get:
			o.Value = bytes.Clone(m.values[o.Key])
		case storage.Set:
			m.values[o.Key] = bytes.Clone(o.Value)
			m.writes++
			m.bytes += len(o.Value)
			m.longest = max(m.longest, len(o.Value))
		default:
			return errors.New("unknown operation")
		}
	}
	return nil
}

var errDisk = errors.New("the disk is full")

func (m *memory) setFail(fail func(key string) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = fail
}

func (m *memory) countWrites() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.writes
}

// damage changes a byte of each value whose key has a prefix, and returns how many there are.
func (m *memory) damage(prefix string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, value := range m.values {
		if strings.HasPrefix(key, prefix) {
			value[len(value)/2] ^= 0x55
			n++
		}
	}
	return n
}

// receive learns and attributes interactions, and returns the last one.
func receive(a *turn.Attribution, received ...interaction.Received) interaction.Received {
	a.Learn(received)
	a.Attribute(received)
	return received[len(received)-1]
}

func TestAttribution_SurvivesRestart(t *testing.T) {
	t.Parallel()
	const guest = "anna_fabrikam.example#EXT#@contoso.example"
	store := newMemory()
	before := store.load(t, 100, zap.NewNop())
	receive(before, prompt("s", "r1", "10", anna), prompt("guest", "r1", "10", guest), prompt("no ids", "", "9", anna))
	receive(before, prompt("shared", "r1", "10", anna), prompt("shared", "r2", "11", ben), meeting(prompt("meeting", "r1", "10", anna)))
	require.NoError(t, before.Save(t.Context()))

	after := store.load(t, 100, zap.NewNop())
	for name, test := range map[string]struct {
		response interaction.Received
		user     string
		source   interaction.UserSource
		turn     string
	}{
		"the user of a request":                           {response("s", "r1", "20"), anna, interaction.UserFromRequest, "r1"},
		"the user of a conversation":                      {response("s", "r2", "20"), anna, interaction.UserFromConversation, "r2"},
		"an id that is no GUID":                           {response("guest", "r1", "20"), strings.ToLower(guest), interaction.UserFromRequest, "r1"},
		"the turn of a prompt without a request id":       {response("no ids", "", "20"), anna, interaction.UserFromConversation, "9"},
		"the user of a request in a shared conversation":  {response("shared", "r2", "20"), ben, interaction.UserFromRequest, "r2"},
		"that a conversation is shared":                   {response("shared", "r3", "20"), "", "", "r3"},
		"that a conversation is a meeting":                {response("meeting", "r3", "20"), "", "", "r3"},
		"a conversation that was not known is not shared": {inHistory(anna, response("t", "r1", "20"))[0], anna, interaction.UserFromHistory, "r1"},
	} {
		got := receive(after, test.response)
		assert.Equal(t, test.user, got.UserID, name)
		assert.Equal(t, test.source, got.UserSource, name)
		assert.Equal(t, test.turn, got.Turn, name)
	}
}

// A block is stored again after any change, also if nothing was added.
func TestAttribution_StoresChangesOfKnownEntries(t *testing.T) {
	t.Parallel()
	store := newMemory()
	a := store.load(t, 100, zap.NewNop())
	receive(a, prompt("s", "r", "10", anna), prompt("no ids", "", "10", anna))
	require.NoError(t, a.Save(t.Context()))
	receive(a, prompt("s", "r", "20", ben), prompt("no ids", "", "20", anna))
	require.NoError(t, a.Save(t.Context()))
	a = store.load(t, 100, zap.NewNop())
	assert.Empty(t, receive(a, response("s", "r", "30")).UserID)
	assert.Equal(t, "20", receive(a, response("no ids", "", "30")).Turn)
}

// What is learnt again counts as the latest that was learnt, also after a restart: its block is evicted later.
func TestAttribution_WhatIsLearntAgainStays(t *testing.T) {
	t.Parallel()
	store := newMemory()
	a := store.load(t, 4, zap.NewNop())
	for i := range 30 {
		receive(a, prompt("again", "r", "10", anna))
		for j := range i % 3 {
			receive(a, prompt("s"+strconv.Itoa(i+j), "r", "10", ben))
		}
		require.NoError(t, a.Save(t.Context()))
		a = store.load(t, 4, zap.NewNop())
		assert.Equal(t, interaction.UserFromRequest, receive(a, response("again", "r", "20")).UserSource)
		assert.Equal(t, interaction.UserFromConversation, receive(a, response("again", "", "20")).UserSource)
	}
	assert.Empty(t, receive(a, response("s1", "r", "20")).UserID)
}

// The latest 65,536 evicted conversations are remembered, and few others are taken for one of them: also after a restart.
func TestAttribution_RemembersEvictedConversations(t *testing.T) {
	t.Parallel()
	const evicted, others = 150_000, 20_000
	store, evictions := newMemory(), &counted{}
	before := turn.New(turn.Settings{MaxOpen: 100, Store: statestore.New(store), Logger: zap.NewNop(), Telemetry: evictions})
	for i := range evicted {
		before.Learn([]interaction.Received{prompt("s"+strconv.Itoa(i), "", "10", anna)})
	}
	assert.InDelta(t, evicted, evictions.evicted, 200, "all but the last ones")
	require.NoError(t, before.Save(t.Context()))
	after := store.load(t, others, zap.NewNop())
	isShared := func(session string) bool {
		return receive(after, prompt(session, "", "20", anna), response(session, "", "21")).UserID == ""
	}
	for i := range others {
		assert.True(t, isShared("s"+strconv.Itoa(evicted-65_536+i)))
	}
	wrong := 0
	for i := range others {
		if isShared("t" + strconv.Itoa(i)) {
			wrong++
		}
	}
	t.Logf("%.2f %% of other conversations count as shared", 100*float64(wrong)/others)
	assert.Less(t, wrong, others/100)
}

// What is damaged might have said that a conversation is shared, so nothing of the rest is used, nor comes back later.
func TestAttribution_DamagedIsLearntAnew(t *testing.T) {
	t.Parallel()
	for _, damaged := range []string{"turn/block/0", "turn/block/1", "turn/evicted"} {
		t.Run(damaged, func(t *testing.T) {
			t.Parallel()
			store := newMemory()
			a := store.load(t, 1, zap.NewNop())
			for i := range 10 {
				receive(a, prompt("s"+strconv.Itoa(i), "r", "10", anna))
			}
			require.NoError(t, a.Save(t.Context()))
			require.Equal(t, 1, store.damage(damaged))
			core, lines := observer.New(zap.DebugLevel)
			a = store.load(t, 1, zap.New(core))
			assert.Empty(t, receive(a, response("s9", "r", "20")).UserID)
			receive(a, prompt("s8", "r", "20", ben))
			require.NoError(t, a.Save(t.Context()))
			a = store.load(t, 1, zap.New(core))
			assert.Empty(t, receive(a, response("s9", "r", "21")).UserID)
			assert.Equal(t, ben, receive(a, response("s8", "r2", "21")).UserID)
			require.Equal(t, 1, lines.Len(), "it was replaced")
			assert.Equal(t, "attributions in storage are damaged and are replaced", lines.All()[0].Message)
			assert.Equal(t, string(failure.StorageDamaged), lines.All()[0].ContextMap()["code"])
		})
	}
}

func TestAttribution_UnreadableStorageFailsLoad(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"turn/evicted", "turn/block/3"} {
		store := newMemory()
		store.fail = func(k string) bool { return k == key }
		a := turn.New(turn.Settings{MaxOpen: 100, Store: statestore.New(store), Logger: zap.NewNop(), Telemetry: &counted{}})
		require.ErrorIs(t, a.Load(t.Context()), errDisk)
	}
}

func TestAttribution_RunStoresWhatWasLearnt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		core, lines := observer.New(zap.DebugLevel)
		a := store.load(t, 100, zap.New(core))
		defer run(t, a)()
		time.Sleep(time.Minute)
		assert.Zero(t, store.countWrites(), "nothing was learnt")
		receive(a, prompt("s", "r1", "10", anna))
		receive(a, prompt("s", "r1", "10", anna), response("s", "r1", "11"))
		time.Sleep(time.Minute)
		assert.Equal(t, 1, store.countWrites(), "a prompt that is known, and a response, change nothing")

		store.setFail(func(string) bool { return true })
		receive(a, prompt("s", "r2", "12", anna))
		time.Sleep(time.Minute)
		store.setFail(nil)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		assert.Equal(t, 2, store.countWrites())
		var logged []string
		for _, line := range lines.All() {
			logged = append(logged, line.Message)
		}
		assert.Equal(t, []string{"attributions can't be stored", "attributions are stored again"}, logged)
		assert.Equal(t, string(failure.StorageFailing), lines.All()[0].ContextMap()["code"])
		assert.Equal(t, anna, receive(store.load(t, 100, zap.NewNop()), response("s", "r2", "13")).UserID)
	})
}

func TestAttribution_StoresIDsAlone(t *testing.T) {
	t.Parallel()
	store := newMemory()
	a := store.load(t, 100, zap.NewNop())
	asks := prompt("session", "request", "10", anna)
	asks.Body.Content, asks.From.User.DisplayName = "a secret", "a name"
	receive(a, asks)
	require.NoError(t, a.Save(t.Context()))
	require.Len(t, store.values, 1)
	for _, value := range store.values {
		assert.Contains(t, string(value), anna)
		for _, part := range []string{"secret", "name", "session", "request", tenant} {
			assert.NotContains(t, string(value), part)
		}
	}
}

func TestAttribution_WithoutStorageKeepsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAttributor(100)
		require.NoError(t, a.Load(t.Context()))
		stop := run(t, a.Attribution)
		a.add(prompt("s", "r1", "10", anna))
		time.Sleep(time.Minute)
		stop()
		require.NoError(t, a.Save(t.Context()))
	})
}

// In an hour of 10 prompts a second, each of a conversation of its own, the storage gets less than 2 KB for each.
func TestAttribution_WritesLittleForEachPrompt(t *testing.T) {
	t.Parallel()
	for name, learntBefore := range map[string]int{"empty": 0, "full, so that each block evicts another": 110_000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := newMemory()
				a := store.load(t, 100_000, zap.NewNop())
				for i := range learntBefore {
					a.Learn([]interaction.Received{prompt("before"+strconv.Itoa(i), "r", "1", anna)})
				}
				require.NoError(t, a.Save(t.Context()))
				store.bytes = 0
				stop := run(t, a)
				const prompts = 36_000
				for i := range prompts {
					a.Learn([]interaction.Received{prompt("s"+strconv.Itoa(i), "r", "1700000000000", anna)})
					time.Sleep(100 * time.Millisecond)
				}
				stop()
				require.NoError(t, a.Save(t.Context()))
				t.Logf("%d bytes for each prompt, values of at most %d bytes", store.bytes/prompts, store.longest)
				assert.Less(t, store.bytes/prompts, 2000)
			})
		})
	}
}

// run runs an Attribution until the returned function is called.
func run(t *testing.T, a *turn.Attribution) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.Run(ctx)
	}()
	return func() {
		cancel()
		<-ended
	}
}

// Not parallel: it measures the heap of the process.
func TestAttribution_NeedsLittleMemory(t *testing.T) {
	const maxOpen = 100_000
	before := heap()
	a := newAttributor(maxOpen)
	for i := range 3 * maxOpen {
		n := strconv.Itoa(i)
		a.Learn([]interaction.Received{prompt("19:"+n+"@thread.v2", n, "1700000000000", strings.Clone(anna))})
	}
	used := heap() - before
	t.Logf("%.1f MiB, %.0f bytes for each prompt", float64(used)/(1<<20), float64(used)/maxOpen)
	assert.Less(t, used, 40<<20)
	runtime.KeepAlive(a)
}

func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// BenchmarkAttribution is what a prompt and its response cost.
func BenchmarkAttribution(b *testing.B) {
	a := newAttributor(100_000)
	batches := make([][]interaction.Received, 50_000)
	for i := range batches {
		n := strconv.Itoa(i)
		session := "19:" + n + "c0ffee00c0ffee00c0ffee00@thread.v2"
		request := "5b0f6c1e-8f55-4c0a-9a3e-0d7f4f2b6a11"
		batches[i] = []interaction.Received{prompt(session, request, "1700000000000", anna), response(session, request, "1700000000001")}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		batch := batches[i%len(batches)]
		batch[1].UserID, batch[1].UserSource = "", ""
		a.Learn(batch)
		a.Attribute(batch)
	}
}
