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
	// blockKeys is how many keys the chunks use in turn.
	blockKeys = 1 << 15
	// MaxEntries is the largest Settings.MaxEntries. It leaves room for chunks that are not full, and for a second copy while
	// a damaged store is replaced.
	MaxEntries = blockKeys / 4 * blockSize
)

// unknown is an index that is to be written whatever the oldest chunk is.
const unknownIndex = math.MaxUint64

// writeTimeout bounds one write, since a delivery waits for up to two of them before it is acknowledged.
const writeTimeout = time.Second

func segmentKey(slot int) string { return "seen/j/" + strconv.Itoa(slot) }

func blockKey(number uint64) string {
	return "seen/c/" + strconv.FormatUint(number%blockKeys, 10)
}

// journal writes the window down. Each delivery is first written as a segment of a journal; when some have come together,
// the chunks of the window's queue that are new or have grown are written, and the segments are free to be overwritten.
// Every value is whole in itself: after a kill -9 between any two writes an entry is at worst read twice.
type journal struct {
	store  Store
	cache  *cache
	logger *zap.Logger

	mu sync.Mutex // guards what follows
	// waiting was delivered and not written down yet.
	waiting []*batch

	// writing holds a value while somebody writes, who alone uses what follows.
	writing chan struct{}
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

	// mergeNeeded asks for a merge.
	mergeNeeded chan struct{}
}

func newJournal(store Store, cache *cache, logger *zap.Logger) *journal {
	return &journal{
		store: store, cache: cache, logger: logger,
		writing: make(chan struct{}, 1), mergeNeeded: make(chan struct{}, 1), stale: map[string]struct{}{},
	}
}

// commit writes down that a batch was delivered, and then makes it known: nobody is told of a delivery that a kill -9 would
// make forgotten. Of those who wait for their turn, the first writes for all.
func (j *journal) commit(ctx context.Context, b *batch) {
	j.mu.Lock()
	j.waiting = append(j.waiting, b)
	j.mu.Unlock()
	select {
	case <-b.done:
		return
	case j.writing <- struct{}{}:
	}
	defer func() { <-j.writing }()
	j.mu.Lock()
	batches := j.waiting
	j.waiting = nil
	j.mu.Unlock()
	if len(batches) == 0 {
		return
	}
	err := j.append(ctx, batches)
	j.report(err)
	// Without its entry in the store a delivery is still a delivery: a duplicate after a restart is better than a loss.
	j.incomplete = j.incomplete || err != nil
	j.cache.commit(time.Now(), batches...)
	if err == nil && (j.incomplete || j.used >= segmentCount/2) {
		select {
		case j.mergeNeeded <- struct{}{}:
		default:
		}
	}
}

func (j *journal) append(ctx context.Context, batches []*batch) error {
	if j.used >= segmentCount {
		if err := j.merge(ctx); err != nil {
			return err
		}
	}
	now := time.Now()
	// By the clock a number is greater than any that could not be read.
	segment := storedSegment{number: max(j.last+1, uint64(max(now.UnixNano(), 0)))}
	if j.indexed != unknownIndex {
		segment.reference = j.indexed
	}
	for _, b := range batches {
		for _, r := range b.records {
			r.at = seconds(now)
			segment.records = append(segment.records, r)
		}
	}
	if err := j.set(ctx, segmentKey(j.used), segment); err != nil {
		return err
	}
	j.last = segment.number
	j.used++
	return nil
}

// merge writes the chunks that the store doesn't have as they are, then the number of the oldest, and only then lets the
// segments be overwritten and deletes the chunks that left the window.
func (j *journal) merge(ctx context.Context) error {
	first, blocks := j.cache.unwritten()
	for i, c := range blocks {
		merged := j.merged
		if i == len(blocks)-1 {
			merged = j.last
		}
		if err := j.set(ctx, blockKey(c.number), storedSegment{number: c.number, reference: merged, records: c.records}); err != nil {
			return err
		}
		delete(j.stale, blockKey(c.number))
		j.cache.setStored(c)
	}
	if first != j.indexed {
		if err := j.set(ctx, indexKey, storedSegment{number: first}); err != nil {
			return err
		}
		for ; j.indexed < first; j.indexed++ {
			j.stale[blockKey(j.indexed)] = struct{}{}
		}
		j.indexed = first
	}
	j.merged, j.used, j.incomplete = j.last, 0, false
	for key := range j.stale {
		if err := j.delete(ctx, key); err != nil {
			return err
		}
		delete(j.stale, key)
	}
	return nil
}

// tidy merges when it is time to.
func (j *journal) tidy(ctx context.Context) {
	select {
	case j.writing <- struct{}{}:
	case <-ctx.Done():
		return
	}
	defer func() { <-j.writing }()
	if j.used >= segmentCount/2 || j.incomplete || len(j.stale) > 0 || j.cache.first() != j.indexed {
		// A merge that was begun is brought to its end.
		j.report(j.merge(context.WithoutCancel(ctx)))
	}
}

