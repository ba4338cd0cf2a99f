// SPDX-License-Identifier: Apache-2.0

package notification_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

const secretText = `{"id":"1","body":{"content":"the very secret text"}}`

func TestDecrypt_RejectsInvalidContent(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	secret := bytes.Repeat([]byte{7}, 32)
	blocks := func(text string) *notification.EncryptedContent {
		return sealWith(t, key, secret, encryptBlocks(t, secret, []byte(text)))
	}
	tests := map[string]struct {
		content *notification.EncryptedContent
		change  func(*notification.EncryptedContent)
		want    notification.Reason
	}{
		"no signature":                   {change: func(c *notification.EncryptedContent) { c.DataSignature = "" }, want: notification.ReasonSignatureMissing},
		"a signature that is not base64": {change: func(c *notification.EncryptedContent) { c.DataSignature = "%" }, want: notification.ReasonMalformed},
		"a key that is not base64":       {change: func(c *notification.EncryptedContent) { c.DataKey = "%" }, want: notification.ReasonMalformed},
		"data that is not base64":        {change: func(c *notification.EncryptedContent) { c.Data = "%" }, want: notification.ReasonMalformed},
		"data in base64url":              {change: func(c *notification.EncryptedContent) { c.Data = "-_-_" }, want: notification.ReasonMalformed},
		"base64 without padding":         {change: func(c *notification.EncryptedContent) { c.Data = "YQ" }, want: notification.ReasonMalformed},
		"no key":                         {change: func(c *notification.EncryptedContent) { c.DataKey = "" }, want: notification.ReasonOAEP},
		"an altered key":                 {change: func(c *notification.EncryptedContent) { c.DataKey = flipBit(t, c.DataKey, 3) }, want: notification.ReasonOAEP},
		"a key for another certificate":  {content: seal(t, contentKey(t, 3072), secretText), want: notification.ReasonOAEP},
		"altered data":                   {change: func(c *notification.EncryptedContent) { c.Data = flipBit(t, c.Data, 3) }, want: notification.ReasonHMAC},
		"no data":                        {change: func(c *notification.EncryptedContent) { c.Data = "" }, want: notification.ReasonHMAC},
		"an altered signature":           {change: func(c *notification.EncryptedContent) { c.DataSignature = flipBit(t, c.DataSignature, 31) }, want: notification.ReasonHMAC},
		"half a signature":               {change: func(c *notification.EncryptedContent) { c.DataSignature = c.DataSignature[:20] }, want: notification.ReasonHMAC},
		"a signature over base64":        {change: func(c *notification.EncryptedContent) { c.DataSignature = sign(secret, []byte(c.Data)) }, want: notification.ReasonHMAC},
		"a content key of 16 bytes":      {content: sealWith(t, key, secret[:16], encrypt(t, secret[:16], []byte(secretText))), want: notification.ReasonMalformed},
		"signed data that is empty":      {content: sealWith(t, key, secret, nil), want: notification.ReasonMalformed},
		"signed data of half a block":    {content: sealWith(t, key, secret, []byte("eight by")), want: notification.ReasonMalformed},
		"padding of zero":                {content: blocks("fifteen bytes..\x00"), want: notification.ReasonMalformed},
		"padding over a block":           {content: blocks("fifteen bytes..\x11"), want: notification.ReasonMalformed},
		"padding that differs":           {content: blocks("fourteen bytes\x03\x02"), want: notification.ReasonMalformed},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			content := test.content
			if content == nil {
				content = sealWith(t, key, secret, encrypt(t, secret, []byte(secretText)))
			}
			if test.change != nil {
				test.change(content)
			}
			text, err := notification.Decrypt(content, key)
			refused, ok := errors.AsType[*notification.Error](err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, test.want, refused.Reason)
			assert.Nil(t, text)
			assert.NotContains(t, err.Error(), "secret")
		})
	}
}

// flipBit inverts one bit of base64-encoded data.
func flipBit(t *testing.T, text string, at int) string {
	t.Helper()
	data, err := base64.StdEncoding.DecodeString(text)
	require.NoError(t, err)
	data[at] ^= 1
	return base64.StdEncoding.EncodeToString(data)
}

