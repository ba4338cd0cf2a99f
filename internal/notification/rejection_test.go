package notification_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

// Each way in which an item with the right client state can fail, what is missing then, and what its error says.
func TestOpenRejects(t *testing.T) {
	t.Parallel()
	const (
		unverified    = notification.GapUnverified
		undecryptable = notification.GapUndecryptable
		empty         = notification.GapEmpty
	)
	key, stranger := contentKey(t, 2048), contentKey(t, 3072)
	token := mint(t, tokenClaims())
	expired := tokenClaims()
	expired["exp"] = noon.Add(-time.Hour).Unix()
	late := mint(t, expired)
	tests := map[string]struct {
		tokens []string
		change func(*notification.Item)
		reason notification.Reason
		gap    notification.GapReason
		says   []string
	}{
		"no tenant":      {[]string{token}, func(i *notification.Item) { i.TenantID = "" }, notification.ReasonTenant, unverified, []string{"no tenant"}},
		"another tenant": {[]string{token}, func(i *notification.Item) { i.TenantID = "another" }, notification.ReasonTenant, unverified, []string{"tenant_id", "another"}},
		"tokens that are null": {
			nil, nil, notification.ReasonTokenMissing, unverified,
			[]string{"appRoleAssignmentRequired", "Assignment required", "Microsoft Graph Change Tracking"},
		},
		"no tokens":                    {[]string{}, nil, notification.ReasonTokenMissing, unverified, nil},
		"a token that is expired":      {[]string{late}, nil, notification.ReasonTokenExpired, unverified, []string{"clock"}},
		"one of two tokens is expired": {[]string{token, late}, nil, notification.ReasonTokenExpired, unverified, nil},
		"a token that is empty":        {[]string{token, ""}, nil, notification.ReasonTokenMalformed, unverified, nil},
		"too many tokens":              {strings.Split(strings.Repeat(token+" ", 65), " ")[:65], nil, notification.ReasonTokenCount, unverified, []string{"65"}},
		"an unknown change type":       {[]string{token}, func(i *notification.Item) { i.ChangeType = "undeleted" }, notification.ReasonChangeType, unverified, []string{"undeleted"}},
		"no change type":               {[]string{token}, func(i *notification.Item) { i.ChangeType = "" }, notification.ReasonChangeType, unverified, nil},
		"created without content":      {[]string{token}, func(i *notification.Item) { i.EncryptedContent = nil }, notification.ReasonContentMissing, empty, []string{"includeResourceData"}},
		"updated without content":      {[]string{token}, func(i *notification.Item) { i.ChangeType, i.EncryptedContent = "updated", nil }, notification.ReasonContentMissing, empty, nil},
		"content without members":      {[]string{token}, func(i *notification.Item) { i.EncryptedContent = seal(t, key, `{}`) }, notification.ReasonContentMissing, empty, []string{"neither an id nor a time"}},
		"updated to nothing that tells": {[]string{token}, func(i *notification.Item) {
			i.ChangeType, i.EncryptedContent = "updated", seal(t, key, `{"locale":"de"}`)
		}, notification.ReasonContentMissing, empty, nil},
		"deleted without content or id": {[]string{token}, func(i *notification.Item) {
			*i = notification.Item{ClientState: i.ClientState, ChangeType: "deleted", TenantID: tenant}
		}, notification.ReasonContentMissing, empty, nil},
		"an unknown certificate": {
			[]string{token},
			func(i *notification.Item) { i.EncryptedContent = seal(t, stranger, prompt) }, notification.ReasonCertificate, undecryptable,
			[]string{"encryption.certificates", stranger.CertificateID(), key.CertificateID()},
		},
		"no certificate at all": {[]string{token}, func(i *notification.Item) {
			i.EncryptedContent.CertificateID, i.EncryptedContent.CertificateThumbprint = "", ""
		}, notification.ReasonCertificate, undecryptable, nil},
		"a key of another certificate": {
			[]string{token},
			func(i *notification.Item) { i.EncryptedContent.DataKey = seal(t, stranger, prompt).DataKey },
			notification.ReasonOAEP, undecryptable,
			[]string{"encryption.certificates"},
		},
		"data of another item":    {[]string{token}, func(i *notification.Item) { i.EncryptedContent.Data = seal(t, key, prompt).Data }, notification.ReasonHMAC, undecryptable, []string{"altered"}},
		"no data signature":       {[]string{token}, func(i *notification.Item) { i.EncryptedContent.DataSignature = "" }, notification.ReasonSignatureMissing, undecryptable, []string{"history"}},
		"no base64":               {[]string{token}, func(i *notification.Item) { i.EncryptedContent.Data = "%" }, notification.ReasonMalformed, undecryptable, []string{"data is not base64"}},
		"content that is no JSON": {[]string{token}, func(i *notification.Item) { i.EncryptedContent = seal(t, key, "List the open risks") }, notification.ReasonPlaintext, undecryptable, []string{"19 bytes"}},
		"content without any id": {[]string{token}, func(i *notification.Item) {
			i.ResourceID, i.EncryptedContent = "", seal(t, key, `{"createdDateTime":"2025-12-01T14:30:05.123Z","body":{"content":"List the open risks"}}`)
		}, notification.ReasonPlaintext, undecryptable, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			item := promptItem(t, key)
			if test.change != nil {
				test.change(&item)
			}
			opened, err := notification.NewDecrypter(openerSettings(firstKey(t), key)).
				Decrypt(t.Context(), collection(test.tokens, item), noon)
			require.NoError(t, err)
			assert.Empty(t, opened.Received)
			require.Len(t, opened.Rejected, 1)
			got := opened.Rejected[0]
			assert.Equal(t, test.reason, got.Reason)
			assert.Equal(t, test.gap, got.Gap)
			assert.Equal(t, item.ResourceID, got.ItemID)
			for _, part := range test.says {
				require.ErrorContains(t, got.Err, part)
			}
			for _, secret := range []string{"risks", item.ClientState, token, late} {
				assert.NotContains(t, got.Err.Error(), secret)
			}
		})
	}
}

func TestOneBadTokenMakesTheWholeCollectionDoubtful(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	forged := promptItem(t, key)
	forged.ClientState = "forged"
	elsewhere := lifecycleItem(t, key)
	elsewhere.TenantID = "another"
	c := collection([]string{mint(t, tokenClaims()), "bad"}, promptItem(t, key), forged, lifecycleItem(t, key), elsewhere)
	opened, err := notification.NewDecrypter(openerSettings(firstKey(t), key)).Decrypt(t.Context(), c, noon)
	require.NoError(t, err)
	assert.Empty(t, opened.Received)
	assert.Empty(t, opened.Lifecycle)

	type kind struct {
		Reason notification.Reason
		Gap    notification.GapReason
	}
	var got []kind
	for _, rejection := range opened.Rejected {
		got = append(got, kind{rejection.Reason, rejection.Gap})
	}
	assert.Equal(t, []kind{
		{notification.ReasonTokenMalformed, notification.GapUnverified},
		{notification.ReasonClientState, ""},
		{notification.ReasonTokenMalformed, ""},
		{notification.ReasonTenant, ""},
	}, got)
}
