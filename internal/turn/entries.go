package turn

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

const (
	format       = 1
	saveInterval = 10 * time.Second
	// blockSize is the most entries of a block. A stored one has at most about 100 KB, and grows for a minute at 10 prompts a second.
	blockSize = 1000
	// doubt is how long conversations without an entry count as shared after stored ones were damaged: until the responses to lost
	// prompts have come. Graph sends them again for 4 hours.
	doubt = 24 * time.Hour
)

// key stands for a request or a conversation: the first bytes of a SHA-256, and at the end which of the two it is.
type key [16]byte

func conversationKey(r *interaction.Received) key { return keyOf('c', r.TenantID, r.SessionID) }

func requestKey(r *interaction.Received) key { return keyOf('r', r.TenantID, r.SessionID, r.RequestID) }

func keyOf(kind byte, ids ...string) key {
	text := make([]byte, 0, 256) // on the stack
	for _, id := range ids {
		text = append(append(text, id...), 0x1f)
	}
	sum := sha256.Sum256(text)
	k := key(sum[:16])
	k[15] = kind
	return k
}

func (k key) isConversation() bool { return k[15] == 'c' }

// entry is what is known of a request or a conversation. It is stored in this form, as JSON.
type entry struct {
	// User sent every known prompt of it; empty while none is known, and if it is shared.
	User string `json:"u,omitempty"`
	// Shared is true if several users sent prompts, or may have.
	Shared bool `json:"s,omitempty"`
	// Prompt is the id of the latest prompt without a request id; the responses after it belong to its turn.
	Prompt string `json:"p,omitempty"`

	block uint64 // the number of its block
}

// with returns what is known after a prompt of a user. An id may come in either case.
func (e entry) with(user string) entry {
	switch {
	case e.Shared:
		e.User = ""
	case e.User == "":
		e.User = user
	case user != "" && !strings.EqualFold(user, e.User):
		e.User, e.Shared = "", true
	}
	return e
}

// entries are known in the order in which they were learnt last. They are divided into numbered blocks: the last one grows, the
// first one is evicted as a whole. Each block is a stored value, and only those are written that have changed.
type entries struct {
	byKey   map[key]entry
	blocks  []block // block n is at n modulo their number
	last    uint64  // the number of the block that grows
	size    int     // of a block
	evicted conversationSet

	evictions     int // of requests and conversations so far
	storedEvicted *statestore.Value[conversationSet]
}

type block struct {
	number uint64
	keys   []key // also those that are in a later block because they were learnt again
	stored *statestore.Value[storedBlock]
}

type storedBlock struct {
	Number  uint64        `json:"n"`
	Entries []storedEntry `json:"e"`
}

type storedEntry struct {
	Key []byte `json:"k"`
	entry
}

// newEntries returns entries for MaxOpen prompts, of which each has a conversation, and may have a request.
func newEntries(s Settings) entries {
	limit := 2 * max(s.MaxOpen, 1)
	size := min(max(limit/16, 1), blockSize)
	e := entries{byKey: map[key]entry{}, blocks: make([]block, limit/size), size: size, evicted: newConversationSet()}
	// Attribution reports failures of all values together.
	stored := statestore.ValueSettings{Store: s.Store, Key: "turn/evicted", Version: format, Name: "attributions", Logger: zap.NewNop()}
	e.storedEvicted = statestore.NewValue[conversationSet](stored)
	for i := range e.blocks {
		stored.Key = "turn/block/" + strconv.Itoa(i)
		e.blocks[i] = block{number: uint64(i), stored: statestore.NewValue[storedBlock](stored)}
	}
	return e
}

func (e *entries) block(number uint64) *block { return &e.blocks[number%uint64(len(e.blocks))] }

// conversation returns what is known of a conversation. The users of one that was evicted are unknown, so it counts as shared.
func (e *entries) conversation(k key) (found entry, known bool) {
	if found, known = e.byKey[k]; !known {
		found.Shared = e.evicted.mayContain(k) || time.Now().Before(e.evicted.AllUntil)
	}
	return found, known
}

// put notes what is known, as the latest that was learnt.
func (e *entries) put(k key, learnt entry) {
	before, known := e.byKey[k]
	if learnt.block = e.last; known && before == learnt {
		return
	}
	if !known || before.block != e.last {
		if len(e.block(e.last).keys) == e.size {
			e.last++
			e.evict(e.block(e.last))
			e.block(e.last).number, e.block(e.last).keys = e.last, make([]key, 0, e.size)
		}
		learnt.block = e.last
		e.block(e.last).keys = append(e.block(e.last).keys, k)
	}
	e.byKey[k] = learnt
	e.block(e.last).stored.Changed()
}