func TestDecrypt_IgnoresLineBreaks(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	content := seal(t, key, secretText)
	for _, member := range []*string{&content.Data, &content.DataKey, &content.DataSignature} {
		*member = strings.Join([]string{(*member)[:20], (*member)[20:]}, "\r\n")
	}
	text, err := notification.Decrypt(content, key)
	require.NoError(t, err)
	assert.JSONEq(t, secretText, string(text))
}

// FuzzDecryptRoundTrip decrypts what was encrypted, of any length and with any bytes.
func FuzzDecryptRoundTrip(f *testing.F) {
	key := contentKey(f, 2048)
	f.Add([]byte{})
	f.Add([]byte("fifteen bytes.."))
	f.Add([]byte("sixteen bytes..."))
	f.Add([]byte("padding of \x04\x04\x04\x04"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := notification.Decrypt(seal(t, key, string(text)), key)
		require.NoError(t, err)
		require.True(t, bytes.Equal(text, got))
	})
}

// FuzzDecrypt checks that only authentic content is decrypted and that nothing panics.
func FuzzDecrypt(f *testing.F) {
	key := contentKey(f, 2048)
	sealed := seal(f, key, secretText)
	f.Add(sealed.Data+"AAAA", sealed.DataKey, sealed.DataSignature)
	f.Add("", sealed.DataKey, sealed.DataSignature)
	f.Add("YQ==", "", "YQ==")
	f.Fuzz(func(t *testing.T, data, dataKey, digest string) {
		content := &notification.EncryptedContent{Data: data, DataKey: dataKey, DataSignature: digest}
		text, err := notification.Decrypt(content, key)
		if err == nil {
			require.JSONEq(t, secretText, string(text))
			return
		}
		require.Nil(t, text)
	})
}

// Content, certificate ids and client states agree with those created by openssl; see testdata/make-vectors.sh.
func TestDecrypt_AgreesWithOpenSSL(t *testing.T) {
	t.Parallel()
	for _, bits := range []int{2048, 3072, 4096} {
		t.Run(fmt.Sprintf("%d bits", bits), func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join("testdata", "vectors", fmt.Sprintf("rsa%d", bits))
			key := contentKey(t, bits)

			var derived struct{ CertificateID, Thumbprint, ClientState string }
			readJSON(t, filepath.Join(dir, "derived.json"), &derived)
			assert.Equal(t, derived.CertificateID, key.CertificateID())
			assert.Equal(t, derived.Thumbprint, key.Thumbprint())
			assert.Equal(t, derived.ClientState, clientState(t, key))

			var content notification.EncryptedContent
			readJSON(t, filepath.Join(dir, "content.json"), &content)
			want, err := os.ReadFile(filepath.Join(dir, "plaintext.json"))
			require.NoError(t, err)
			text, err := notification.Decrypt(&content, key)
			require.NoError(t, err)
			assert.Equal(t, string(want), string(text))
		})
	}
}

func readJSON(t *testing.T, file string, into any) {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, into))
}

// A vector with a fixed content key. It also shows that the initialization vector is the first half of the key.
func TestDecrypt_FixedVector(t *testing.T) {
	t.Parallel()
	secret, err := hex.DecodeString("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	require.NoError(t, err)
	key := contentKey(t, 2048)
	content := sealWith(t, key, secret, nil)
	content.Data = "9wqXyFbxEGnZY44w3ytWwXaVYPZbFzXuU34x9bGIxzhbTZnCMLUhSDKiQHzEKY1fRdPL1PxFio+6OvSi2Aeo8w=="
	content.DataSignature = "TNm32NOAY6YaMwqBPc7Rq6RpYgjwrSt5WHyBLWs1NnE="

	text, err := notification.Decrypt(content, key)
	require.NoError(t, err)
	assert.JSONEq(t, `{"id":"1764599405123","interactionType":"userPrompt"}`, string(text))
}
