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

	"github.com/otelcopilot/m365copilotreceiver/internal/health"
)

// Store persists values by key, as a storage client of the Collector does.
type Store interface {
	// Get returns nil, nil for an absent key.
	Get(ctx context.Context, key string) ([]byte, error)
	Set(ctx context.Context, key string, value []byte) error
	Delete(ctx context.Context, key string) error
}

// The keys in the store. They are few and known, since a store can't list its keys.
const (
	// indexKey holds a segment without records. Its number is that of the oldest block; absent means 0.
	indexKey = "seen/index"
	// segmentCount is how many segments may be written between two merges.
	segmentCount = 64
	// blockKeys is how many keys the blocks use in turn.
	blockKeys = 1 << 15
	// MaxEntries is the largest Settings.MaxEntries. It leaves room for blocks that are not full, and for a second copy
	// while a damaged store is replaced.
	MaxEntries = blockKeys / 4 * blockSize
)

// unknownIndex is an index that is to be written whatever the oldest block is.
const unknownIndex = math.MaxUint64

// writeTimeout limits one write, since a delivery waits for up to two of them before it is acknowledged.
const writeTimeout = time.Second

func segmentKey(slot int) string { return "seen/j/" + strconv.Itoa(slot) }

func blockKey(number uint64) string {
	return "seen/c/" + strconv.FormatUint(number%blockKeys, 10)
}

// journal persists the cache. Each delivery is first written as a segment; after a number of them a merge writes the
// blocks of the queue that are new or have grown, and the segments may be overwritten. Every value is self-contained:
// after a kill -9 between any two writes an entry is at worst read twice.
type journal struct {
	store  Store
	cache  *cache
	logger *zap.Logger

	mu sync.Mutex // guards what follows
	// waiting was delivered and is not persisted yet.
	waiting []*batch

	// writing is a semaphore: it holds a value during a write, and guards what follows.
	writing chan struct{}
	// last is the number of the last segment, merged that of the last one that the blocks contain.
	last, merged uint64
	// used is how many segments were written since the last merge.
	used int
	// indexed is the number of the oldest block in the store, or unknownIndex.
	indexed uint64
	// stale are keys to delete once the blocks are written.
	stale map[string]struct{}
	// incomplete is true while the store lacks something that the cache has.
	incomplete bool
	failure    health.Reminder

	// mergeNeeded requests a merge.
	mergeNeeded chan struct{}
}

func newJournal(store Store, cache *cache, logger *zap.Logger) *journal {
	return &journal{
		store: store, cache: cache, logger: logger,
		writing: make(chan struct{}, 1), mergeNeeded: make(chan struct{}, 1), stale: map[string]struct{}{},
	}
}

// commit persists a delivered batch, and then adds it to the cache, so that nothing is acknowledged that a kill -9
// would lose. Of concurrent calls, one writes for all.
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
	// A delivery that can't be persisted is still acknowledged: a duplicate after a restart is better than a loss.
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
	// Derived from the clock, the number is greater than any that could not be read.
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

// merge writes the blocks that the store lacks, then the number of the oldest, and only then frees the segments and
// deletes the blocks that the cache no longer has.
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

// tidy merges if necessary.
func (j *journal) tidy(ctx context.Context) {
	select {
	case j.writing <- struct{}{}:
	case <-ctx.Done():
		return
	}
	defer func() { <-j.writing }()
	if j.used >= segmentCount/2 || j.incomplete || len(j.stale) > 0 || j.cache.first() != j.indexed {
		// A merge is not interrupted.
		j.report(j.merge(context.WithoutCancel(ctx)))
	}
}

