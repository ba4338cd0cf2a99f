// SPDX-License-Identifier: Apache-2.0

package notification_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

func BenchmarkDecrypterTenItems(b *testing.B) {
	key := contentKey(b, 2048)
	decrypter := newDecrypter(b, decrypterSettings(firstKey(b), key))
	var items []notification.Item
	for range 10 {
		items = append(items, promptItem(b, key))
	}
	c := collection([]string{mint(b, tokenClaims())}, items...)
	b.ReportAllocs()
	for b.Loop() {
		decrypted, err := decrypter.Decrypt(b.Context(), c, noon)
		require.NoError(b, err)
		require.Len(b, decrypted.Received, 10)
	}
}

func BenchmarkDecrypt(b *testing.B) {
	key := contentKey(b, 2048)
	content := seal(b, key, prompt)
	b.ReportAllocs()
	for b.Loop() {
		_, err := notification.Decrypt(content, key)
		require.NoError(b, err)
	}
}

func BenchmarkVerifyCachedToken(b *testing.B) {
	verifier := newVerifier(firstKey(b))
	token := mint(b, tokenClaims())
	b.ReportAllocs()
	for b.Loop() {
		require.NoError(b, verifier.Verify(b.Context(), token, noon))
	}
}

func BenchmarkInspectAndDecode(b *testing.B) {
	body := []byte(fullBody)
	b.ReportAllocs()
	for b.Loop() {
		_, err := parse(body)
		require.NoError(b, err)
	}
}

func BenchmarkInspectForged(b *testing.B) {
	body := []byte(`{"value":[` + strings.TrimSuffix(strings.Repeat("{},", 19_999), ",") + `]}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		envelope, err := notification.Inspect(body, func([]byte) bool { return false })
		require.NoError(b, err)
		require.Equal(b, 19_999, envelope.Foreign)
	}
}
