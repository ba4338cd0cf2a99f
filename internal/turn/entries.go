// SPDX-License-Identifier: Apache-2.0

package turn

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

const (
	format       = 1
	saveInterval = 10 * time.Second
	// maxBlockSize keeps writes small: a stored block has at most about 120 KB, and grows for a minute at 10 prompts a second.
	maxBlockSize = 1000
)

// key stands for a request or a conversation: the first bytes of a SHA-256, of which the last bit is its kind.
type key [2]uint64

const ofRequest, ofConversation = 0, 1

func requestKey(r *interaction.Received) key {
	return keyOf(ofRequest, r.TenantID, r.SessionID, r.RequestID)
}

func conversationKey(r *interaction.Received) key {
	return keyOf(ofConversation, r.TenantID, r.SessionID)
}

func keyOf(kind uint64, ids ...string) key {
	text := make([]byte, 0, 256) // on the stack
	for _, id := range ids {
		text = append(append(text, id...), 0x1f)
	}
	sum := sha256.Sum256(text)
	return key{binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])&^1 | kind}
}

func (k key) kind() uint64 { return k[1] & 1 }

// entry is what is known of a request or a conversation. It is stored in this form, as JSON.
type entry struct {
	Key key `json:"k"`
	// User sent every known prompt of it; empty while none is known, and if it is shared.
	User string `json:"u,omitempty"`
	// Shared is true if several users sent prompts, or may have.
	Shared bool `json:"s,omitempty"`
	// Prompt is the id of the latest prompt without a request id; the responses after it belong to its turn.
	Prompt string `json:"p,omitempty"`
}

// with returns what is known after a prompt of a user.
func (e entry) with(user string) entry {
	switch {
	case e.Shared:
		e.User = ""
	case e.User == "":
		e.User = user
	case user != "" && user != e.User:
		e.User, e.Shared = "", true
	}
	return e
}

// entries are kept in the order in which they were learnt last, in numbered blocks. Only the last block changes; once all are full,
// the first one is evicted.
type entries struct {
	blocks  []block     // block n is at n modulo their number
	last    int         // the number of the last block
	size    int         // of a block
	places  map[key]int // where the latest entry of a key is: the index of its block times size, plus the index in the block
	evicted conversationSet

	storedBlocks  []*statestore.Value[block] // at the same indexes
	storedEvicted *statestore.Value[statestore.Records[conversationSet]]
	telemetry     Telemetry
}

// block is stored in this form, as JSON. Of an entry that was learnt again it has what was known before.
type block struct {
	Number  int
	Entries []entry
}

// newEntries returns entries for MaxOpen prompts, of which each has a conversation, and may have a request.
func newEntries(s Settings) *entries {
	limit := 2 * s.MaxOpen
	size := max(1, min(limit/16, maxBlockSize))
	e := &entries{blocks: make([]block, limit/size), size: size, places: map[key]int{}, telemetry: s.Telemetry}
	// Attribution reports failures of all values together.
	stored := statestore.ValueSettings{Store: s.Store, Key: "turn/evicted", Version: format, Name: "attributions", Logger: zap.NewNop()}
	e.storedEvicted = statestore.NewValue[statestore.Records[conversationSet]](stored)
	for i := range e.blocks {
		stored.Key = "turn/block/" + strconv.Itoa(i)
		e.storedBlocks = append(e.storedBlocks, statestore.NewValue[block](stored))
	}
	return e
}

// find returns what is known of a request or conversation. The users of a conversation that was evicted are unknown, so it counts as
// shared.
func (e *entries) find(k key) (found entry, known bool) {
	if place, known := e.places[k]; known {
		return e.blocks[place/e.size].Entries[place%e.size], true
	}
	return entry{Key: k, Shared: k.kind() == ofConversation && e.evicted.mayContain(k)}, false
}

// put notes what is known, as the latest that was learnt.
func (e *entries) put(learnt entry) {
	index := e.last % len(e.blocks)
	place, known := e.places[learnt.Key]
	switch {
	case !known || place/e.size != index:
		e.add(learnt)
	case e.blocks[index].Entries[place%e.size] != learnt:
		e.blocks[index].Entries[place%e.size] = learnt
		e.storedBlocks[index].Changed()
	}
}

