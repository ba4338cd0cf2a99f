// SPDX-License-Identifier: Apache-2.0

package notification_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

// An item is recognized when it is sent again, whether it could be decrypted the first time or not.
func TestContentDigest_IsThatOfTheIDsWithoutSignature(t *testing.T) {
	t.Parallel()
	item := func(subscription, id, change string) *notification.Item {
		return &notification.Item{SubscriptionID: subscription, ResourceID: id, ChangeType: change}
	}
	one := item("a", "1", "deleted")
	assert.Equal(t, item("a", "1", "Deleted").ContentDigest(), one.ContentDigest())
	for _, other := range []*notification.Item{item("b", "1", "deleted"), item("a", "2", "deleted"), item("a", "1", "created")} {
		assert.NotEqual(t, other.ContentDigest(), one.ContentDigest())
	}
	unsigned := item("a", "1", "deleted")
	unsigned.EncryptedContent = &notification.EncryptedContent{Data: "d"}
	assert.Equal(t, one.ContentDigest(), unsigned.ContentDigest())
	unsigned.EncryptedContent.DataSignature = "s"
	assert.NotEqual(t, one.ContentDigest(), unsigned.ContentDigest())
}
