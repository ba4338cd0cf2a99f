package dedupe

import "time"

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
