package dedupe

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
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

// batchRecords is a chunk as it was at one moment.
type batchRecords struct {
	number  uint64
	records []record
	chunk   *chunk
	size    int
}

// unwritten gives the number of the oldest chunk, and the chunks that the store does not have as they are.
func (w *cache) unwritten() (first uint64, images []batchRecords) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.queue.chunks {
		if c.written < len(c.records) {
			images = append(images, batchRecords{number: c.number, records: c.records[c.from:], chunk: c, size: len(c.records)})
		}
	}
	return w.queue.first(), images
}

// wrote notes that the store has a chunk as it was.
func (w *cache) wrote(i batchRecords) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i.chunk.written = i.size
}

func (w *cache) first() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.queue.first()
}

// restore adds a chunk as the store has it.
func (w *cache) restore(p storedSegment, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	kept := p.records[:0]
	for _, r := range p.records {
		if w.readmit(&r, now) {
			kept = append(kept, r)
		}
	}
	w.queue.adopt(p.number, kept)
	w.trim(now)
}

// add adds records that no chunk of the store has, and returns how many of them were new.
func (w *cache) add(records []record, now time.Time) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	added := 0
	for _, r := range records {
		if w.readmit(&r, now) {
			w.queue.push(r)
			added++
		}
	}
	w.trim(now)
	return added
}

// startAt gives the chunks to come numbers from next on.
func (w *cache) startAt(next uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue.next = next
}

// readmit learns what was stored, unless it is known already or too old.
func (w *cache) readmit(r *record, now time.Time) bool {
	// A clock that was ahead must not make an entry live longer.
	r.at = min(r.at, seconds(now))
	if at, ok := w.seen[r.key]; w.expired(r.at, now) || (ok && at >= r.at) {
		return false
	}
	w.learn(*r)
	return true
}

// storedSegment is one value in the store. Its form, with big-endian numbers:
//
//	version (1 byte), CRC-32C of what follows (4), number (8), reference (8), then for each record at (4), key (16), signature (16)
type storedSegment struct {
	// number orders the pages of a kind.
	number uint64
	// reference of a chunk says that the segments up to this number are contained in this chunk and those before it.
	// That of a segment is the number of the oldest chunk when it was written.
	reference uint64
	records   []record
}

const (
	version    = 1
	headerSize = 1 + 4 + 8 + 8
	recordSize = 4 + 16 + 16
)

// The reasons why a value can't be read.
var (
	errMissing = errors.New("missing")
	errForeign = errors.New("written by another version, or by something else")
	errCorrupt = errors.New("corrupt")
)

func (p storedSegment) encode() []byte {
	value := make([]byte, 5, headerSize+len(p.records)*recordSize)
	value[0] = version
	value = binary.BigEndian.AppendUint64(value, p.number)
	value = binary.BigEndian.AppendUint64(value, p.reference)
	for i := range p.records {
		r := &p.records[i]
		value = binary.BigEndian.AppendUint32(value, r.at)
		value = append(value, r.key[:]...)
		value = append(value, r.signature[:]...)
	}
	binary.BigEndian.PutUint32(value[1:], checksum(value[5:]))
	return value
}

func decode(value []byte) (storedSegment, error) {
	if len(value) == 0 || value[0] != version {
		return storedSegment{}, errForeign
	}
	if len(value) < headerSize || (len(value)-headerSize)%recordSize != 0 {
		return storedSegment{}, fmt.Errorf("%w: %d bytes", errCorrupt, len(value))
	}
	if checksum(value[5:]) != binary.BigEndian.Uint32(value[1:]) {
		return storedSegment{}, fmt.Errorf("%w: wrong checksum", errCorrupt)
	}
	p := storedSegment{
		number:    binary.BigEndian.Uint64(value[5:]),
		reference: binary.BigEndian.Uint64(value[13:]),
		records:   make([]record, 0, (len(value)-headerSize)/recordSize),
	}
	for rest := value[headerSize:]; len(rest) > 0; rest = rest[recordSize:] {
		p.records = append(p.records, record{
			at:        binary.BigEndian.Uint32(rest),
			key:       digest(rest[4:20]),
			signature: digest(rest[20:36]),
		})
	}
	return p, nil
}

func checksum(b []byte) uint32 {
	return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
}

// maxReadFailures is how many failing reads in a row mean that the store can't be read at all.
const maxReadFailures = 3

// lookahead is how many chunks may be missing in a row before those after them are given up.
const lookahead = 4

// loadState is what a start finds in the store.
type loadState struct {
	store Store
	// chunks and segments are what could be read, the oldest first.
	chunks, segments []storedSegment
	// index is the number of the oldest chunk.
	index uint64
	// found are the keys of the chunks, readable or not; useless are other keys that are good for nothing.
	found, useless []string
	// broken is true if the index or a chunk could not be read, unreadable if nothing could.
	broken, unreadable bool
	// problems counts the values that could not be read; example is the first reason.
	problems int
	example  error
	// failures counts reads that failed one after another.
	failures int
}

