package dedupe

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

// The cache is stored as a queue of blocks, and a few slots with what was delivered since the blocks were written:
//
//	index: first = 7 ──┐                     next = 11 ──┐
//	                   ▼                                 ▼
//	┌ ─ ─ ─ ─ ┐  ┌───────────┐┌───────────┐   ┌──────────┐    ┌───────┬───────┬─ ─ ─┬────────┐
//	  block/6    │  block/7  ││  block/8  │...│ block/10 │    │ new/0 │ new/1 │     │ new/63 │
//	└ ─ ─ ─ ─ ┘  └───────────┘└───────────┘   └──────────┘    └───────┴───────┴─ ─ ─┴────────┘
//	  deleted     2000 records each, never     not full        one write each, deleted by
//	              written again                                 the next merge
//
// What is new is written into the next slot at once, together with what arrived during the write before. When all slots are
// used, and every 10 seconds, a merge writes the blocks that have grown, from memory, then the index, and then deletes what
// is needed no more. A crash between any two writes loses only what was not written yet: until the index is written, the
// slots still have what the blocks may lack, and to read a record twice changes nothing.
//
// A block or a slot is a sequence of records of 53 bytes: key (16), content digest (16), etag (8), created (4), delivered (4),
// user (4), flags (1), with big-endian numbers. The index is a storedIndex.
const (
	indexKey   = "dedupe/index"
	slotCount  = 64
	recordSize = 16 + 16 + 8 + 4 + 4 + 4 + 1
	format     = 1
)

func slotKey(slot int) string       { return "dedupe/new/" + strconv.Itoa(slot) }
func blockKey(number uint64) string { return "dedupe/block/" + strconv.FormatUint(number, 10) }

// storedIndex is the value of the index, as JSON.
type storedIndex struct {
	// First is the number of the oldest block, Next that of the next one.
	First, Next uint64
	// Written is when the index was written, in Unix time.
	Written uint32
	// Clean is true after a shutdown.
	Clean           bool
	IncompleteUntil uint32
	Uncertain       []uncertainty
}

const (
	// mergeInterval is the time between two merges, so that after a crash the index tells when the receiver last ran.
	mergeInterval = 10 * time.Second
	// maxUnwritten is for how long before a start nothing may have been written for the cache to count as complete.
	maxUnwritten = 30 // seconds
	// deliveryDelay is how long after its creation an interaction is delivered, as a rule.
	deliveryDelay = 60 // seconds
	// mergeBlocks bounds one write of a merge.
	mergeBlocks = 8
)

// writer is what the one writer knows of the store.
type writer struct {
	// loaded is true once the store was read. Nothing is written before.
	loaded bool
	// slots is how many are used.
	slots int
	// first is the number of the oldest block that the store may have.
	first uint64
	// failed is true after a failed write. The next merge tries again.
	failed bool
}

// Run writes what is new at once, and removes what is too old, until ctx ends.
func (c *Cache) Run(ctx context.Context) {
	ticker := time.NewTicker(mergeInterval)
	defer ticker.Stop()
	c.report(ctx, c.merge(ctx, false)) // from now on an end is not clean
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.changed:
			if !c.writer.failed {
				c.report(ctx, c.appendNew(ctx))
			}
		case <-ticker.C:
			c.expire(time.Now())
			c.report(ctx, c.merge(ctx, false))
		}
	}
}

// Save writes everything, and that the end was clean. Run must have returned.
func (c *Cache) Save(ctx context.Context) error { return c.merge(ctx, true) }

func (c *Cache) report(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	c.writer.failed = err != nil
	c.health.Report(err, zap.String("hint", "check the storage extension; what is not recorded may be delivered again after a crash"))
}

// appendNew writes what is new into the next slot.
func (c *Cache) appendNew(ctx context.Context) error {
	records := c.takeUnwritten()
	switch {
	case len(records) == 0 || !c.writer.loaded:
		return nil
	case len(records) == blockSize || c.writer.slots == slotCount:
		return c.merge(ctx, false)
	}
	set := statestore.Set{Key: slotKey(c.writer.slots), Version: format, Payload: encode(records)}
	if err := c.store.Write(ctx, set); err != nil {
		return err
	}
	c.writer.slots++
	return nil
}

