// SPDX-License-Identifier: Apache-2.0

package dedupe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

// The cache is stored as a queue of blocks of records, and an index. What is new is written at once: the blocks that have grown,
// then the index. Only the last block grows, and the oldest is deleted as a whole. A crash between any two writes loses only what
// was not written yet.
const indexKey, format = "dedupe/index", 1

func blockKey(number uint64) string { return "dedupe/block/" + strconv.FormatUint(number, 10) }

// storedIndex is the value of the index, as JSON.
type storedIndex struct {
	First, Next uint64 // the numbers of the oldest record and of the next one
	Written     uint32 // when the index was written, in Unix time
	Clean       bool   // after a shutdown
	Complete    completeness
}

const (
	heartbeat    = 10 * time.Second      // the longest time between two writes, from which a start tells when the last run ended
	writeSpacing = 10 * time.Millisecond // the shortest, which keeps their cost small under load
	maxBlocks    = 64                    // that one transaction writes
)

// Run writes what is new at once, and removes what is too old, until ctx ends.
func (c *Cache) Run(ctx context.Context) {
	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()
	for {
		if err := c.write(ctx, false); ctx.Err() == nil {
			c.health.Report(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(writeSpacing):
		}
		select {
		case <-ctx.Done():
			return
		case <-c.changed:
		case <-ticker.C:
			c.expire()
		}
	}
}

// Save writes everything, and that the end was clean. Run must have returned.
func (c *Cache) Save(ctx context.Context) error { return c.write(ctx, true) }

// write writes the blocks that have grown, then the index, and deletes the blocks before it.
func (c *Cache) write(ctx context.Context, clean bool) error {
	if c.stored == nil {
		return nil
	}
	blocks, index := c.snapshot(c.stored.Next)
	index.Clean = clean
	payload, err := json.Marshal(index)
	if err != nil {
		return fmt.Errorf("encode %s: %w", indexKey, err)
	}
	var sets []statestore.Set
	for i, records := range blocks {
		number := max(c.stored.Next, index.First)/blockSize + uint64(i)
		payload, _ := statestore.Records[record](records).MarshalBinary() // it fails only for types without a fixed size
		sets = append(sets, statestore.Set{Key: blockKey(number), Version: format, Payload: payload})
	}
	sets = append(sets, statestore.Set{Key: indexKey, Version: format, Payload: payload})
	for n := c.stored.First / blockSize; n < index.First/blockSize; n++ {
		sets = append(sets, statestore.Set{Key: blockKey(n)})
	}
	for some := range slices.Chunk(sets, maxBlocks) {
		if err := c.settings.Store.Write(ctx, some...); err != nil {
			return err
		}
	}
	c.stored = &index
	return nil
}

// snapshot returns the blocks that have records from a number on, and the index of all blocks.
func (c *Cache) snapshot(from uint64) (blocks [][]record, index storedIndex) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := &c.delivered
	if from < q.next {
		blocks = slices.Clone(q.blocks[max(from, q.first)/blockSize-q.first/blockSize:])
	}
	return blocks, storedIndex{First: q.first, Next: q.next, Written: seconds(time.Now()), Complete: c.complete}
}

// Load reads the store, before everything else. If it can't be read, Load fails, and nothing is written over it. Damaged values are
// logged and replaced, and the rest is used.
func (c *Cache) Load(ctx context.Context) error {
	if c.settings.Store == nil {
		return nil
	}
	now := seconds(time.Now())
	index, damaged, err := statestore.NewValue[storedIndex](statestore.ValueSettings{
		Store: c.settings.Store, Key: indexKey, Version: format, Name: "delivered interactions", Logger: c.settings.Logger,
	}).Load(ctx)
	if err != nil {
		return err
	}
	q := &c.delivered
	q.first = index.First / blockSize * blockSize
	q.next = q.first
	for n := index.First / blockSize; n*blockSize < index.Next; n++ {
		for q.next < n*blockSize {
			q.push(record{}) // in place of what is damaged
		}
		block, err := c.loadBlock(ctx, n)
		switch {
		case err != nil && !errors.Is(err, statestore.ErrDamaged):
			return fmt.Errorf("load delivered interactions: %w", err)
		case err != nil && !damaged:
			damaged = true
			c.settings.Logger.Warn("some delivered interactions in storage are damaged and are replaced",
				append(failure.New(failure.StorageDamaged).Fields(), zap.Error(err))...)
		}
		for _, r := range block {
			r.Delivered = min(r.Delivered, now) // the clock may have been ahead
			q.push(r)
		}
	}
	// A crash may have kept blocks before the first one from being deleted.
	c.stored = &storedIndex{First: index.First - min(index.First, maxBlocks*blockSize), Next: q.next}
	c.complete = index.Complete
	if index.Written != 0 && !index.Clean {
		c.complete.endedUnclean(index.Written, now)
	}
	if damaged {
		c.stored.Next = 0
		c.complete.IncompleteUntil = max(c.complete.IncompleteUntil, now)
	}
	c.evict()
	return nil
}

func (c *Cache) loadBlock(ctx context.Context, number uint64) ([]record, error) {
	payload, err := c.settings.Store.Read(ctx, blockKey(number), format)
	if err != nil {
		return nil, err
	}
	var records statestore.Records[record]
	if err := records.UnmarshalBinary(payload); err != nil || len(records) == 0 || len(records) > blockSize {
		return nil, fmt.Errorf("read %s: %w: a block of %d bytes", blockKey(number), statestore.ErrDamaged, len(payload))
	}
	return records, nil
}
