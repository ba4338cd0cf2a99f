// SPDX-License-Identifier: Apache-2.0

package dedupe

import (
	"cmp"
	"time"
)

// record is what is known of an interaction after a delivery of it: 56 bytes. Its fields are exported for encoding/binary.
type record struct {
	Key                digest
	Digest             digest // of the content of this delivery
	ETag               etag   // the newest one that was delivered
	Created, Delivered uint32 // Unix times; Created is 0 if unknown
	User               uint32 // the hash of the user, 0 if unknown
	Flags              flags
}

type flags uint8

const (
	creationDelivered flags = 1 << iota
	deletionDelivered
	creationNotified // set in one record of an interaction: that of its creation, if a notification brought it
)

func (r *record) has(f flags) bool { return r.Flags&f != 0 }

// merge returns r with what earlier records of its interaction say.
func merge(known, r record) record {
	if r.ETag == 0 || (r.ETag.isNumber() && known.ETag.isNumber()) {
		r.ETag = max(r.ETag, known.ETag)
	}
	r.Flags |= known.Flags &^ creationNotified
	r.Created = cmp.Or(r.Created, known.Created)
	r.User = cmp.Or(r.User, known.User)
	return r
}

// blockSize is how many records a block has: a stored one is 7 KB, and the last one is written with each delivery.
const blockSize = 128

// queue holds records, the oldest first. They are numbered in order, and record n is in block n / blockSize.
type queue struct {
	first, next uint64 // the numbers of the oldest record and of the next one
	// blocks are those from that of first on. All but the last are full. Records are only ever appended, so that a copy of the
	// slice may be read without the lock of the cache.
	blocks [][]record
	// index maps keys and content digests to the numbers of their newest records, modulo 2^32.
	index  map[digest]uint32
	newest uint32 // the newest creation there ever was, 0 for none
}

func (q *queue) len() int { return int(q.next - q.first) } //nolint:gosec // at most MaxEntries and a batch

// find returns the newest record of a digest, the zero record if there is none.
func (q *queue) find(d digest) record {
	number, found := q.index[d]
	if !found {
		return record{}
	}
	at := q.first%blockSize + uint64(number-uint32(q.first)) //nolint:gosec // the difference is that of the full numbers
	return q.blocks[at/blockSize][at%blockSize]
}

func (q *queue) push(r record) {
	if q.next%blockSize == 0 {
		q.blocks = append(q.blocks, make([]record, 0, blockSize))
	}
	last := &q.blocks[len(q.blocks)-1]
	*last = append(*last, r)
	for _, d := range []digest{r.Key, r.Digest} {
		if d != (digest{}) {
			q.index[d] = uint32(q.next) //nolint:gosec // modulo 2^32
		}
	}
	q.next++
	q.newest = max(q.newest, r.Created)
}

// oldest returns the record that is removed next. The queue must not be empty.
func (q *queue) oldest() *record { return &q.blocks[0][q.first%blockSize] }

// pop removes the oldest record.
func (q *queue) pop() {
	r := q.oldest()
	for _, d := range []digest{r.Key, r.Digest} {
		if number, found := q.index[d]; found && number == uint32(q.first) { //nolint:gosec // modulo 2^32
			delete(q.index, d)
		}
	}
	q.first++
	if q.first%blockSize == 0 {
		q.blocks[0] = nil
		q.blocks = q.blocks[1:]
	}
}

// evict removes the oldest entries where there are too many.
func (c *Cache) evict() {
	for c.delivered.len()+c.imported.len() > c.settings.MaxEntries {
		if c.imported.len() > 0 {
			c.imported.pop()
			continue
		}
		c.complete.IncompleteUntil = max(c.complete.IncompleteUntil, c.delivered.oldest().Created)
		c.delivered.pop()
	}
}

// expire removes what is too old.
func (c *Cache) expire() {
	kept := time.Now().Add(-c.settings.Window)
	if from := c.settings.RetainFrom(); !from.IsZero() && from.Before(kept) {
		kept = from
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, q := range []*queue{&c.delivered, &c.imported} {
		for q.len() > 0 && max(q.oldest().Created, q.oldest().Delivered) < seconds(kept) {
			q.pop()
		}
	}
}
