package notification_test

import (
	"crypto/sha256"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

// delivered are the signatures of what was delivered already.
type delivered map[[sha256.Size]byte]bool

func (d delivered) Known(signature [sha256.Size]byte) bool { return d[signature] }

func TestOpenSparesTheDecryptionOfWhatWasDelivered(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	settings := openerSettings(firstKey(t), key)
	seen, count := delivered{}, &decrypted{}
	settings.Seen, settings.Telemetry = seen, count
	opener := notification.NewDecrypter(settings)
	old, young := promptItem(t, key), promptItem(t, key)
	unsigned := promptItem(t, key)
	unsigned.EncryptedContent.DataSignature = ""
	token := mint(t, tokenClaims())

	first, err := opener.Decrypt(t.Context(), collection([]string{token}, old), noon)
	require.NoError(t, err)
	require.Len(t, first.Received, 1)
	seen[first.Received[0].ContentDigest] = true
	seen[[sha256.Size]byte{}] = true

	again, err := opener.Decrypt(t.Context(), collection([]string{token}, old, young, unsigned), noon)
	require.NoError(t, err)
	require.Len(t, again.Received, 1, "the young one alone")
	assert.Equal(t, young.ContentDigest(), again.Received[0].ContentDigest)
	require.Len(t, again.Rejected, 1, "what has no signature is not taken for what was delivered")
	assert.Equal(t, notification.ReasonSignatureMissing, again.Rejected[0].Reason)
	assert.EqualValues(t, 2, count.items.Load(), "one decryption for each of the two that are new")

	forged := old
	forged.ClientState = "guessed"
	rejected, err := opener.Decrypt(t.Context(), collection([]string{token}, forged), noon)
	require.NoError(t, err)
	assert.Len(t, rejected.Rejected, 1, "who is not authentic learns nothing about what was delivered")
}
