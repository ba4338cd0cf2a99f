package notification_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

func BenchmarkOpenTenItems(b *testing.B) {
	key := contentKey(b, 2048)
	opener := notification.NewDecrypter(openerSettings(firstKey(b), key))
	var items []notification.Item
	for range 10 {
		items = append(items, promptItem(b, key))
	}
	c := collection([]string{mint(b, tokenClaims())}, items...)
	b.ReportAllocs()
	for b.Loop() {
		opened, err := opener.Decrypt(b.Context(), c, noon)
		require.NoError(b, err)
		require.Len(b, opened.Received, 10)
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

func BenchmarkVerifyRememberedToken(b *testing.B) {
	verifier := newVerifier(firstKey(b))
	token := mint(b, tokenClaims())
	b.ReportAllocs()
	for b.Loop() {
		require.NoError(b, verifier.Verify(b.Context(), token, noon))
	}
}

func BenchmarkParse(b *testing.B) {
	body := []byte(rich)
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
