package dedupe

import (
	"cmp"
	"crypto/sha256"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// cache holds what was delivered lately and what is in flight.
//
// An entry takes at most 160 bytes: 36 in the queue, and 21 to 62 in the map for each of its two digests, since the map
// grows in steps and does not reuse deleted slots at once. Without a content digest, as from the history, it takes at
// most 98. A deletion makes two entries, the second without a content digest.
type cache struct {
	// ttl is how long an entry is kept, in seconds.
	ttl int64
	// maxEntries is the maximum number of entries.
	maxEntries int

	mu sync.Mutex // guards what follows
	// retained is the Unix time from which on no entry expires.
	retained int64
	// seen maps delivered digests to the Unix time of their delivery.
	seen  map[digest]uint32
	queue queue
	// inFlight maps reserved digests to their batches.
	inFlight map[digest]*batch
}

// batch is what one call of Take reserved. It is delivered completely or not at all.
type batch struct {
	records []record
	// done is closed once delivered is set.
	done      chan struct{}
	delivered bool
}

// reservation is the result of reserving the interactions of one call of Take.
type reservation struct {
	// batch holds the reserved keys; nil if nothing is new.
	batch *batch
	// fresh is what to deliver.
	fresh []interaction.Received
	// duplicates are the sources of interactions that were delivered before.
	duplicates []interaction.Source
	// waiting is what is in flight already, in another call or in this one.
	waiting []waiter
}

type waiter struct {
	batch  *batch
	source interaction.Source
}

func newCache(ttl time.Duration, maxEntries int) *cache {
	return &cache{
		ttl:        int64(math.Ceil(ttl.Seconds())),
		retained:   math.MaxInt64,
		maxEntries: maxEntries,
		seen:       map[digest]uint32{},
		inFlight:   map[digest]*batch{},
	}
}

// reserve reserves what is neither delivered nor in flight.
func (c *cache) reserve(received []interaction.Received, now time.Time) reservation {
	keys := make([]entryKey, len(received))
	for i := range received {
		keys[i] = entryKeyOf(&received[i])
	}
	own := &batch{done: make(chan struct{})}
	var res reservation
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range keys {
		m := &keys[i]
		known, other := c.lookUp(m, now)
		switch {
		case known:
			res.duplicates = append(res.duplicates, m.source)
		case other != nil:
			res.waiting = append(res.waiting, waiter{batch: other, source: m.source})
		default:
			c.reserveKey(m, own)
			res.batch = own
			if len(res.fresh) == i {
				// While all are new nothing is copied; the capacity makes the first append after that copy.
				res.fresh = received[: i+1 : i+1]
			} else {
				res.fresh = append(res.fresh, received[i])
			}
		}
	}
	return res
}

func (c *cache) lookUp(m *entryKey, now time.Time) (known bool, inFlight *batch) {
	known, inFlight = c.contains(m.key, now), c.inFlight[m.key]
	if !m.supersededByDelete {
		return known, inFlight
	}
	return known || c.contains(m.deletion, now), cmp.Or(inFlight, c.inFlight[m.deletion])
}

func (c *cache) contains(d digest, now time.Time) bool {
	at, ok := c.seen[d]
	return ok && !c.expired(at, now)
}

// expired keeps an entry for the whole ttl, and up to a second longer, since at was rounded down.
func (c *cache) expired(at uint32, now time.Time) bool {
	return now.Unix()-int64(at) > c.ttl && int64(at) < c.retained
}

// retainFrom keeps deliveries since a time from expiring; zero keeps none.
func (c *cache) retainFrom(from time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retained = math.MaxInt64
	if !from.IsZero() {
		c.retained = from.Unix()
	}
}

func (c *cache) reserveKey(m *entryKey, b *batch) {
	before := len(b.records)
	b.records = m.appendRecords(b.records)
	for i := range b.records[before:] {
		// The deletion of another version may be in flight.
		if key := b.records[before+i].key; c.inFlight[key] == nil {
			c.inFlight[key] = b
		}
	}
}

// knownDigest reports whether an interaction with this content digest was delivered.
func (c *cache) knownDigest(contentDigest digest, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.contains(contentDigest, now)
}

// commit adds the entries of delivered batches, and evicts the oldest where there are too many. Expired entries are
// evicted by expire, after retainFrom was updated.
func (c *cache) commit(now time.Time, batches ...*batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range batches {
		for _, r := range b.records {
			r.at = seconds(now)
			c.set(r)
			c.queue.push(r)
		}
		c.finish(b, true)
	}
	for c.queue.len > c.maxEntries {
		c.evictOldest()
	}
}

// release removes the reservations of a batch that was not delivered.
func (c *cache) release(b *batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finish(b, false)
}

func (c *cache) finish(b *batch, delivered bool) {
	for i := range b.records {
		if key := b.records[i].key; c.inFlight[key] == b {
			delete(c.inFlight, key)
		}
	}
	b.records, b.delivered = nil, delivered
	close(b.done)
}

func (c *cache) set(r record) {
	c.seen[r.key] = r.at
	if r.contentDigest != (digest{}) {
		c.seen[r.contentDigest] = r.at
	}
}

// expire evicts expired entries.
func (c *cache) expire(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.evict(now)
}

func (c *cache) evict(now time.Time) {
	for {
		r, ok := c.queue.oldest()
		if !ok || (c.queue.len <= c.maxEntries && !c.expired(r.at, now)) {
			return
		}
		c.evictOldest()
	}
}

// evictOldest removes the oldest entry, of which there must be one.
func (c *cache) evictOldest() {
	r, _ := c.queue.oldest()
	c.queue.pop()
	c.remove(r.key, r.at)
	c.remove(r.contentDigest, r.at)
}

// remove removes a digest unless it was delivered again later.
func (c *cache) remove(d digest, at uint32) {
	if c.seen[d] == at {
		delete(c.seen, d)
	}
}

func seconds(now time.Time) uint32 {
	return uint32(min(max(now.Unix(), 0), math.MaxUint32))
}

// record is an entry of the cache: 36 bytes.
type record struct {
	key digest
	// contentDigest is zero for none.
	contentDigest digest
	// at is the time of delivery, in seconds of Unix time.
	at uint32
}

// blockSize is how many records are stored under one key, so that the value stays below 64 KiB.
const blockSize = 1800

// block is a sequence of records, and the unit in which they are stored. Records are only ever appended, so that a
// slice of them may be read without the lock of the cache.
type block struct {
	number  uint64
	records []record
	// from is how many records have been removed from the front.
	from int
	// stored is how many records the store has of this block.
	stored int
}

// queue holds the records of the cache, the oldest first.
type queue struct {
	blocks []*block
	// next is the number of the next block.
	next uint64
	len  int
}

func (q *queue) push(r record) {
	if n := len(q.blocks); n == 0 || len(q.blocks[n-1].records) >= blockSize {
		q.blocks = append(q.blocks, &block{number: q.next, records: make([]record, 0, blockSize)})
		q.next++
	}
	tail := q.blocks[len(q.blocks)-1]
	tail.records = append(tail.records, r)
	q.len++
}

// appendStored appends a block that is stored already.
func (q *queue) appendStored(number uint64, records []record) {
	q.next = number + 1
	if len(records) == 0 {
		return
	}
	q.blocks = append(q.blocks, &block{number: number, records: records, stored: len(records)})
	q.len += len(records)
}

// oldest returns the record that is removed next.
func (q *queue) oldest() (r record, ok bool) {
	if q.len == 0 {
		return record{}, false
	}
	head := q.blocks[0]
	return head.records[head.from], true
}

func (q *queue) pop() {
	head := q.blocks[0]
	head.from++
	q.len--
	if head.from == len(head.records) {
		q.blocks[0] = nil
		q.blocks = q.blocks[1:]
	}
}

// first returns the number of the oldest block, or of the next one if there is none.
func (q *queue) first() uint64 {
	if len(q.blocks) == 0 {
		return q.next
	}
	return q.blocks[0].number
}

// digest is the first half of the SHA-256 of a key or of content. The probability of a collision among ten million is
// below 10^-24.
type digest [16]byte

func digestOf(fields ...string) digest {
	sum := sha256.Sum256([]byte(strings.Join(fields, "\x1f")))
	return digest(sum[:16])
}

// entryKey identifies one interaction.
type entryKey struct {
	key digest
	// contentDigest is zero if the interaction has none.
	contentDigest digest
	// deletion identifies the deletion of this interaction in any version. It is zero unless deletes or
	// supersededByDelete is true.
	deletion digest
	// deletes is true for a deletion, which adds that key.
	deletes bool
	// supersededByDelete is true for a duplicate of such a deletion: the history still contains deleted interactions.
	supersededByDelete bool
	source             interaction.Source
}

func entryKeyOf(r *interaction.Received) entryKey {
	key := r.Key()
	m := entryKey{
		key:           digestOf(key.Text()),
		contentDigest: digest(r.ContentDigest[:16]),
		// Without content the session is unknown, so the history can't look it up.
		deletes:            key.Deleted && !key.WithoutContent,
		supersededByDelete: r.Source == interaction.FromHistory && !key.Deleted,
		source:             r.Source,
	}
	if m.deletes || m.supersededByDelete {
		m.deletion = digestOf("deletion", key.Tenant, key.Session, key.ID)
	}
	return m
}

// appendRecords appends the records that are kept of the interaction once it was delivered.
func (m *entryKey) appendRecords(records []record) []record {
	records = append(records, record{key: m.key, contentDigest: m.contentDigest})
	if m.deletes {
		records = append(records, record{key: m.deletion})
	}
	return records
}
