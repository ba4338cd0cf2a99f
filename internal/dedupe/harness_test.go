// SPDX-License-Identifier: Apache-2.0

package dedupe_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	tenant = "6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10"
	anna   = "b2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f00"
	ben    = "0d9c8b7a-6f5e-4d3c-8b2a-190807060504"

	window = 26 * time.Hour
)

func response(session, request, id string) interaction.Received {
	return interaction.Received{
		Interaction: interaction.Interaction{ID: id, SessionID: session, RequestID: request, Type: interaction.TypeAIResponse},
		TenantID:    tenant,
		Change:      interaction.Created,
	}
}

// newCache returns a Cache that keeps 1000 entries for 26 h unless change sets something else.
func newCache(tb testing.TB, change func(*dedupe.Settings)) *dedupe.Cache {
	tb.Helper()
	set := dedupe.Settings{
		Window: window, MaxEntries: 1000, RetainFrom: func() time.Time { return time.Time{} }, Logger: zap.NewNop(), Telemetry: uncounted{},
	}
	if change != nil {
		change(&set)
	}
	return dedupe.New(set)
}

// pipeline delivers what a Cache does not know, as the receiver does.
type pipeline struct {
	cache *dedupe.Cache
	// reserve is a method of the cache.
	reserve func(context.Context, []interaction.Received) *dedupe.Reservation
	// arrived gets each delivery, which then waits for its result; nil to accept everything at once.
	arrived chan delivery
	// outcome returns the result of a delivery; nil to accept everything.
	outcome func() error

	mu        sync.Mutex // guards what follows
	got       []interaction.Received
	calls     int
	recovered int
	err       error
}

type delivery struct {
	ids    []string
	decide chan error
}

func newPipeline(c *dedupe.Cache) *pipeline { return &pipeline{cache: c, reserve: c.Reserve} }

func newBlockingPipeline(c *dedupe.Cache) *pipeline {
	return &pipeline{cache: c, reserve: c.Reserve, arrived: make(chan delivery, 100)}
}

// take delivers interactions, and returns the joined errors of the deliveries and of what is in flight elsewhere.
func (p *pipeline) take(ctx context.Context, received ...interaction.Received) error {
	for len(received) > 0 {
		r := p.reserve(ctx, received)
		err := p.deliver(r)
		if err == nil {
			r.Commit()
		} else {
			r.Release()
		}
		again, elsewhere := r.Wait(ctx)
		if err != nil || elsewhere != nil {
			return errors.Join(err, elsewhere)
		}
		received = again
	}
	return nil
}

func (p *pipeline) deliver(r *dedupe.Reservation) error {
	if len(r.New) == 0 {
		return nil
	}
	if p.arrived != nil {
		d := delivery{decide: make(chan error, 1)}
		for i := range r.New {
			d.ids = append(d.ids, r.New[i].ID)
		}
		p.arrived <- d
		if err := <-d.decide; err != nil {
			return err
		}
	}
	if p.outcome != nil {
		if err := p.outcome(); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	if p.err == nil {
		p.got = append(p.got, r.New...)
		p.recovered += r.Recovered
	}
	return p.err
}

func (p *pipeline) ids() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ids []string
	for i := range p.got {
		ids = append(ids, p.got[i].ID)
	}
	return ids
}

// changes returns what was delivered as n:created, h:updated and so on.
func (p *pipeline) changes() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var changes []string
	for i := range p.got {
		changes = append(changes, string(p.got[i].Source[0])+":"+string(p.got[i].Change))
	}
	return changes
}

// uncounted ignores duplicates.
type uncounted struct{}

func (uncounted) Duplicate(context.Context, interaction.Source) {}

// duplicateCounter counts duplicates by source.
type duplicateCounter struct {
	mu sync.Mutex
	of map[interaction.Source]int
}

func (d *duplicateCounter) Duplicate(_ context.Context, source interaction.Source) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of == nil {
		d.of = map[interaction.Source]int{}
	}
	d.of[source]++
}

func (d *duplicateCounter) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.of[interaction.FromNotification] + d.of[interaction.FromHistory]
}

// item returns a response that came by notification.
func item(id string) interaction.Received {
	r := response("session", "request", id)
	r.ETag = id
	r.Source = interaction.FromNotification
	r.ContentDigest = contentOf(id)
	return r
}

func contentOf(id string) [32]byte { return sha256.Sum256([]byte("content of " + id)) }

func items(from, to int) []interaction.Received {
	all := make([]interaction.Received, 0, to-from)
	for i := from; i < to; i++ {
		all = append(all, item(strconv.Itoa(i)))
	}
	return all
}

// version returns an interaction with another etag, as it is sent in another notification.
func version(r interaction.Received, etag string) interaction.Received {
	r.ETag = etag
	r.ContentDigest = sha256.Sum256([]byte("content of " + r.ID + " as of " + etag))
	return r
}

