package dedupe_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newDeduplicator returns a Deduplicator that keeps 1000 entries for 26 h unless change sets something else.
func newDeduplicator(tb testing.TB, out dedupe.Pipeline, change func(*dedupe.Settings)) *dedupe.Deduplicator {
	tb.Helper()
	set := dedupe.Settings{Next: out, MaxOpen: 100, Window: 26 * time.Hour, MaxEntries: 1000}
	if change != nil {
		change(&set)
	}
	d, err := dedupe.New(set)
	require.NoError(tb, err)
	return d
}

// fakePipeline accepts everything unless err is set.
type fakePipeline struct {
	mu    sync.Mutex
	got   []interaction.Received
	calls int
	err   error
}

func (o *fakePipeline) Deliver(_ context.Context, received []interaction.Received) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls++
	if o.err == nil {
		o.got = append(o.got, received...)
	}
	return o.err
}

func (o *fakePipeline) ids() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var ids []string
	for i := range o.got {
		ids = append(ids, o.got[i].ID)
	}
	return ids
}

// blockingPipeline is a pipeline in which each delivery waits for its result, or for the end of its context.
type blockingPipeline struct {
	arrived chan delivery
}

type delivery struct {
	ids    []string
	decide chan error
}

func newBlockingPipeline() *blockingPipeline {
	return &blockingPipeline{arrived: make(chan delivery, 100)}
}

func (g *blockingPipeline) Deliver(ctx context.Context, received []interaction.Received) error {
	d := delivery{decide: make(chan error, 1)}
	for i := range received {
		d.ids = append(d.ids, received[i].ID)
	}
	g.arrived <- d
	select {
	case err := <-d.decide:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

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
	r.ContentDigest = sha256.Sum256([]byte("content of " + id))
	return r
}

func items(from, to int) []interaction.Received {
	var all []interaction.Received
	for i := from; i < to; i++ {
		all = append(all, item(strconv.Itoa(i)))
	}
	return all
}

func updated(r interaction.Received, etag string) interaction.Received {
	r.Change, r.ETag = interaction.Updated, etag
	r.ContentDigest = sha256.Sum256([]byte("content of " + r.ID + " as of " + etag))
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
	r.Source, r.ContentDigest = interaction.FromHistory, [32]byte{}
	return r
}

var errStore = errors.New("disk full")

// fakeStore keeps values in memory.
type fakeStore struct {
	mu     sync.Mutex
	values map[string][]byte
	gets   int
	sets   int
	// before is called before each write, without the lock; its error is the write's.
	before func(key string) error
	// unreadable makes Get fail for these keys; all means every key.
	unreadable map[string]bool
	all        bool
}

func newFakeStore() *fakeStore { return &fakeStore{values: map[string][]byte{}} }

func (s *fakeStore) Get(_ context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets++
	if s.all || s.unreadable[key] {
		return nil, errStore
	}
	return s.values[key], nil
}

func (s *fakeStore) Set(ctx context.Context, key string, value []byte) error {
	return s.write(ctx, key, func() { s.values[key] = value; s.sets++ })
}

func (s *fakeStore) Delete(ctx context.Context, key string) error {
	return s.write(ctx, key, func() { delete(s.values, key) })
}

func (s *fakeStore) write(ctx context.Context, key string, do func()) error {
	s.mu.Lock()
	before := s.before
	s.mu.Unlock()
	if before != nil {
		if err := before(key); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
	return nil
}

func (s *fakeStore) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = func(string) error { return err }
}

func (s *fakeStore) repair() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = nil
}

func (s *fakeStore) written() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sets
}

func (s *fakeStore) keys() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.values)
}

func number(id string) int {
	n, err := strconv.Atoi(id)
	if err != nil {
		panic(err)
	}
	return n
}