// add appends an entry to the last block, or to a new one in place of the first one.
func (e *entries) add(learnt entry) {
	if len(e.blocks[e.last%len(e.blocks)].Entries) == e.size {
		e.last++
		e.evict(e.last % len(e.blocks))
	}
	index := e.last % len(e.blocks)
	b := &e.blocks[index]
	e.places[learnt.Key] = index*e.size + len(b.Entries)
	b.Number, b.Entries = e.last, append(b.Entries, learnt)
	e.storedBlocks[index].Changed()
}

func (e *entries) evict(index int) {
	before := len(e.places)
	for i, one := range e.blocks[index].Entries {
		if e.places[one.Key] != index*e.size+i {
			continue // it is in a later block
		}
		delete(e.places, one.Key)
		if one.Key.kind() == ofConversation {
			e.evicted.add(one.Key)
			e.storedEvicted.Changed()
		}
	}
	e.blocks[index].Entries = nil
	e.telemetry.AttributionEvicted(before - len(e.places))
}

// conversationSet tells conversations that may have been added from those that were not. It consists of two Bloom filters with 3
// hashes and 16 bits for each of 65,536 conversations, so that each is wrong about 0.5 % of all others. When the newer one is full,
// it takes the place of the older one.
type conversationSet struct {
	Newer, Older bloomFilter
	Added        uint32 // to Newer
}

const filterBits, filterCapacity = 1 << 20, 1 << 16

type bloomFilter [filterBits / 64]uint64

func (s *conversationSet) add(k key) {
	if s.Added == filterCapacity {
		s.Older, s.Newer, s.Added = s.Newer, bloomFilter{}, 0
	}
	s.Added++
	for _, bit := range bitsOf(k) {
		s.Newer[bit/64] |= 1 << (bit % 64)
	}
}

func (s *conversationSet) mayContain(k key) bool { return s.Newer.contains(k) || s.Older.contains(k) }

func (f *bloomFilter) contains(k key) bool {
	for _, bit := range bitsOf(k) {
		if f[bit/64]>>(bit%64)&1 == 0 {
			return false
		}
	}
	return true
}

func bitsOf(k key) [3]uint64 {
	return [3]uint64{k[0] % filterBits, k[0] >> 32 % filterBits, k[1] >> 32 % filterBits}
}

// Load reads what earlier runs have learnt. If the storage can't be read, it fails. If anything is damaged, this is logged, and
// everything is learnt anew: what was lost might have contradicted the rest.
func (a *Attribution) Load(ctx context.Context) error {
	if a.s.Store == nil {
		return nil
	}
	e := a.known
	evicted, damaged, err := e.storedEvicted.Load(ctx)
	if len(evicted) > 0 {
		e.evicted = evicted[0]
	}
	for i := 0; i < len(e.blocks) && err == nil && !damaged; i++ {
		e.blocks[i], damaged, err = e.storedBlocks[i].Load(ctx)
		e.restore(i)
	}
	if damaged {
		a.s.Logger.Warn("attributions in storage are damaged and are replaced", failure.New(failure.StorageDamaged).Fields()...)
		a.known = newEntries(a.s)
		a.known.storedEvicted.Changed()
		for _, stored := range a.known.storedBlocks {
			stored.Changed()
		}
	}
	return err
}

func (e *entries) restore(index int) {
	b := &e.blocks[index]
	e.last = max(e.last, b.Number)
	for i, one := range b.Entries {
		if place, known := e.places[one.Key]; !known || e.blocks[place/e.size].Number < b.Number {
			e.places[one.Key] = index*e.size + i
		}
	}
}

// Run stores what was learnt every 10 seconds until ctx ends.
func (a *Attribution) Run(ctx context.Context) {
	ticker := time.NewTicker(saveInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := a.Save(ctx); err == nil || ctx.Err() == nil {
			a.health.Report(err)
		}
	}
}

// Save stores what was learnt. The evicted conversations come first, since new blocks are written in place of theirs.
func (a *Attribution) Save(ctx context.Context) error {
	if a.s.Store == nil {
		return nil
	}
	e := a.known
	err := e.storedEvicted.Save(ctx, func() statestore.Records[conversationSet] {
		a.mu.Lock()
		defer a.mu.Unlock()
		return statestore.Records[conversationSet]{e.evicted}
	})
	for i := 0; i < len(e.blocks) && err == nil; i++ {
		err = e.storedBlocks[i].Save(ctx, func() block {
			a.mu.Lock()
			defer a.mu.Unlock()
			return block{e.blocks[i].Number, slices.Clone(e.blocks[i].Entries)}
		})
	}
	return err
}