// load fills the window with what the store has, and makes the store sound where it is not.
func (l *journal) load(ctx context.Context) error {
	r := &loadState{store: l.store}
	r.readSegments(ctx)
	r.readChunks(ctx)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("read what was delivered before: %w", err)
	}
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	l.restore(r, time.Now())
	var err error
	if l.incomplete || len(l.stale) > 0 {
		err = l.merge(ctx)
	}
	if r.problems == 0 {
		l.report(err)
		return nil
	}
	l.failing = err != nil
	l.logger.Warn("part of what was delivered before can't be read from the storage and is replaced: what Microsoft Graph sends again of it is delivered again",
		zap.Int("values", r.problems), zap.Error(r.example), zap.NamedError("replacing", err))
	return nil
}

// restore fills the window. Where a chunk is broken, all of them are written anew under other numbers.
func (l *journal) restore(r *loadState, now time.Time) {
	l.indexed = r.index
	for _, key := range r.useless {
		l.stale[key] = struct{}{}
	}
	next := r.index
	for _, p := range r.chunks {
		next = max(next, p.number+1)
		l.merged = max(l.merged, p.reference)
	}
	if r.unreadable {
		// By the clock, what will be written gets greater numbers than what is there, and so is younger.
		clock := uint64(max(now.UnixNano(), 0))
		l.merged, next = clock, clock
	}
	l.window.startAt(next)
	if r.broken {
		l.indexed = unknown
		l.incomplete = true
		for _, key := range r.found {
			l.stale[key] = struct{}{}
		}
	}
	for _, p := range r.chunks {
		if r.broken {
			l.window.add(p.records, now)
		} else {
			l.window.restore(p, now)
		}
	}
	l.last = l.merged
	for _, p := range r.segments {
		if p.number <= l.merged {
			continue
		}
		l.last = p.number
		if l.window.add(p.records, now) > 0 {
			l.incomplete = true
		}
	}
	if l.incomplete {
		// Until they are merged, no segment is free.
		l.used = segmentCount
	}
}

// readChunks follows the chunks from the oldest on. If nothing tells which that is, it looks at every key.
func (r *loadState) readChunks(ctx context.Context) {
	if r.hopeless(ctx) {
		r.broken, r.unreadable = true, true
		return
	}
	index, found, err := r.get(ctx, indexKey)
	if err == nil && !found && slices.ContainsFunc(r.segments, func(p storedSegment) bool { return p.reference > 0 }) {
		err = fmt.Errorf("read %s: %w", indexKey, errMissing)
		r.problem(err)
	}
	if err != nil {
		r.broken = true
		for n := uint64(0); n < chunkKeys && !r.hopeless(ctx); n++ {
			r.readChunk(ctx, n)
		}
		slices.SortFunc(r.chunks, byNumber)
		return
	}
	r.index = index.number
	r.follow(ctx)
	r.findLeftovers(ctx)
}

// follow reads the chunks from the index on, past those that are broken or missing.
func (r *loadState) follow(ctx context.Context) {
	absent := 0
	for n := r.index; n-r.index < chunkKeys && absent <= lookahead && !r.hopeless(ctx); n++ {
		if !r.readChunk(ctx, n) {
			absent++
			continue
		}
		if absent > 0 {
			r.broken = true
			r.problem(fmt.Errorf("read %s: %w", chunkKey(n-1), errMissing))
		}
		absent = 0
	}
}

// findLeftovers looks for chunks that the index does not know any more, but that a kill -9 kept from being deleted.
func (r *loadState) findLeftovers(ctx context.Context) {
	for n := r.index; n > 0 && r.index-n < chunkKeys; n-- {
		if value, err := r.store.Get(ctx, chunkKey(n-1)); err != nil || value == nil {
			return
		}
		r.useless = append(r.useless, chunkKey(n-1))
	}
}

// readChunk returns false where there is none.
func (r *loadState) readChunk(ctx context.Context, number uint64) bool {
	key := chunkKey(number)
	p, found, err := r.get(ctx, key)
	switch {
	case err != nil:
		r.broken = true
	case !found:
		return false
	case p.number < r.index:
		// It left the window long ago.
		r.useless = append(r.useless, key)
		return false
	case chunkKey(p.number) != key:
		r.broken = true
		r.problem(fmt.Errorf("read %s: %w", key, errForeign))
	default:
		r.chunks = append(r.chunks, p)
	}
	r.found = append(r.found, key)
	return true
}

func (r *loadState) readSegments(ctx context.Context) {
	for slot := range segmentCount {
		if r.hopeless(ctx) {
			return
		}
		p, found, err := r.get(ctx, segmentKey(slot))
		switch {
		case err != nil:
			r.useless = append(r.useless, segmentKey(slot))
		case found:
			r.segments = append(r.segments, p)
		}
	}
	slices.SortFunc(r.segments, byNumber)
}

func byNumber(a, b storedSegment) int { return cmp.Compare(a.number, b.number) }

// hopeless is true where going on would only take time.
func (r *loadState) hopeless(ctx context.Context) bool {
	return r.failures >= maxReadFailures || ctx.Err() != nil
}

func (r *loadState) get(ctx context.Context, key string) (p storedSegment, found bool, err error) {
	value, err := r.store.Get(ctx, key)
	switch {
	case err != nil:
		r.failures++
	case value == nil:
		r.failures = 0
		return storedSegment{}, false, nil
	default:
		r.failures = 0
		p, err = decode(value)
	}
	if err != nil {
		err = fmt.Errorf("read %s: %w", key, err)
		r.problem(err)
		return storedSegment{}, false, err
	}
	return p, true, nil
}

func (r *loadState) problem(err error) {
	r.problems++
	if r.example == nil {
		r.example = err
	}
}
