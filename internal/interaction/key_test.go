// SPDX-License-Identifier: Apache-2.0

package interaction_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

const tenant = "3c8f1a52-6d0e-4b97-a1f4-92e5d7b6c010"

func received(change func(*interaction.Received)) *interaction.Received {
	r := &interaction.Received{TenantID: tenant, SubscriptionID: "7f105c7d-2dc5-4530-97cd-4e7ae6534c07", Change: interaction.Created}
	r.SessionID, r.ID, r.ETag = "19:session@thread.v2", "1764601200123", "1764601200123"
	if change != nil {
		change(r)
	}
	return r
}

func TestKey_EqualForSameInteractionOnly(t *testing.T) {
	t.Parallel()
	tombstone := func(r *interaction.Received) {
		r.WithoutContent, r.Change, r.SessionID, r.ETag = true, interaction.Deleted, "", ""
	}
	tests := map[string]struct {
		a, b func(*interaction.Received)
		want bool
	}{
		"equal for a redelivery": {nil, nil, true},
		"equal for another source": {nil, func(r *interaction.Received) {
			r.Source, r.SubscriptionID = interaction.FromHistory, ""
		}, true},
		"equal for another user and turn":               {nil, func(r *interaction.Received) { r.UserID, r.Turn = "u", "t" }, true},
		"equal for another version":                     {nil, func(r *interaction.Received) { r.ETag = "1764601290000" }, true},
		"equal for another change":                      {nil, func(r *interaction.Received) { r.Change = interaction.Deleted }, true},
		"different for the same id in another session":  {nil, func(r *interaction.Received) { r.SessionID = "19:other@thread.v2" }, false},
		"different for another tenant":                  {nil, func(r *interaction.Received) { r.TenantID = "x" }, false},
		"different for another id":                      {nil, func(r *interaction.Received) { r.ID = "2" }, false},
		"different for sessions that differ in case":    {nil, func(r *interaction.Received) { r.SessionID = "19:SESSION@thread.v2" }, false},
		"equal for tombstones of one subscription":      {tombstone, tombstone, true},
		"different for tombstones of two subscriptions": {tombstone, func(r *interaction.Received) { tombstone(r); r.SubscriptionID = "s" }, false},
		"different for a tombstone and a deletion with content": {tombstone, func(r *interaction.Received) {
			tombstone(r)
			r.WithoutContent = false
		}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := received(tt.a).Key(), received(tt.b).Key()
			assert.Equal(t, tt.want, a == b)
			assert.Equal(t, tt.want, a.Text() == b.Text())
		})
	}
}

// The expected ids were computed with
//
//	printf 'interaction\037{tenant}\037{session}\037{id}\037{change}' | sha256sum | cut -c1-32
func TestReceived_UIDMatchesSpecification(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*interaction.Received)
		want   string
	}{
		"a creation": {nil, "9ee4629855724171f5ac4cd10b6d4c9f"},
		"a creation in a later version has the same id": {func(r *interaction.Received) { r.ETag = "1764601290000" }, "9ee4629855724171f5ac4cd10b6d4c9f"},
		"an update includes its etag": {func(r *interaction.Received) {
			r.Change, r.ETag = interaction.Updated, "1764601290000"
		}, "84d7c87b2f64ba071c356053c138f85b"},
		"an update without etag includes the id instead": {func(r *interaction.Received) {
			r.Change, r.ETag = interaction.Updated, ""
		}, "6be8eb84b8bd53afdb5c99c355dd54e0"},
		"a deletion": {func(r *interaction.Received) { r.Change, r.ETag = interaction.Deleted, "" }, "eed6cc0a09964727101afd3c547f058e"},
		"a deletion without content includes the subscription": {func(r *interaction.Received) {
			r.Change, r.WithoutContent = interaction.Deleted, true
		}, "84ff4ee9af6926da8a4dff26fc11e101"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.want, received(test.change).UID())
		})
	}
}

// TestKey_FormsNeverCollide checks that no session makes a key equal to one without content.
func TestKey_FormsNeverCollide(t *testing.T) {
	t.Parallel()
	bare := interaction.Key{Tenant: "t", Subscription: "s", ID: "1", WithoutContent: true}
	for _, k := range []interaction.Key{
		{Tenant: "t", Session: "s", ID: "1"},
		{Tenant: "tombstone\x1ft", Session: "s", ID: "1"},
	} {
		assert.NotEqual(t, bare.Text(), k.Text())
	}
}