func (c *Cache) takeUnwritten() []record {
	c.mu.Lock()
	defer c.mu.Unlock()
	records := c.unwritten
	c.unwritten = nil
	return records
}

// merge writes the blocks that have grown, then the index, and deletes the blocks before it.
func (c *Cache) merge(ctx context.Context, clean bool) error {
	if !c.writer.loaded {
		return nil
	}
	c.takeUnwritten() // the blocks have it
	blocks, index := c.snapshot()
	index.Clean = clean
	var sets []statestore.Set
	for _, b := range blocks {
		if b.stored == len(b.records) {
			continue
		}
		sets = append(sets, statestore.Set{Key: blockKey(b.number), Version: format, Payload: encode(b.records)})
		if len(sets) < mergeBlocks {
			continue
		}
		if err := c.store.Write(ctx, sets...); err != nil {
			return err
		}
		sets = nil
	}
	payload, err := json.Marshal(index)
	if err != nil {
		return fmt.Errorf("encode %s: %w", indexKey, err)
	}
	sets = append(sets, statestore.Set{Key: indexKey, Version: format, Payload: payload})
	for n := c.writer.first; n < index.First; n++ {
		sets = append(sets, statestore.Set{Key: blockKey(n)})
	}
	for slot := range c.writer.slots {
		sets = append(sets, statestore.Set{Key: slotKey(slot)})
	}
	if err := c.store.Write(ctx, sets...); err != nil {
		return err
	}
	for _, b := range blocks {
		b.stored = len(b.records)
	}
	c.writer.first, c.writer.slots = index.First, 0
	return nil
}

// blockSnapshot is a block at one moment.
type blockSnapshot struct {
	*block
	records []record
}

// snapshot returns what was delivered.
func (c *Cache) snapshot() (blocks []blockSnapshot, index storedIndex) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.delivered.oldest() // drops blocks that are empty
	for _, b := range c.delivered.blocks {
		blocks = append(blocks, blockSnapshot{block: b, records: b.records})
	}
	next := c.delivered.next
	return blocks, storedIndex{
		First: next - uint64(len(blocks)), Next: next, Written: seconds(time.Now()),
		IncompleteUntil: c.incompleteUntil, Uncertain: slices.Clone(c.uncertain),
	}
}

// Load reads the store, before everything else but RetainFrom. It fails if the store can't be read, and then nothing is
// written over it. Values that are damaged are logged and replaced, and the rest is used.
func (c *Cache) Load(ctx context.Context) error {
	if c.store == nil {
		return nil
	}
	l := loader{store: c.store, now: seconds(time.Now())}
	index, found, err := statestore.Value[storedIndex]{Store: c.store, Key: indexKey, Version: format}.Load(ctx)
	if err = l.note(err); err == nil {
		err = c.loadRecords(ctx, &l, index)
	}
	if err != nil {
		return fmt.Errorf("load the dedupe cache: %w", err)
	}
	c.incompleteUntil, c.uncertain = index.IncompleteUntil, index.Uncertain
	if found && !index.Clean {
		written := min(index.Written, l.now)
		c.addUncertain(uncertainty{
			From: written - min(written, deliveryDelay), To: l.now, Long: l.now-written > maxUnwritten,
		})
	}
	if !found && c.delivered.len > 0 {
		_ = l.note(&statestore.DamagedError{Key: indexKey, Err: errMissing})
	}
	if len(l.damaged) > 0 {
		c.incompleteUntil = max(c.incompleteUntil, l.now)
		c.health.Logger.Warn("part of the stored dedupe cache can't be used and is replaced",
			zap.Int("values", len(l.damaged)), zap.Error(l.damaged[0]),
			zap.String("hint", "its interactions are delivered again if Microsoft Graph sends them again"))
	}
	c.evict()
	c.expire(time.Now())
	// All slots are deleted, also damaged ones, and the blocks that a crash may have kept from being deleted.
	c.writer = writer{loaded: true, slots: slotCount, first: index.First - min(index.First, mergeBlocks)}
	return nil
}

