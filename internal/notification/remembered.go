package notification

import (
	"crypto/sha256"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

const maxVerifiedTokens = 1024

// validity is when a token counts.
type validity struct {
	notBefore time.Time // zero where the token does not say
	expires   time.Time
}

// verifiedTokens holds the validity of verified tokens by their SHA-256: the one used longest ago makes room.
type verifiedTokens = lru.Cache[[sha256.Size]byte, validity]

func newVerifiedTokens() *verifiedTokens {
	cache, err := lru.New[[sha256.Size]byte, validity](maxVerifiedTokens)
	if err != nil {
		panic(fmt.Sprintf("a cache of %d entries: %v", maxVerifiedTokens, err)) // only a size below 1 is an error
	}
	return cache
}
