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

// cache knows what was delivered lately and what is under way.
//
// An entry takes at most 160 bytes: 36 in the queue, and 21 to 62 in the map for each of its two digests, since the map
// grows in steps and does not use again at once what was deleted. Without a signature, as from the history, it takes at
// most 98. A deletion makes two entries, the second without a signature.
type cache struct {
	// span is how many seconds an entry is known.
	span int64
	// most is how many entries there may be.
	most int

	mu sync.Mutex // guards what follows
	// held is the second from which on nothing is forgotten for its age.
	held int64
	// seen maps what was delivered to the second since when it is known.
	seen  map[digest]uint32
	queue queue
	// inFlight is what batches reserved.
	inFlight map[digest]*batch
}

// batch is what one call of Take reserved. It is delivered as a whole or not at all.
type batch struct {
	records []record
	// decided is closed once delivered says how it ended.
	decided   chan struct{}
	delivered bool
}

// reservation is what became of the interactions of one call of Take.
type reservation struct {
	// batch holds the reservations; nil where nothing is new.
	batch *batch
	// fresh is what to deliver.
	fresh []interaction.Received
	// duplicates are the sources of what was delivered before.
	duplicates []interaction.Source
	// waiting is what is under way already, in another call or in this one.
	waiting []waiter
}

type waiter struct {
	batch  *batch
	source interaction.Source
}

func newCache(span time.Duration, most int) *cache {
	return &cache{
		span:     int64(math.Ceil(span.Seconds())),
		held:     math.MaxInt64,
		most:     most,
		seen:     map[digest]uint32{},
		inFlight: map[digest]*batch{},
	}
}

// reserve reserves what is neither known nor under way.
func (w *cache) reserve(received []interaction.Received, now time.Time) reservation {
	marks := make([]entryKey, len(received))
	for i := range received {
		marks[i] = entryKeyOf(&received[i])
	}
	own := &batch{decided: make(chan struct{})}
	var c reservation
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range marks {
		m := &marks[i]
		known, other := w.lookUp(m, now)
		switch {
		case known:
			c.duplicates = append(c.duplicates, m.source)
		case other != nil:
			c.waiting = append(c.waiting, waiter{batch: other, source: m.source})
		default:
			w.reserveKey(m, own)
			c.batch = own
			if len(c.fresh) == i {
				// As long as all are new nothing is copied; the bound makes the first append after that copy.
				c.fresh = received[: i+1 : i+1]
			} else {
				c.fresh = append(c.fresh, received[i])
			}
		}
	}
	return c
}

func (w *cache) lookUp(m *entryKey, now time.Time) (known bool, underWay *batch) {
	known, underWay = w.knows(m.key, now), w.inFlight[m.key]
	if !m.supersededByDelete {
		return known, underWay
	}
	return known || w.knows(m.deletion, now), cmp.Or(underWay, w.inFlight[m.deletion])
}

func (w *cache) knows(d digest, now time.Time) bool {
	at, ok := w.seen[d]
	return ok && !w.expired(at, now)
}

// expired lets an entry live for the whole span, and up to a second longer, since at was rounded down.
func (w *cache) expired(at uint32, now time.Time) bool {
	return now.Unix()-int64(at) > w.span && int64(at) < w.held
}

// retainFrom keeps what was delivered from a time on; zero holds nothing.
func (w *cache) retainFrom(from time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = math.MaxInt64
	if !from.IsZero() {
		w.held = from.Unix()
	}
}

func (w *cache) reserveKey(m *entryKey, b *batch) {
	before := len(b.records)
	b.records = m.appendRecords(b.records)
	for i := range b.records[before:] {
		// The deletion of another version may be under way.
		if key := b.records[before+i].key; w.inFlight[key] == nil {
			w.inFlight[key] = b
		}
	}
}

// known tells whether an interaction with this signature was delivered.
func (w *cache) known(signature digest, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.knows(signature, now)
}

// keep makes the entries of delivered batches known. The oldest entries leave for them where there are too many; for their
// age they leave with the housekeeping, which knows what is needed.
func (w *cache) keep(now time.Time, batches ...*batch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range batches {
		for _, r := range b.records {
			r.at = seconds(now)
			w.learn(r)
			w.queue.push(r)
		}
		w.end(b, true)
	}
	for w.queue.len > w.most {
		w.drop()
	}
}

// release forgets the reservations of a batch that was not delivered.
func (w *cache) release(b *batch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.end(b, false)
}

func (w *cache) end(b *batch, delivered bool) {
	for i := range b.records {
		if key := b.records[i].key; w.inFlight[key] == b {
			delete(w.inFlight, key)
		}
	}
	b.records, b.delivered = nil, delivered
	close(b.decided)
}

