package notification

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
)

const (
	clientStateLabel  = "m365_copilot client state v1"
	clientStateLength = 32
)

// ClientState derives the clientState of a subscription: base64url without padding of HKDF-SHA256 (RFC 5869, 32 bytes, no
// salt) of the key's PKCS#8 form, with the info
//
//	m365_copilot client state v1|tenant|client id|resource without leading slash
//
// So it is the same after a restart and on every replica, and is stored nowhere. Tenant and client id are in lower case.
// The result is a secret.
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

// clientStates are those that an item of ours can carry: one for each key and resource.
type clientStates [][]byte

func deriveClientStates(ring Ring, tenant, clientID string, resources []string) (clientStates, error) {
	states := make(clientStates, 0, len(ring)*len(resources))
	for _, key := range ring {
		for _, resource := range resources {
			state, err := ClientState(key, tenant, clientID, resource)
			if err != nil {
				return nil, err
			}
			states = append(states, []byte(state))
		}
	}
	return states, nil
}

// match takes the same time whether and wherever it finds the state.
func (s clientStates) match(state string) bool {
	given := []byte(state)
	found := 0
	for _, expected := range s {
		found |= subtle.ConstantTimeCompare(given, expected)
	}
	return found == 1
}
