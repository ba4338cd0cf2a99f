package receiver

import (
	"crypto/sha256"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

// signature is what Graph sends again unchanged, whatever else it does.
type signature [sha256.Size]byte

// signatureOf is that of its encrypted content. What came without content is known by what it said of itself.
func signatureOf(received *interaction.Received) signature {
	if received.ContentDigest == ([sha256.Size]byte{}) {
		return bareSignature(received.SubscriptionID, received.ID)
	}
	return received.ContentDigest
}

// signatureOfUnopened is the same of an item that could not be opened.
func signatureOfUnopened(item *notification.Item) signature {
	if signed := item.ContentDigest(); signed != ([sha256.Size]byte{}) {
		return signed
	}
	return bareSignature(item.SubscriptionID, item.ResourceID)
}

func bareSignature(subscriptionID, id string) signature {
	return sha256.Sum256([]byte(subscriptionID + "\x1f" + id))
}
