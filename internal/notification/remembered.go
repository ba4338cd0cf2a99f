package notification

import (
	"container/list"
	"crypto/sha256"
	"sync"
	"time"
)

const maxRemembered = 1024

// validity is when a token counts.
type validity struct {
	notBefore time.Time // zero where the token does not say
	expires   time.Time
}

// remembered holds the validity of verified tokens by their SHA-256, at most 1,024 of them: the one used longest ago
// makes room.
type remembered struct {
	mu sync.Mutex
	// order holds *memory, the latest used first.
	order *list.List
	byKey map[[sha256.Size]byte]*list.Element
}

type memory struct {
	key      [sha256.Size]byte
	validity validity
}

func newRemembered() *remembered {
	return &remembered{order: list.New(), byKey: make(map[[sha256.Size]byte]*list.Element)}
}

func (r *remembered) get(key [sha256.Size]byte) (validity, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	element, found := r.byKey[key]
	if !found {
		return validity{}, false
	}
	r.order.MoveToFront(element)
	return element.Value.(*memory).validity, true
}

func (r *remembered) put(key [sha256.Size]byte, v validity) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, found := r.byKey[key]; found {
		return
	}
	r.byKey[key] = r.order.PushFront(&memory{key: key, validity: v})
	if r.order.Len() > maxRemembered {
		oldest := r.order.Back()
		delete(r.byKey, r.order.Remove(oldest).(*memory).key)
	}
}