func (w *cache) learn(r record) {
	w.seen[r.key] = r.at
	if r.signature != (digest{}) {
		w.seen[r.signature] = r.at
	}
}

// expire frees the entries that are too old.
func (w *cache) expire(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trim(now)
}

func (w *cache) trim(now time.Time) {
	for {
		r, ok := w.queue.oldest()
		if !ok || (w.queue.len <= w.most && !w.expired(r.at, now)) {
			return
		}
		w.drop()
	}
}

// drop forgets the oldest entry, of which there must be one.
func (w *cache) drop() {
	r, _ := w.queue.oldest()
	w.queue.pop()
	w.forget(r.key, r.at)
	w.forget(r.signature, r.at)
}

// forget leaves alone what was seen again later.
func (w *cache) forget(d digest, at uint32) {
	if w.seen[d] == at {
		delete(w.seen, d)
	}
}

func seconds(now time.Time) uint32 {
	return uint32(min(max(now.Unix(), 0), math.MaxUint32))
}

// record is an entry of the window: 36 bytes.
type record struct {
	key digest
	// signature is zero for none.
	signature digest
	// at is when the entry was kept, in seconds of Unix time.
	at uint32
}

// chunkSize is how many records are stored under one key, so that the value stays below 64 KiB.
const chunkSize = 1800

// chunk is a run of records, and the unit in which they are stored. Records are only ever appended, so that a slice of
// them may be read without the lock of the window.
type chunk struct {
	number  uint64
	records []record
	// from is how many records left already.
	from int
	// written is how many records were stored in this chunk.
	written int
}

// queue holds the records of the window, the oldest first.
type queue struct {
	chunks []*chunk
	// next is the number of the chunk to come.
	next uint64
	len  int
}

func (q *queue) push(r record) {
	if n := len(q.chunks); n == 0 || len(q.chunks[n-1].records) >= chunkSize {
		q.chunks = append(q.chunks, &chunk{number: q.next, records: make([]record, 0, chunkSize)})
		q.next++
	}
	tail := q.chunks[len(q.chunks)-1]
	tail.records = append(tail.records, r)
	q.len++
}

// adopt appends a chunk as it is stored.
func (q *queue) adopt(number uint64, records []record) {
	q.next = number + 1
	if len(records) == 0 {
		return
	}
	q.chunks = append(q.chunks, &chunk{number: number, records: records, written: len(records)})
	q.len += len(records)
}

// oldest gives the record that leaves next.
func (q *queue) oldest() (r record, ok bool) {
	if q.len == 0 {
		return record{}, false
	}
	head := q.chunks[0]
	return head.records[head.from], true
}

func (q *queue) pop() {
	head := q.chunks[0]
	head.from++
	q.len--
	if head.from == len(head.records) {
		q.chunks[0] = nil
		q.chunks = q.chunks[1:]
	}
}

// first is the number of the oldest chunk that holds something, or of the one to come.
func (q *queue) first() uint64 {
	if len(q.chunks) == 0 {
		return q.next
	}
	return q.chunks[0].number
}

// digest stands for a key or a signature in the window: the first half of a SHA-256. That two of ten million were equal
// has a probability below 10^-24.
type digest [16]byte

func digestOf(parts ...string) digest {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x1f")))
	return digest(sum[:16])
}

// entryKey is what one interaction is known by.
type entryKey struct {
	key digest
	// signature is zero where the interaction came without one.
	signature digest
	// deletion is the deletion of this interaction whatever its version. It is zero unless one of the next two is true.
	deletion digest
	// deletes is true for what leaves such a deletion behind.
	deletes bool
	// supersededByDelete is true for what is a duplicate of such a deletion: the history still has what was deleted.
	supersededByDelete bool
	source             interaction.Source
}

func entryKeyOf(r *interaction.Received) entryKey {
	key := r.Key()
	m := entryKey{
		key:       digestOf(key.Text()),
		signature: digest(r.ContentDigest[:16]),
		// Without content no session is named, so the history can't ask for it.
		deletes:            key.Deleted && !key.WithoutContent,
		supersededByDelete: r.Source == interaction.FromHistory && !key.Deleted,
		source:             r.Source,
	}
	if m.deletes || m.supersededByDelete {
		m.deletion = digestOf("deletion", key.Tenant, key.Session, key.ID)
	}
	return m
}

// appendRecords appends what the interaction leaves in the window once it was delivered.
func (m *entryKey) appendRecords(records []record) []record {
	records = append(records, record{key: m.key, signature: m.signature})
	if m.deletes {
		records = append(records, record{key: m.deletion})
	}
	return records
}