func (j *journal) save(ctx context.Context) error {
	select {
	case j.writing <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("wait for the storage: %w", ctx.Err())
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

// report logs a failure, again each hour while it lasts, and the next success.
func (j *journal) report(err error) {
	switch {
	case err != nil:
		if !j.failure.Failed() {
			return
		}
		j.logger.Warn("delivered interactions can't be recorded in storage, a restart now may deliver them again; check the storage extension", zap.Error(err))
	case j.failure.Recovered():
		j.logger.Info("delivered interactions are recorded in storage again")
	}
}

// blockSnapshot is a block at one moment.
type blockSnapshot struct {
	number  uint64
	records []record
	block   *block
	size    int
}

// unwritten returns the number of the oldest block, and the blocks that the store lacks or has in an older state.
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

// setStored records that the store has a snapshot.
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

// restore adds a block as it is stored.
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

// add adds records that no stored block contains, and returns how many of them were new.
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

// setNextNumber sets the number of the next block.
func (c *cache) setNextNumber(next uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue.next = next
}

// restoreRecord adds a stored record, unless it is known already or expired.
func (c *cache) restoreRecord(r *record, now time.Time) bool {
	// A clock that was ahead must not keep an entry longer.
	r.at = min(r.at, seconds(now))
	if at, ok := c.seen[r.key]; c.expired(r.at, now) || (ok && at >= r.at) {
		return false
	}
	c.set(*r)
	return true
}

// storedSegment is one value in the store. Its form, with big-endian numbers:
//
//	version (1 byte), CRC-32C of what follows (4), number (8), reference (8), then for each record at (4), key (16), content digest (16)
type storedSegment struct {
	// number orders the values of a kind.
	number uint64
	// reference of a block says that the segments up to this number are contained in this block and those before it.
	// That of a segment is the number of the oldest block when it was written.
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
	errForeign = errors.New("written by another version or another program")
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

// maxReadFailures is how many failed reads in a row mean that the store can't be read at all.
const maxReadFailures = 3

// lookahead is how many blocks in a row may be missing before the rest is given up.
const lookahead = 4

// loadState is what a load finds in the store.
type loadState struct {
	store Store
	// blocks and segments are the readable values, the oldest first.
	blocks, segments []storedSegment
	// index is the number of the oldest block.
	index uint64
	// found are the keys of the blocks, readable or not; unusable are other keys to delete.
	found, unusable []string
	// broken is true if the index or a block could not be read, unreadable if nothing could.
	broken, unreadable bool
	// problems counts the values that could not be read; example is the first reason.
	problems int
	example  error
	// failures counts failed reads in a row.
	failures int
}

// load fills the cache from the store, and repairs the store if necessary.
func (j *journal) load(ctx context.Context) error {
	r := &loadState{store: j.store}
	r.readSegments(ctx)
	r.readBlocks(ctx)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("read the dedupe cache from storage: %w", err)
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
	if err != nil {
		j.failure.Failed() // which is logged here
	}
	j.logger.Warn("part of the stored dedupe cache can't be read and is replaced, its interactions are delivered again if Microsoft Graph sends them again",
		zap.Int("values", r.problems), zap.Error(r.example), zap.NamedError("replace_error", err))
	return nil
}

// restore fills the cache. If a block is damaged, all of them are written again under other numbers.
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
		// Derived from the clock, new values get greater numbers than the existing ones, and so are newer.
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
		// Until the segments are merged, none of them is free.
		j.used = segmentCount
	}
}

// readBlocks reads the blocks from the oldest on. If the index can't be read, it tries every key.
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

// follow reads the blocks from the index on, past those that are damaged or missing.
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

// findLeftovers finds blocks before the index that a kill -9 kept from being deleted.
func (r *loadState) findLeftovers(ctx context.Context) {
	for n := r.index; n > 0 && r.index-n < blockKeys; n-- {
		if value, err := r.store.Get(ctx, blockKey(n-1)); err != nil || value == nil {
			return
		}
		r.unusable = append(r.unusable, blockKey(n-1))
	}
}

// readBlock returns false if there is no such block.
func (r *loadState) readBlock(ctx context.Context, number uint64) bool {
	key := blockKey(number)
	seg, found, err := r.get(ctx, key)
	switch {
	case err != nil:
		r.broken = true
	case !found:
		return false
	case seg.number < r.index:
		// It is older than the cache.
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

// giveUp reports whether further reads would only take time.
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
