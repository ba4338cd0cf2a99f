package notification

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
)

const (
	clientStateLabel  = "m365_copilot client state v1"
	clientStateLength = 32
	// clientStateTextLength is the length in base64url without padding.
	clientStateTextLength = (clientStateLength*8 + 5) / 6
)

// ClientState derives the clientState of a subscription: base64url without padding of HKDF-SHA256 (RFC 5869, 32 bytes, no
// salt) of the key's PKCS#8 form, with the info
//
//	m365_copilot client state v1|tenant|client id|resource without leading slash
//
// It is therefore the same after a restart and on every replica, and need not be stored. Tenant and client id must be in
// lower case. The result is a secret.
func ClientState(key *Key, tenant, clientID, resource string) (string, error) {
	secret, err := key.pkcs8()
	if err != nil {
		return "", fmt.Errorf("derive client state: %w", err)
	}
	info := strings.Join([]string{clientStateLabel, tenant, clientID, strings.TrimPrefix(resource, "/")}, "|")
	state, err := hkdf.Key(sha256.New, secret, nil, info, clientStateLength)
	if err != nil {
		return "", fmt.Errorf("derive client state: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(state), nil
}

// clientStates is the set of the clientStates of our subscriptions: one for each key and resource. It holds their SHA-256
// with a random prefix that only this process knows, so that the duration of a lookup reveals nothing about a clientState
// and does not depend on their number. All have the same length, so other lengths need no hash.
type clientStates struct {
	salt  [sha256.Size]byte
	known map[[sha256.Size]byte]struct{}
}

func deriveClientStates(ring Ring, tenant, clientID string, resources []string) (*clientStates, error) {
	s := &clientStates{known: make(map[[sha256.Size]byte]struct{}, len(ring)*len(resources))}
	_, _ = rand.Read(s.salt[:]) // it never fails
	for _, key := range ring {
		for _, resource := range resources {
			state, err := ClientState(key, tenant, clientID, resource)
			if err != nil {
				return nil, err
			}
			s.known[s.digest([]byte(state))] = struct{}{}
		}
	}
	return s, nil
}

// digest hashes a state of clientStateTextLength bytes. It allocates nothing, since anybody can cause calls.
func (s *clientStates) digest(state []byte) [sha256.Size]byte {
	var keyed [sha256.Size + clientStateTextLength]byte
	copy(keyed[:], s.salt[:])
	copy(keyed[sha256.Size:], state)
	return sha256.Sum256(keyed[:])
}

// match reports whether the state is one of ours. Its duration does not reveal how much of a state was right.
func (s *clientStates) match(state []byte) bool {
	if len(state) != clientStateTextLength {
		return false
	}
	_, found := s.known[s.digest(state)]
	return found
}
