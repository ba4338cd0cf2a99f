package notification

import (
	"crypto/sha256"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

const maxRemembered = 1024

// validity is when a token counts.
type validity struct {
	notBefore time.Time // zero where the token does not say
	expires   time.Time
}

// remembered holds the validity of verified tokens by their SHA-256: the one used longest ago makes room.
type remembered = lru.Cache[[sha256.Size]byte, validity]

func newRemembered() *remembered {
	cache, err := lru.New[[sha256.Size]byte, validity](maxRemembered)
	if err != nil {
		panic(fmt.Sprintf("a cache of %d entries: %v", maxRemembered, err)) // only a size below 1 is an error
	}
	return cache
}
