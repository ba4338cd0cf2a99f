package dedupe

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
