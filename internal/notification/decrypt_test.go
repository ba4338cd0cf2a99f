package notification_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

const secretText = `{"id":"1","body":{"content":"the very secret text"}}`

func TestDecryptRefuses(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	secret := bytes.Repeat([]byte{7}, 32)
	blocks := func(text string) *notification.EncryptedContent {
		return sealWith(t, key, secret, encryptBlocks(t, secret, []byte(text)))
	}
	tests := map[string]struct {
		content *notification.EncryptedContent
		change  func(*notification.EncryptedContent)
		want    error
	}{
		"no signature":               {change: func(c *notification.EncryptedContent) { c.DataSignature = "" }, want: notification.ErrNoSignature},
		"a signature not in base64":  {change: func(c *notification.EncryptedContent) { c.DataSignature = "%" }, want: notification.ErrMalformed},
		"a key not in base64":        {change: func(c *notification.EncryptedContent) { c.DataKey = "%" }, want: notification.ErrMalformed},
		"data not in base64":         {change: func(c *notification.EncryptedContent) { c.Data = "%" }, want: notification.ErrMalformed},
		"data in base64url":          {change: func(c *notification.EncryptedContent) { c.Data = "-_-_" }, want: notification.ErrMalformed},
		"data without padding":       {change: func(c *notification.EncryptedContent) { c.Data = "YQ" }, want: notification.ErrMalformed},
		"no key":                     {change: func(c *notification.EncryptedContent) { c.DataKey = "" }, want: notification.ErrOAEP},
		"an altered key":             {change: func(c *notification.EncryptedContent) { c.DataKey = flip(t, c.DataKey, 3) }, want: notification.ErrOAEP},
		"the key of another's":       {content: seal(t, contentKey(t, 3072), secretText), want: notification.ErrOAEP},
		"altered data":               {change: func(c *notification.EncryptedContent) { c.Data = flip(t, c.Data, 3) }, want: notification.ErrHMAC},
		"no data":                    {change: func(c *notification.EncryptedContent) { c.Data = "" }, want: notification.ErrHMAC},
		"an altered signature":       {change: func(c *notification.EncryptedContent) { c.DataSignature = flip(t, c.DataSignature, 31) }, want: notification.ErrHMAC},
		"half a signature":           {change: func(c *notification.EncryptedContent) { c.DataSignature = c.DataSignature[:20] }, want: notification.ErrHMAC},
		"a signature over base64":    {change: func(c *notification.EncryptedContent) { c.DataSignature = sign(secret, []byte(c.Data)) }, want: notification.ErrHMAC},
		"a content key of 16 bytes":  {content: sealWith(t, key, secret[:16], encrypt(t, secret[:16], []byte(secretText))), want: notification.ErrMalformed},
		"signed data that is empty":  {content: sealWith(t, key, secret, nil), want: notification.ErrMalformed},
		"signed data of half blocks": {content: sealWith(t, key, secret, []byte("eight by")), want: notification.ErrMalformed},
		"padding of zero":            {content: blocks("fifteen bytes..\x00"), want: notification.ErrMalformed},
		"padding over a block":       {content: blocks("fifteen bytes..\x11"), want: notification.ErrMalformed},
		"padding that differs":       {content: blocks("fourteen bytes\x03\x02"), want: notification.ErrMalformed},
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
			require.ErrorIs(t, err, test.want)
			assert.Nil(t, text)
			assert.NotContains(t, err.Error(), "secret")
		})
	}
}

// flip alters one bit of a byte inside base64.
func flip(t *testing.T, text string, at int) string {
	t.Helper()
	data, err := base64.StdEncoding.DecodeString(text)
	require.NoError(t, err)
	data[at] ^= 1
	return base64.StdEncoding.EncodeToString(data)
}

func TestDecryptPassesOverLineBreaks(t *testing.T) {
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

// Whatever is encrypted comes out again, of any length and with any bytes.
func FuzzDecryptGivesBackWhatWasEncrypted(f *testing.F) {
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

// Nobody without the content key gets anything through, and nothing panics.
func FuzzDecrypt(f *testing.F) {
	key := contentKey(f, 2048)
	sealed := seal(f, key, secretText)
	f.Add(sealed.Data+"AAAA", sealed.DataKey, sealed.DataSignature)
	f.Add("", sealed.DataKey, sealed.DataSignature)
	f.Add("YQ==", "", "YQ==")
	f.Fuzz(func(t *testing.T, data, dataKey, signature string) {
		content := &notification.EncryptedContent{Data: data, DataKey: dataKey, DataSignature: signature}
		text, err := notification.Decrypt(content, key)
		if err == nil {
			require.JSONEq(t, secretText, string(text))
			return
		}
		require.Nil(t, text)
	})
}
