package dedupe

import (
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

// The cache is stored as a queue of blocks:
//
//	index: first = 7 ──┐                            next = 11 ──┐
//	                   ▼                                        ▼
//	┌ ─ ─ ─ ─ ┐  ┌───────────┐┌───────────┐     ┌──────────┐┌ ─ ─ ─ ─ ┐
//	  block/6    │  block/7  ││  block/8  │ ... │ block/10 │  block/11
//	└ ─ ─ ─ ─ ┘  └───────────┘└───────────┘     └──────────┘└ ─ ─ ─ ─ ┘
//	  deleted     128 records each, never        written again with each
//	              written again                  new record until it is full
//
// What is new is written at once, together with what arrived during the write before: the blocks that have grown, from
// memory, then the index. A crash between any two writes loses only what was not written yet.
//
// A block is a sequence of records of 53 bytes: key (16), content digest (16), etag (8), created (4), delivered (4), user (4),
// flags (1), with big-endian numbers. The index is a storedIndex.
const (
	indexKey   = "dedupe/index"
	recordSize = 16 + 16 + 8 + 4 + 4 + 4 + 1
	format     = 1
)

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
	// heartbeat is the longest time between two writes, so that after a crash the index tells when the receiver last ran.
	heartbeat = 10 * time.Second
	// maxSilence is for how long before a start nothing may have been written for the cache to count as complete.
	maxSilence = 30 // seconds
	// deliveryDelay is how long after its creation an interaction is delivered, as a rule.
	deliveryDelay = 60 // seconds
	// maxBlocks bounds what one transaction writes.
	maxBlocks = 64
)

// writer is what the one writer knows of the store.
type writer struct {
	// loaded is true once the store was read. Nothing is written before.
	loaded bool
	// first is the number of the oldest block that the store may have. All blocks before grown are in the store.
	first, grown uint64
}

// Run writes what is new at once, and removes what is too old, until ctx ends.
func (c *Cache) Run(ctx context.Context) {
	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()
	for {
		if err := c.write(ctx, false); ctx.Err() == nil {
			c.health.Report(err, zap.String("hint", "check the storage extension; what is not recorded may be delivered again after a crash"))
		}
		select {
		case <-ctx.Done():
			return
		case <-c.changed:
		case <-ticker.C:
			c.expire(time.Now())
		}
	}
}

// Save writes everything, and that the end was clean. Run must have returned.
func (c *Cache) Save(ctx context.Context) error { return c.write(ctx, true) }

// write writes the blocks that have grown, then the index, and deletes the blocks before it.
func (c *Cache) write(ctx context.Context, clean bool) error {
	if !c.writer.loaded {
		return nil
	}
	blocks, index := c.snapshot(c.writer.grown)
	index.Clean = clean
	payload, err := json.Marshal(index)
	if err != nil {
		return fmt.Errorf("encode %s: %w", indexKey, err)
	}
	var sets []statestore.Set
	for _, b := range blocks {
		if b.stored == len(b.records) {
			continue
		}
		if len(sets) == maxBlocks {
			if err := c.store.Write(ctx, sets...); err != nil {
				return err
			}
			sets = nil
		}
		sets = append(sets, statestore.Set{Key: blockKey(b.number), Version: format, Payload: encode(b.records)})
	}
	sets = append(sets, statestore.Set{Key: indexKey, Version: format, Payload: payload})
	for n := c.writer.first; n < index.First; n++ {
		sets = append(sets, statestore.Set{Key: blockKey(n)})
	}
	if err := c.store.Write(ctx, sets...); err != nil {
		return err
	}
	for _, b := range blocks {
		b.stored, c.writer.grown = len(b.records), b.number
	}
	c.writer.first = index.First
	return nil
}

// blockSnapshot is a block at one moment.
type blockSnapshot struct {
	*block
	records []record
}

// snapshot returns the blocks from a number on, and the index of all.
func (c *Cache) snapshot(from uint64) (blocks []blockSnapshot, index storedIndex) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.delivered.oldest() // drops blocks that are empty
	index = storedIndex{
		First: c.delivered.next - uint64(len(c.delivered.blocks)), Next: c.delivered.next, Written: seconds(time.Now()),
		IncompleteUntil: c.incompleteUntil, Uncertain: slices.Clone(c.uncertain),
	}
	for _, b := range c.delivered.blocks[max(from, index.First)-index.First:] {
		blocks = append(blocks, blockSnapshot{block: b, records: b.records})
	}
	return blocks, index
}

// Load reads the store, before everything else but RetainFrom. It fails if the store can't be read, and then nothing is
// written over it. Values that are damaged are logged and replaced, and the rest is used.
func (c *Cache) Load(ctx context.Context) error {
	if c.store == nil {
		return nil
	}
	now := seconds(time.Now())
	var unusable []error
	index, found, err := statestore.Value[storedIndex]{Store: c.store, Key: indexKey, Version: format}.Load(ctx)
	if statestore.Damaged(err) {
		unusable = append(unusable, err)
	} else if err != nil {
		return fmt.Errorf("load the dedupe cache: %w", err)
	}
	for n := index.First; n < index.Next; n++ {
		records, err := c.loadBlock(ctx, n, now)
		b := &block{number: n, records: records, stored: len(records)}
		if statestore.Damaged(err) {
			b.stored, unusable = damaged, append(unusable, err)
		} else if err != nil {
			return fmt.Errorf("load the dedupe cache: %w", err)
		}
		c.delivered.appendBlock(b)
	}
	c.delivered.next = index.Next
	c.incompleteUntil, c.uncertain = index.IncompleteUntil, index.Uncertain
	if found && !index.Clean {
		written := min(index.Written, now)
		c.addUncertain(uncertainty{From: written - min(written, deliveryDelay), To: now, Long: now-written > maxSilence})
	}
	if len(unusable) > 0 {
		c.incompleteUntil = max(c.incompleteUntil, now)
		c.health.Logger.Warn("part of the stored dedupe cache can't be used and is replaced",
			zap.Int("values", len(unusable)), zap.Error(unusable[0]),
			zap.String("hint", "its interactions are delivered again if Microsoft Graph sends them again"))
	}
	c.evict()
	c.expire(time.Now())
	// A crash may have kept blocks before the first one from being deleted.
	c.writer = writer{loaded: true, first: index.First - min(index.First, maxBlocks), grown: index.First}
	return nil
}

var (
	errMissing = errors.New("missing")
	errLength  = errors.New("wrong length")
)

func (c *Cache) loadBlock(ctx context.Context, number uint64, now uint32) ([]record, error) {
	payload, err := c.store.Read(ctx, blockKey(number), format)
	switch {
	case err != nil:
		return nil, err
	case payload == nil:
		return nil, &statestore.DamagedError{Key: blockKey(number), Err: errMissing}
	case len(payload)%recordSize != 0 || len(payload) > blockSize*recordSize:
		return nil, &statestore.DamagedError{Key: blockKey(number), Err: errLength}
	}
	records := decode(payload)
	for i := range records {
		records[i].delivered = min(records[i].delivered, now) // the clock may have been ahead
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