func updated(r interaction.Received, etag string) interaction.Received {
	r = version(r, etag)
	r.Change = interaction.Updated
	return r
}

func deleted(r interaction.Received) interaction.Received {
	r.Change = interaction.Deleted
	r.ContentDigest = sha256.Sum256([]byte("content of the deletion of " + r.ID + " as of " + r.ETag))
	return r
}

func tombstone(subscription, id string) interaction.Received {
	return interaction.Received{
		Interaction: interaction.Interaction{ID: id}, TenantID: tenant, SubscriptionID: subscription,
		Change: interaction.Deleted, Source: interaction.FromNotification, WithoutContent: true,
	}
}

func fromHistory(r interaction.Received) interaction.Received {
	r.Source, r.ContentDigest, r.Change = interaction.FromHistory, [32]byte{}, interaction.Created
	return r
}

func createdAt(r interaction.Received, at time.Time) interaction.Received {
	r.CreatedDateTime = at
	return r
}

var errStorage = errors.New("disk full")

// fakeClient is a storage client that keeps values in memory, without transactions.
type fakeClient struct {
	mu     sync.Mutex
	values map[string][]byte
	// before is called before each operation, Get included, without the lock; its error is the operation's.
	before func(op *storage.Operation) error
	// batches counts calls that write.
	batches int
}

func newFakeClient() *fakeClient { return &fakeClient{values: map[string][]byte{}} }

func (s *fakeClient) Get(ctx context.Context, key string) ([]byte, error) {
	op := storage.GetOperation(key)
	err := s.do(ctx, op)
	return op.Value, err
}

func (s *fakeClient) Set(ctx context.Context, key string, value []byte) error {
	return s.do(ctx, storage.SetOperation(key, value))
}

func (s *fakeClient) Delete(ctx context.Context, key string) error {
	return s.do(ctx, storage.DeleteOperation(key))
}

func (s *fakeClient) Close(context.Context) error { return nil }

func (s *fakeClient) Batch(ctx context.Context, ops ...*storage.Operation) error {
	s.mu.Lock()
	s.batches++
	s.mu.Unlock()
	for _, op := range ops {
		if err := s.do(ctx, op); err != nil {
			return err
		}
	}
	return nil
}

func (s *fakeClient) do(ctx context.Context, op *storage.Operation) error {
	s.mu.Lock()
	before := s.before
	s.mu.Unlock()
	if before != nil {
		if err := before(op); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch op.Type {
	case storage.Get:
		op.Value = s.values[op.Key]
	case storage.Set:
		s.values[op.Key] = op.Value
	case storage.Delete:
		delete(s.values, op.Key)
	}
	return ctx.Err()
}

// intercept sets before; nil repairs the client.
func (s *fakeClient) intercept(before func(*storage.Operation) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = before
}

func failWrites(op *storage.Operation) error {
	if op.Type == storage.Get {
		return nil
	}
	return errStorage
}

func (s *fakeClient) written() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.batches
}

func (s *fakeClient) keys() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.values)
}

// blocks returns how many blocks there are.
func (s *fakeClient) blocks() int {
	count := 0
	for key := range s.keys() {
		if strings.HasPrefix(key, "dedupe/block/") {
			count++
		}
	}
	return count
}

// load returns a Cache that has read a storage client.
func load(tb testing.TB, client storage.Client, change func(*dedupe.Settings)) (*dedupe.Cache, *observer.ObservedLogs) {
	tb.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	c := newCache(tb, func(set *dedupe.Settings) {
		set.Store, set.Logger = statestore.New(client), zap.New(core)
		if change != nil {
			change(set)
		}
	})
	require.NoError(tb, c.Load(tb.Context()))
	return c, logs
}

// run starts Run, and returns a function that ends it.
func run(tb testing.TB, c *dedupe.Cache) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	var running sync.WaitGroup
	running.Go(func() { c.Run(ctx) })
	return func() {
		cancel()
		running.Wait()
		if _, bubble := tb.(*testing.T); bubble {
			synctest.Wait() // A write that was under way is given up, and may still reach the storage.
		}
	}
}

func with100000Entries(set *dedupe.Settings) { set.MaxEntries = 100_000 }

// deliver delivers items in batches of the given size.
func deliver(tb testing.TB, c *dedupe.Cache, from, to, size int) {
	tb.Helper()
	for ; from < to; from += size {
		require.NoError(tb, newPipeline(c).take(tb.Context(), items(from, min(from+size, to))...))
	}
}

// countUnknown counts the items that the cache does not know.
func countUnknown(c *dedupe.Cache, from, to int) int {
	count := 0
	for n := from; n < to; n++ {
		if !c.Known(contentOf(strconv.Itoa(n))) {
			count++
		}
	}
	return count
}

// awaitWritten waits, in a synctest bubble, until everything that was delivered is written.
func awaitWritten() {
	time.Sleep(10 * time.Millisecond)
	synctest.Wait()
}
