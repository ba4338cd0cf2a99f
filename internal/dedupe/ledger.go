package dedupe

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Store keeps values by key, as a storage client of the Collector does.
type Store interface {
	// Get returns nil, nil for an absent key.
	Get(ctx context.Context, key string) ([]byte, error)
	Set(ctx context.Context, key string, value []byte) error
	Delete(ctx context.Context, key string) error
}

// The keys in the store. They are few and known, since a store can't be asked for its keys.
const (
	// indexKey holds a page without records. Its number is that of the oldest chunk; absent means 0.
	indexKey = "seen/index"
	// segmentCount is how many deliveries are written down between two merges.
	segmentCount = 64
	// chunkKeys is how many keys the chunks use in turn.
	chunkKeys = 1 << 15
	// MaxEntries is the largest Settings.MaxEntries. It leaves room for chunks that are not full, and for a second copy while
	// a damaged store is replaced.
	MaxEntries = chunkKeys / 4 * chunkSize
)

// unknown is an index that is to be written whatever the oldest chunk is.
const unknown = math.MaxUint64

// writeTimeout bounds one write, since a delivery waits for up to two of them before it is acknowledged.
const writeTimeout = time.Second

func segmentKey(slot int) string { return "seen/j/" + strconv.Itoa(slot) }

func chunkKey(number uint64) string {
	return "seen/c/" + strconv.FormatUint(number%chunkKeys, 10)
}

// journal writes the window down. Each delivery is first written as a segment of a journal; when some have come together,
// the chunks of the window's queue that are new or have grown are written, and the segments are free to be overwritten.
// Every value is whole in itself: after a kill -9 between any two writes an entry is at worst read twice.
type journal struct {
	store  Store
	window *cache
	logger *zap.Logger

	mu sync.Mutex // guards what follows
	// waiting was delivered and not written down yet.
	waiting []*batch

	// turn holds a value while somebody writes, who alone uses what follows.
	turn chan struct{}
	// last is the number of the last segment, merged that of the last one that the chunks contain.
	last, merged uint64
	// used is how many segments were written since the last merge.
	used int
	// indexed is the number of the oldest chunk as the store has it, or unknown.
	indexed uint64
	// stale are keys to delete once the chunks are written.
	stale map[string]struct{}
	// incomplete is true while the store lacks something that the window has.
	incomplete bool
	// failing is true from a failure, which is logged, until a write succeeds.
	failing bool

	// full asks for a merge.
	full chan struct{}
}

func newJournal(store Store, window *cache, logger *zap.Logger) *journal {
	return &journal{
		store: store, window: window, logger: logger,
		turn: make(chan struct{}, 1), full: make(chan struct{}, 1), stale: map[string]struct{}{},
	}
}

// keep writes down that a batch was delivered, and then makes it known: nobody is told of a delivery that a kill -9 would
// make forgotten. Of those who wait for their turn, the first writes for all.
func (l *journal) keep(ctx context.Context, b *batch) {
	l.mu.Lock()
	l.waiting = append(l.waiting, b)
	l.mu.Unlock()
	select {
	case <-b.decided:
		return
	case l.turn <- struct{}{}:
	}
	defer func() { <-l.turn }()
	l.mu.Lock()
	batches := l.waiting
	l.waiting = nil
	l.mu.Unlock()
	if len(batches) == 0 {
		return
	}
	err := l.append(ctx, batches)
	l.report(err)
	// Without its entry in the store a delivery is still a delivery: a duplicate after a restart is better than a loss.
	l.incomplete = l.incomplete || err != nil
	l.window.keep(time.Now(), batches...)
	if err == nil && (l.incomplete || l.used >= segmentCount/2) {
		select {
		case l.full <- struct{}{}:
		default:
		}
	}
}

func (l *journal) append(ctx context.Context, batches []*batch) error {
	if l.used >= segmentCount {
		if err := l.merge(ctx); err != nil {
			return err
		}
	}
	now := time.Now()
	// By the clock a number is greater than any that could not be read.
	segment := storedSegment{number: max(l.last+1, uint64(max(now.UnixNano(), 0)))}
	if l.indexed != unknown {
		segment.reference = l.indexed
	}
	for _, b := range batches {
		for _, r := range b.records {
			r.at = seconds(now)
			segment.records = append(segment.records, r)
		}
	}
	if err := l.set(ctx, segmentKey(l.used), segment); err != nil {
		return err
	}
	l.last = segment.number
	l.used++
	return nil
}

// merge writes the chunks that the store doesn't have as they are, then the number of the oldest, and only then lets the
// segments be overwritten and deletes the chunks that left the window.
func (l *journal) merge(ctx context.Context) error {
	first, chunks := l.window.unwritten()
	for i, c := range chunks {
		merged := l.merged
		if i == len(chunks)-1 {
			merged = l.last
		}
		if err := l.set(ctx, chunkKey(c.number), storedSegment{number: c.number, reference: merged, records: c.records}); err != nil {
			return err
		}
		delete(l.stale, chunkKey(c.number))
		l.window.wrote(c)
	}
	if first != l.indexed {
		if err := l.set(ctx, indexKey, storedSegment{number: first}); err != nil {
			return err
		}
		for ; l.indexed < first; l.indexed++ {
			l.stale[chunkKey(l.indexed)] = struct{}{}
		}
		l.indexed = first
	}
	l.merged, l.used, l.incomplete = l.last, 0, false
	for key := range l.stale {
		if err := l.delete(ctx, key); err != nil {
			return err
		}
		delete(l.stale, key)
	}
	return nil
}

// tidy merges when it is time to.
func (l *journal) tidy(ctx context.Context) {
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return
	}
	defer func() { <-l.turn }()
	if l.used >= segmentCount/2 || l.incomplete || len(l.stale) > 0 || l.window.first() != l.indexed {
		// A merge that was begun is brought to its end.
		l.report(l.merge(context.WithoutCancel(ctx)))
	}
}

func (l *journal) save(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("wait to write down what was delivered: %w", ctx.Err())
	}
	defer func() { <-l.turn }()
	return l.merge(ctx)
}

func (l *journal) set(ctx context.Context, key string, p storedSegment) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if err := l.store.Set(ctx, key, p.encode()); err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	return nil
}

func (l *journal) delete(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if err := l.store.Delete(ctx, key); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

// report logs the first failure and the end of failing.
func (l *journal) report(err error) {
	switch {
	case err != nil && !l.failing:
		l.logger.Warn("what was delivered can't be written to the storage: after a restart now it may be delivered again; see to the storage extension", zap.Error(err))
	case err == nil && l.failing:
		l.logger.Info("what was delivered is written to the storage again")
	}
	l.failing = err != nil
}