func (j *journal) save(ctx context.Context) error {
	select {
	case j.writing <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("wait to write down what was delivered: %w", ctx.Err())
	}
	defer func() { <-j.writing }()
	return j.merge(ctx)
}

func (j *journal) set(ctx context.Context, key string, seg storedSegment) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if err := j.store.Set(ctx, key, seg.encode()); err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	return nil
}

func (j *journal) delete(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if err := j.store.Delete(ctx, key); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

// report logs the first failure and the end of failing.
func (j *journal) report(err error) {
	switch {
	case err != nil && !j.failing:
		j.logger.Warn("what was delivered can't be written to the storage: after a restart now it may be delivered again; see to the storage extension", zap.Error(err))
	case err == nil && j.failing:
		j.logger.Info("what was delivered is written to the storage again")
	}
	j.failing = err != nil
}

// blockSnapshot is a chunk as it was at one moment.
type blockSnapshot struct {
	number  uint64
	records []record
	block   *block
	size    int
}

// unwritten gives the number of the oldest chunk, and the chunks that the store does not have as they are.
func (c *cache) unwritten() (first uint64, snapshots []blockSnapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range c.queue.blocks {
		if b.stored < len(b.records) {
			snapshots = append(snapshots, blockSnapshot{number: b.number, records: b.records[b.from:], block: b, size: len(b.records)})
		}
	}
	return c.queue.first(), snapshots
}

// setStored notes that the store has a chunk as it was.
func (c *cache) setStored(i blockSnapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i.block.stored = i.size
}

func (c *cache) first() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queue.first()
}

// restore adds a chunk as the store has it.
func (c *cache) restore(seg storedSegment, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	restored := seg.records[:0]
	for _, r := range seg.records {
		if c.restoreRecord(&r, now) {
			restored = append(restored, r)
		}
	}
	c.queue.appendStored(seg.number, restored)
	c.evict(now)
}

// add adds records that no chunk of the store has, and returns how many of them were new.
func (c *cache) add(records []record, now time.Time) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	added := 0
	for _, r := range records {
		if c.restoreRecord(&r, now) {
			c.queue.push(r)
			added++
		}
	}
	c.evict(now)
	return added
}

// setNextNumber gives the chunks to come numbers from next on.
func (c *cache) setNextNumber(next uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue.next = next
}