func (c *Cache) loadRecords(ctx context.Context, l *loader, index storedIndex) error {
	for n := index.First; n < index.Next; n++ {
		records, err := l.records(ctx, blockKey(n), true)
		if err != nil {
			return err
		}
		b := &block{number: n, records: records, stored: len(records)}
		if records == nil {
			b.stored = damaged
		}
		c.delivered.appendBlock(b)
	}
	c.delivered.next = index.Next
	var recent []record
	for slot := range slotCount {
		records, err := l.records(ctx, slotKey(slot), false)
		if err != nil {
			return err
		}
		recent = append(recent, records...)
	}
	slices.SortStableFunc(recent, func(a, b record) int { return cmp.Compare(a.delivered, b.delivered) })
	for _, r := range recent {
		if known, _ := c.delivered.find(r.key); !c.delivered.has(r, known) {
			c.delivered.push(merge(known, r))
		}
	}
	return nil
}

// has reports whether a stored record adds nothing to what is known of its interaction.
func (q *queue) has(r, known record) bool {
	merged := merge(known, r)
	merged.digest, merged.flags = known.digest, merged.flags|known.flags&creationNotified
	return merged == known && (r.digest == digest{} || q.contains(r.digest))
}

// loader reads values, and keeps the errors of those that are damaged.
type loader struct {
	store   *statestore.Store
	now     uint32
	damaged []error
}

// note keeps an error about a value, and returns any other.
func (l *loader) note(err error) error {
	if !statestore.Damaged(err) {
		return err
	}
	l.damaged = append(l.damaged, err)
	return nil
}

var (
	errMissing = errors.New("missing")
	errLength  = errors.New("wrong length")
)

// records returns nil if there is no value, or none that can be used.
func (l *loader) records(ctx context.Context, key string, required bool) ([]record, error) {
	payload, err := l.store.Read(ctx, key, format)
	switch {
	case err != nil || payload == nil && !required:
		return nil, l.note(err)
	case payload == nil:
		return nil, l.note(&statestore.DamagedError{Key: key, Err: errMissing})
	case len(payload)%recordSize != 0 || len(payload) > blockSize*recordSize:
		return nil, l.note(&statestore.DamagedError{Key: key, Err: errLength})
	}
	records := decode(payload)
	for i := range records {
		records[i].delivered = min(records[i].delivered, l.now) // the clock may have been ahead
	}
	return records, nil
}

func encode(records []record) []byte {
	payload := make([]byte, 0, len(records)*recordSize)
	for i := range records {
		r := &records[i]
		payload = append(payload, r.key[:]...)
		payload = append(payload, r.digest[:]...)
		payload = binary.BigEndian.AppendUint64(payload, uint64(r.etag))
		payload = binary.BigEndian.AppendUint32(payload, r.created)
		payload = binary.BigEndian.AppendUint32(payload, r.delivered)
		payload = binary.BigEndian.AppendUint32(payload, uint32(r.user))
		payload = append(payload, byte(r.flags))
	}
	return payload
}

func decode(payload []byte) []record {
	records := make([]record, 0, len(payload)/recordSize)
	for ; len(payload) > 0; payload = payload[recordSize:] {
		records = append(records, record{
			key:       digest(payload[0:16]),
			digest:    digest(payload[16:32]),
			etag:      etag(binary.BigEndian.Uint64(payload[32:])),
			created:   binary.BigEndian.Uint32(payload[40:]),
			delivered: binary.BigEndian.Uint32(payload[44:]),
			user:      UserHash(binary.BigEndian.Uint32(payload[48:])),
			flags:     flags(payload[52]),
		})
	}
	return records
}
