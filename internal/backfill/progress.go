package backfill

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"sync"
)

const (
	// chunkUsers is how many users one stored value holds.
	chunkUsers  = 1024
	chunkHeader = 1 + 8
	// maxChunks limits how many values are read from a store: ten million users.
	maxChunks = 10_000
)

// progress is the list of users done in a pass, in the order in which they were read. It is stored in chunks, so that
// one more user rewrites one chunk and never the list.
type progress struct {
	mu    sync.Mutex // guards what follows
	id    uint64     // of the pass
	users []user
	// saved is how many users are stored; chunks is how many values there are.
	saved, chunks int
}

// start begins the list of another pass. The next flush deletes the values of the previous one.
func (p *progress) start(id uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.id, p.users, p.saved = id, nil, 0
}

func (p *progress) add(u user) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users = append(p.users, u)
}

// sorted returns the users done, in order.
func (p *progress) sorted() []user {
	p.mu.Lock()
	defer p.mu.Unlock()
	return sortUsers(append([]user(nil), p.users...))
}

// flush stores new users. Values that are no longer needed are deleted from the last to the first, so that loadProgress
// finds those that remain. Only one flush may run at a time.
func (p *progress) flush(ctx context.Context, store Store) error {
	p.mu.Lock()
	id, users, saved, chunks := p.id, p.users, p.saved, p.chunks
	p.mu.Unlock()
	if saved < len(users) {
		for c := saved / chunkUsers; c*chunkUsers < len(users); c++ {
			part := users[c*chunkUsers : min(len(users), (c+1)*chunkUsers)]
			if err := store.Set(ctx, doneKey+strconv.Itoa(c), encodeChunk(id, part)); err != nil {
				return fmt.Errorf("store the progress of a gap: %w", err)
			}
			chunks = max(chunks, c+1)
			p.setSaved(id, c*chunkUsers+len(part), chunks)
		}
	}
	for needed := (len(users) + chunkUsers - 1) / chunkUsers; chunks > needed; {
		if err := store.Delete(ctx, doneKey+strconv.Itoa(chunks-1)); err != nil {
			return fmt.Errorf("delete the progress of a closed gap: %w", err)
		}
		chunks--
		p.setSaved(id, len(users), chunks)
	}
	return nil
}

// setSaved records what is stored, unless another pass has begun meanwhile.
func (p *progress) setSaved(id uint64, saved, chunks int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.chunks = chunks
	if p.id == id {
		p.saved = saved
	}
}

func encodeChunk(id uint64, users []user) []byte {
	value := make([]byte, 0, chunkHeader+len(users)*len(user{}))
	value = binary.BigEndian.AppendUint64(append(value, formatVersion), id)
	for _, u := range users {
		value = append(value, u[:]...)
	}
	return value
}

func decodeChunk(value []byte) (id uint64, users []user, err error) {
	body, err := unversioned(value)
	if err != nil {
		return 0, nil, err
	}
	if len(body) < 8 || (len(body)-8)%len(user{}) != 0 || len(body) > 8+chunkUsers*len(user{}) {
		return 0, nil, errShape
	}
	for rest := body[8:]; len(rest) > 0; rest = rest[len(user{}):] {
		users = append(users, user(rest[:len(user{})]))
	}
	return binary.BigEndian.Uint64(body), users, nil
}

// loadProgress reads the users done in a pass. Users of another pass, or after a chunk that is not full, count as not
// done; damage is not nil if a value could not be read.
func loadProgress(ctx context.Context, store Store, current *pass) (p *progress, damage, err error) {
	p = &progress{}
	if current != nil {
		p.id = current.id
	}
	complete := current != nil
	for p.chunks < maxChunks {
		value, err := store.Get(ctx, doneKey+strconv.Itoa(p.chunks))
		if err != nil {
			return nil, nil, err
		}
		if value == nil {
			break
		}
		p.chunks++
		id, users, bad := decodeChunk(value)
		if bad != nil {
			damage = bad
		}
		if complete = complete && bad == nil && id == p.id; complete {
			p.users = append(p.users, users...)
			complete = len(users) == chunkUsers
		}
	}
	p.saved = len(p.users)
	return p, damage, nil
}
