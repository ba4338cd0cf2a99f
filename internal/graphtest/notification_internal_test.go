// SPDX-License-Identifier: Apache-2.0

package graphtest

import (
	"encoding/base64"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The expected values come from an independent implementation.
func TestEncrypt_MatchesTestVector(t *testing.T) {
	t.Parallel()
	key, err := hex.DecodeString("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	require.NoError(t, err)
	data, signature, err := encrypt(key, []byte(`{"id":"1764599405123","interactionType":"userPrompt"}`))
	require.NoError(t, err)
	assert.Equal(t, "9wqXyFbxEGnZY44w3ytWwXaVYPZbFzXuU34x9bGIxzhbTZnCMLUhSDKiQHzEKY1fRdPL1PxFio+6OvSi2Aeo8w==", base64.StdEncoding.EncodeToString(data))
	assert.Equal(t, "TNm32NOAY6YaMwqBPc7Rq6RpYgjwrSt5WHyBLWs1NnE=", base64.StdEncoding.EncodeToString(signature))
}

func TestEncrypt_RequiresAESKey(t *testing.T) {
	t.Parallel()
	_, _, err := encrypt([]byte("short"), nil)
	require.Error(t, err)
}