func (e *entries) evict(oldest *block) {
	for _, k := range oldest.keys {
		if e.byKey[k].block != oldest.number {
			continue // it is in a later block
		}
		delete(e.byKey, k)
		e.evictions++
		if k.isConversation() {
			e.evicted.add(k)
			e.storedEvicted.Changed()
		}
	}
}

// conversationSet tells conversations that may have been added from those that were not. It consists of two Bloom filters with 3
// hashes and 16 bits for each of 65,536 conversations, so that one is wrong about 0.5 % of all others. When the newer one is full,
// it takes the place of the older one. It is stored in this form, as JSON.
type conversationSet struct {
	Newer, Older []byte
	Added        int       // to Newer
	AllUntil     time.Time // until then all conversations may have been added
}

const filterBits, filterCapacity = 1 << 20, 1 << 16

func newConversationSet() conversationSet {
	return conversationSet{Newer: make([]byte, filterBits/8), Older: make([]byte, filterBits/8)}
}

func (s *conversationSet) add(k key) {
	if s.Added == filterCapacity {
		s.Newer, s.Older, s.Added = make([]byte, filterBits/8), s.Newer, 0
	}
	s.Added++
	for _, bit := range bitsOf(k) {
		s.Newer[bit/8] |= 1 << (bit % 8)
	}
}

func (s *conversationSet) clone() conversationSet {
	return conversationSet{slices.Clone(s.Newer), slices.Clone(s.Older), s.Added, s.AllUntil}
}

func (s *conversationSet) mayContain(k key) bool { return contains(s.Newer, k) || contains(s.Older, k) }

func contains(filter []byte, k key) bool {
	for _, bit := range bitsOf(k) {
		if filter[bit/8]>>(bit%8)&1 == 0 {
			return false
		}
	}
	return true
}

func bitsOf(k key) (bits [3]uint32) {
	for i := range bits {
		bits[i] = binary.BigEndian.Uint32(k[4*i:]) % filterBits
	}
	return bits
}

// Load reads what earlier runs have learnt. If the storage can't be read, it fails. What is damaged is logged and replaced. Then
// any conversation may have had prompts of other users, so all count as shared.
func (a *Attribution) Load(ctx context.Context) error {
	if a.s.Store == nil {
		return nil
	}
	e := &a.known
	evicted, damaged, err := e.storedEvicted.Load(ctx)
	if err != nil {
		return err
	}
	if evicted.Newer != nil {
		e.evicted = evicted
	}
	for i := range e.blocks {
		stored, damagedToo, err := e.blocks[i].stored.Load(ctx)
		if err != nil {
			return err
		}
		damaged = damaged || damagedToo
		e.restore(&e.blocks[i], stored)
	}
	if damaged {
		a.s.Logger.Warn("attributions in storage are damaged and are replaced", failure.New(failure.StorageDamaged).Fields()...)
		e.doubt()
	}
	return nil
}

func (e *entries) restore(b *block, stored storedBlock) {
	if len(stored.Entries) == 0 {
		return
	}
	b.number, e.last = stored.Number, max(e.last, stored.Number)
	for _, one := range stored.Entries {
		k := key(one.Key)
		b.keys = append(b.keys, k)
		if before, known := e.byKey[k]; !known || before.block < b.number {
			one.block = b.number
			e.byKey[k] = one.entry
		}
	}
}

// doubt makes all conversations count as shared, also those that are learnt within the next day.
func (e *entries) doubt() {
	for k, one := range e.byKey {
		if k.isConversation() {
			one.User, one.Shared = "", true
			e.byKey[k] = one
			e.block(one.block).stored.Changed()
		}
	}
	e.evicted.AllUntil = time.Now().Add(doubt)
	e.storedEvicted.Changed()
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
	e := &a.known
	err := e.storedEvicted.Save(ctx, func() conversationSet {
		a.mu.Lock()
		defer a.mu.Unlock()
		return e.evicted.clone()
	})
	for i := 0; i < len(e.blocks) && err == nil; i++ {
		err = e.blocks[i].stored.Save(ctx, func() storedBlock {
			a.mu.Lock()
			defer a.mu.Unlock()
			return e.snapshot(&e.blocks[i])
		})
	}
	return err
}

func (e *entries) snapshot(b *block) storedBlock {
	snapshot := storedBlock{Number: b.number, Entries: make([]storedEntry, 0, len(b.keys))}
	for _, k := range b.keys {
		if one := e.byKey[k]; one.block == b.number {
			snapshot.Entries = append(snapshot.Entries, storedEntry{k[:], one})
		}
	}
	return snapshot
}