// restoreRecord learns what was stored, unless it is known already or too old.
func (c *cache) restoreRecord(r *record, now time.Time) bool {
	// A clock that was ahead must not make an entry live longer.
	r.at = min(r.at, seconds(now))
	if at, ok := c.seen[r.key]; c.expired(r.at, now) || (ok && at >= r.at) {
		return false
	}
	c.set(*r)
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

func (seg storedSegment) encode() []byte {
	value := make([]byte, 5, headerSize+len(seg.records)*recordSize)
	value[0] = version
	value = binary.BigEndian.AppendUint64(value, seg.number)
	value = binary.BigEndian.AppendUint64(value, seg.reference)
	for i := range seg.records {
		r := &seg.records[i]
		value = binary.BigEndian.AppendUint32(value, r.at)
		value = append(value, r.key[:]...)
		value = append(value, r.contentDigest[:]...)
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
	seg := storedSegment{
		number:    binary.BigEndian.Uint64(value[5:]),
		reference: binary.BigEndian.Uint64(value[13:]),
		records:   make([]record, 0, (len(value)-headerSize)/recordSize),
	}
	for rest := value[headerSize:]; len(rest) > 0; rest = rest[recordSize:] {
		seg.records = append(seg.records, record{
			at:            binary.BigEndian.Uint32(rest),
			key:           digest(rest[4:20]),
			contentDigest: digest(rest[20:36]),
		})
	}
	return seg, nil
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
	// blocks and segments are what could be read, the oldest first.
	blocks, segments []storedSegment
	// index is the number of the oldest chunk.
	index uint64
	// found are the keys of the chunks, readable or not; useless are other keys that are good for nothing.
	found, unusable []string
	// broken is true if the index or a chunk could not be read, unreadable if nothing could.
	broken, unreadable bool
	// problems counts the values that could not be read; example is the first reason.
	problems int
	example  error
	// failures counts reads that failed one after another.
	failures int
}

// load fills the window with what the store has, and makes the store sound where it is not.
func (j *journal) load(ctx context.Context) error {
	r := &loadState{store: j.store}
	r.readSegments(ctx)
	r.readBlocks(ctx)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("read what was delivered before: %w", err)
	}
	j.writing <- struct{}{}
	defer func() { <-j.writing }()
	j.restore(r, time.Now())
	var err error
	if j.incomplete || len(j.stale) > 0 {
		err = j.merge(ctx)
	}
	if r.problems == 0 {
		j.report(err)
		return nil
	}
	j.failing = err != nil
	j.logger.Warn("part of what was delivered before can't be read from the storage and is replaced: what Microsoft Graph sends again of it is delivered again",
		zap.Int("values", r.problems), zap.Error(r.example), zap.NamedError("replacing", err))
	return nil
}

// restore fills the window. Where a chunk is broken, all of them are written anew under other numbers.
func (j *journal) restore(r *loadState, now time.Time) {
	j.indexed = r.index
	for _, key := range r.unusable {
		j.stale[key] = struct{}{}
	}
	next := r.index
	for _, seg := range r.blocks {
		next = max(next, seg.number+1)
		j.merged = max(j.merged, seg.reference)
	}
	if r.unreadable {
		// By the clock, what will be written gets greater numbers than what is there, and so is younger.
		clock := uint64(max(now.UnixNano(), 0))
		j.merged, next = clock, clock
	}
	j.cache.setNextNumber(next)
	if r.broken {
		j.indexed = unknownIndex
		j.incomplete = true
		for _, key := range r.found {
			j.stale[key] = struct{}{}
		}
	}
	for _, seg := range r.blocks {
		if r.broken {
			j.cache.add(seg.records, now)
		} else {
			j.cache.restore(seg, now)
		}
	}
	j.last = j.merged
	for _, seg := range r.segments {
		if seg.number <= j.merged {
			continue
		}
		j.last = seg.number
		if j.cache.add(seg.records, now) > 0 {
			j.incomplete = true
		}
	}
	if j.incomplete {
		// Until they are merged, no segment is free.
		j.used = segmentCount
	}
}

// readBlocks follows the chunks from the oldest on. If nothing tells which that is, it looks at every key.
func (r *loadState) readBlocks(ctx context.Context) {
	if r.giveUp(ctx) {
		r.broken, r.unreadable = true, true
		return
	}
	index, found, err := r.get(ctx, indexKey)
	if err == nil && !found && slices.ContainsFunc(r.segments, func(seg storedSegment) bool { return seg.reference > 0 }) {
		err = fmt.Errorf("read %s: %w", indexKey, errMissing)
		r.problem(err)
	}
	if err != nil {
		r.broken = true
		for n := uint64(0); n < blockKeys && !r.giveUp(ctx); n++ {
			r.readBlock(ctx, n)
		}
		slices.SortFunc(r.blocks, byNumber)
		return
	}
	r.index = index.number
	r.follow(ctx)
	r.findLeftovers(ctx)
}

// follow reads the chunks from the index on, past those that are broken or missing.
func (r *loadState) follow(ctx context.Context) {
	absent := 0
	for n := r.index; n-r.index < blockKeys && absent <= lookahead && !r.giveUp(ctx); n++ {
		if !r.readBlock(ctx, n) {
			absent++
			continue
		}
		if absent > 0 {
			r.broken = true
			r.problem(fmt.Errorf("read %s: %w", blockKey(n-1), errMissing))
		}
		absent = 0
	}
}

// findLeftovers looks for chunks that the index does not know any more, but that a kill -9 kept from being deleted.
func (r *loadState) findLeftovers(ctx context.Context) {
	for n := r.index; n > 0 && r.index-n < blockKeys; n-- {
		if value, err := r.store.Get(ctx, blockKey(n-1)); err != nil || value == nil {
			return
		}
		r.unusable = append(r.unusable, blockKey(n-1))
	}
}

// readBlock returns false where there is none.
func (r *loadState) readBlock(ctx context.Context, number uint64) bool {
	key := blockKey(number)
	seg, found, err := r.get(ctx, key)
	switch {
	case err != nil:
		r.broken = true
	case !found:
		return false
	case seg.number < r.index:
		// It left the window long ago.
		r.unusable = append(r.unusable, key)
		return false
	case blockKey(seg.number) != key:
		r.broken = true
		r.problem(fmt.Errorf("read %s: %w", key, errForeign))
	default:
		r.blocks = append(r.blocks, seg)
	}
	r.found = append(r.found, key)
	return true
}

func (r *loadState) readSegments(ctx context.Context) {
	for slot := range segmentCount {
		if r.giveUp(ctx) {
			return
		}
		seg, found, err := r.get(ctx, segmentKey(slot))
		switch {
		case err != nil:
			r.unusable = append(r.unusable, segmentKey(slot))
		case found:
			r.segments = append(r.segments, seg)
		}
	}
	slices.SortFunc(r.segments, byNumber)
}

func byNumber(a, b storedSegment) int { return cmp.Compare(a.number, b.number) }

// giveUp is true where going on would only take time.
func (r *loadState) giveUp(ctx context.Context) bool {
	return r.failures >= maxReadFailures || ctx.Err() != nil
}

func (r *loadState) get(ctx context.Context, key string) (seg storedSegment, found bool, err error) {
	value, err := r.store.Get(ctx, key)
	switch {
	case err != nil:
		r.failures++
	case value == nil:
		r.failures = 0
		return storedSegment{}, false, nil
	default:
		r.failures = 0
		seg, err = decode(value)
	}
	if err != nil {
		err = fmt.Errorf("read %s: %w", key, err)
		r.problem(err)
		return storedSegment{}, false, err
	}
	return seg, true, nil
}

func (r *loadState) problem(err error) {
	r.problems++
	if r.example == nil {
		r.example = err
	}
}
