// SPDX-License-Identifier: Apache-2.0

package notification_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/jwks"
)

var errDown = errors.New("authority is down")

// authority is a RoundTripper that answers with its current key set, or fails.
type authority struct {
	mu   sync.Mutex
	body []byte
	err  error
}

func (a *authority) RoundTrip(request *http.Request) (*http.Response, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return nil, a.err
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(a.body)), Request: request}, nil
}

// publish makes the authority answer with the named keys.
func (a *authority) publish(t *testing.T, names ...string) {
	t.Helper()
	var set jose.JSONWebKeySet
	for _, name := range names {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: &authorityKey(t, name).PublicKey, KeyID: name, Use: "sig", Algorithm: "RS256"})
	}
	body, err := json.Marshal(set)
	require.NoError(t, err)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.body, a.err = body, nil
}

func (a *authority) keySet(t *testing.T) *jwks.KeySet {
	t.Helper()
	set := jwks.New("https://login.example/keys", &http.Client{Transport: a})
	t.Cleanup(set.Close)
	return set
}

// A token signed with a key that was added by a rotation verifies, and so does one signed with the previous key.
func TestVerifier_FollowsKeyRotation(t *testing.T) {
	t.Parallel()
	remote := &authority{}
	remote.publish(t, "first")
	verifier := newVerifier(remote.keySet(t))
	require.NoError(t, verifier.Verify(t.Context(), mint(t, tokenClaims()), noon))

	remote.publish(t, "first", "second")
	require.NoError(t, verifier.Verify(t.Context(), mintWith(t, authorityKey(t, "second"), "second", tokenClaims()), noon))
	claims := tokenClaims()
	claims["ver"], claims["appid"], claims["iss"] = "1.0", publisher, issuerV1
	require.NoError(t, verifier.Verify(t.Context(), mint(t, claims), noon))
}

func TestDecrypter_SucceedsOnceKeysAreAvailable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		key := contentKey(t, 2048)
		remote := &authority{err: errDown}
		decrypter := newDecrypter(t, decrypterSettings(remote.keySet(t), key))
		c := collection([]string{mint(t, tokenClaims())}, promptItem(t, key))
		_, err := decrypter.Decrypt(t.Context(), c, noon)
		require.ErrorIs(t, err, jwks.ErrUnavailable)

		remote.publish(t, "first")
		time.Sleep(time.Second)
		decrypted, err := decrypter.Decrypt(t.Context(), c, noon)
		require.NoError(t, err)
		assert.Len(t, decrypted.Received, 1)
	})
}
