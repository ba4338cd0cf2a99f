package dedupe

import (
	"cmp"
	"slices"
	"time"
)

// record is what is known of an interaction after a delivery of it: 56 bytes.
type record struct {
	key digest
	// digest is that of the content of this delivery.
	digest digest
	// etag is the newest one that was delivered.
	etag etag
	// created and delivered are Unix times; created is 0 if unknown.
	created, delivered uint32
	// user is known only if the user of its creation is.
	user  UserHash
	flags flags
}

type flags uint8

const (
	creationDelivered flags = 1 << iota
	deletionDelivered
	// creationNotified is set in one record of an interaction: that of its creation, if a notification brought it.
	creationNotified
)

func (r *record) has(f flags) bool { return r.flags&f != 0 }

// merge returns r with what earlier records of its interaction say.
func merge(known, r record) record {
	if r.etag == 0 || (r.etag.isNumber() && known.etag.isNumber()) {
		r.etag = max(r.etag, known.etag)
	}
	r.flags |= known.flags &^ creationNotified
	r.created = cmp.Or(r.created, known.created)
	r.user = cmp.Or(r.user, known.user)
	return r
}

// blockSize is how many records a block has at most: a stored one is 7 KB. The last block is written with each delivery, and
// all of them are read at the start.
const blockSize = 128

// block is a sequence of records, and the unit in which they are stored. Records are only ever appended, so that a slice of
// them may be read without the lock of the cache.
type block struct {
	number  uint64
	records []record
	// stored is how many of its records the store has, or damaged. Only the one writer uses it.
	stored int
}

// damaged is block.stored where the store's value must be replaced, if only by an empty one.
const damaged = -1

// queue holds records, the oldest first.
type queue struct {
	blocks []*block
	// head is how many records of the first block have been removed.
	head, len int
	// next is the number of the next block.
	next uint64
	// index maps keys and content digests to the sequence numbers of their newest records. A sequence number counts from
	// first, that of the first block, with blockSize for each block. They wrap around, so only differences have a meaning.
	index map[digest]uint32
	first uint32
	// newest is the newest creation there ever was, 0 for none.
	newest uint32
}

func (q *queue) find(d digest) (record, bool) {
	seq, found := q.index[d]
	if !found {
		return record{}, false
	}
	at := seq - q.first
	return q.blocks[at/blockSize].records[at%blockSize], true
}

func (q *queue) contains(d digest) bool {
	_, found := q.index[d]
	return found
}

func (q *queue) push(r record) {
	if n := len(q.blocks); n == 0 || len(q.blocks[n-1].records) >= blockSize {
		q.appendBlock(&block{number: q.next, records: make([]record, 0, blockSize)})
	}
	tail := q.blocks[len(q.blocks)-1]
	tail.records = append(tail.records, r)
	q.add(r, len(q.blocks)-1, len(tail.records)-1)
}

func (q *queue) appendBlock(b *block) {
	q.blocks = append(q.blocks, b)
	q.next = b.number + 1
	for i := range b.records {
		q.add(b.records[i], len(q.blocks)-1, i)
	}
}

func (q *queue) add(r record, blockIndex, i int) {
	q.len++
	q.newest = max(q.newest, r.created)
	seq := q.sequence(blockIndex, i)
	q.index[r.key] = seq
	if r.digest != (digest{}) {
		q.index[r.digest] = seq
	}
}

func (q *queue) sequence(blockIndex, i int) uint32 {
	return q.first + uint32(blockIndex*blockSize+i) //nolint:gosec // it may wrap around
}

// oldest returns the record that is removed next, nil if there is none.
func (q *queue) oldest() *record {
	for len(q.blocks) > 0 {
		if head := q.blocks[0].records; q.head < len(head) {
			return &head[q.head]
		}
		q.blocks[0] = nil
		q.blocks, q.head = q.blocks[1:], 0
		q.first += blockSize
	}
	return nil
}

// pop removes the oldest record, and reports whether its interaction has no later one.
func (q *queue) pop() (r record, last bool) {
	r = *q.oldest()
	seq := q.sequence(0, q.head)
	q.remove(r.digest, seq)
	q.head++
	q.len--
	return r, q.remove(r.key, seq)
}

// remove reports whether the digest had this record.
func (q *queue) remove(d digest, seq uint32) bool {
	at, found := q.index[d]
	if !found || at != seq {
		return false
	}
	delete(q.index, d)
	return true
}

// evict removes the oldest entries where there are too many.
func (c *Cache) evict() {
	for c.delivered.len+c.imported.len > c.maxEntries {
		if c.imported.len > 0 {
			c.imported.pop()
		} else if r, last := c.delivered.pop(); last {
			c.incompleteUntil = max(c.incompleteUntil, r.created)
		}
	}
}

// expire removes what is too old.
func (c *Cache) expire(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	expired := func(at uint32) bool { return now.Unix()-int64(at) > c.window && at < c.retained }
	for _, q := range []*queue{&c.delivered, &c.imported} {
		for r := q.oldest(); r != nil && expired(max(r.created, r.delivered)); r = q.oldest() {
			q.pop()
		}
	}
	c.uncertain = slices.DeleteFunc(c.uncertain, func(u uncertainty) bool { return expired(u.To) })
}
