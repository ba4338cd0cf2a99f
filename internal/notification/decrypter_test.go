// SPDX-License-Identifier: Apache-2.0

package notification_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

func decrypterSettings(source notification.KeySource, ring ...*notification.Key) notification.Settings {
	return notification.Settings{
		TenantID:  tenant,
		ClientID:  client,
		Issuers:   []string{issuerV1, issuerV2},
		Resources: []string{resource},
		Ring:      ring,
		Keys:      source,
	}
}

func newDecrypter(tb testing.TB, settings notification.Settings) *notification.Decrypter {
	tb.Helper()
	return notification.NewDecrypter(settings)
}

// promptItem returns an authentic item whose content is prompt.
func promptItem(tb testing.TB, key *notification.Key) notification.Item {
	tb.Helper()
	return notification.Item{
		SubscriptionID:   "subscription",
		ChangeType:       "created",
		ResourceID:       promptID,
		TenantID:         tenant,
		EncryptedContent: seal(tb, key, prompt),
	}
}

func lifecycleItem() notification.Item {
	return notification.Item{
		SubscriptionID: "subscription",
		LifecycleEvent: notification.ReauthorizationRequired,
	}
}

func collection(tokens []string, items ...notification.Item) *notification.Collection {
	return &notification.Collection{Items: items, ValidationTokens: tokens}
}

func TestDecrypter_ReturnsInteraction(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	settings := decrypterSettings(firstKey(t), key)
	settings.TenantID, settings.ClientID = strings.ToUpper(tenant), strings.ToUpper(client)
	item := promptItem(t, key)
	item.TenantID = strings.ToUpper(tenant)

	decrypted, err := newDecrypter(t, settings).Decrypt(t.Context(), collection([]string{mint(t, tokenClaims())}, item), noon)
	require.NoError(t, err)
	parsed, err := interaction.Parse([]byte(prompt))
	require.NoError(t, err)
	assert.Empty(t, cmp.Diff(notification.Decrypted{Received: []interaction.Received{{
		Interaction:    *parsed,
		TenantID:       tenant,
		SubscriptionID: "subscription",
		Change:         interaction.Created,
		Source:         interaction.FromNotification,
		At:             noon,
		ContentDigest:  sha256.Sum256([]byte(item.EncryptedContent.DataSignature + "\x1fcreated")),
	}}}, decrypted))
}

func TestDecrypter_KeepsItemOrder(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	settings := decrypterSettings(firstKey(t), key)
	count := &decryptions{}
	settings.Decrypted = count.decrypted
	var items []notification.Item
	var want []string
	for id := range strings.SplitSeq("abcdefghijklmnopqrst", "") {
		item := promptItem(t, key)
		item.EncryptedContent = seal(t, key, `{"id":"`+id+`"}`)
		items, want = append(items, item), append(want, id)
	}
	decrypted, err := newDecrypter(t, settings).Decrypt(t.Context(), collection([]string{mint(t, tokenClaims())}, items...), noon)
	require.NoError(t, err)
	var got []string
	for _, received := range decrypted.Received {
		got = append(got, received.ID)
	}
	assert.Equal(t, want, got)
	assert.EqualValues(t, 20, count.items.Load())
	assert.Positive(t, count.spent.Load())
}

type decryptions struct{ items, spent atomic.Int64 }

func (d *decryptions) decrypted(spent time.Duration) {
	d.items.Add(1)
	d.spent.Add(int64(spent))
}

func TestDecrypter_AcceptsValidVariants(t *testing.T) {
	t.Parallel()
	key, older := contentKey(t, 2048), contentKey(t, 3072)
	tests := map[string]struct {
		change func(*notification.Item)
		want   interaction.Received
	}{
		"an update":               {func(i *notification.Item) { i.ChangeType = "updated" }, interaction.Received{Change: interaction.Updated}},
		"a deletion with content": {func(i *notification.Item) { i.ChangeType = "deleted" }, interaction.Received{Change: interaction.Deleted}},
		"a deletion without content": {
			func(i *notification.Item) { i.ChangeType, i.EncryptedContent = "deleted", nil },
			interaction.Received{Change: interaction.Deleted, WithoutContent: true},
		},
		"with a tenant in upper case":   {func(i *notification.Item) { i.TenantID = strings.ToUpper(tenant) }, interaction.Received{Change: interaction.Created}},
		"a change type in another case": {func(i *notification.Item) { i.ChangeType = "Created" }, interaction.Received{Change: interaction.Created}},
		"for the older certificate":     {func(i *notification.Item) { i.EncryptedContent = seal(t, older, prompt) }, interaction.Received{Change: interaction.Created}},
		"without certificate id":        {func(i *notification.Item) { i.EncryptedContent.CertificateID = "" }, interaction.Received{Change: interaction.Created}},
		"with a thumbprint in upper case and another id": {func(i *notification.Item) {
			i.EncryptedContent.CertificateID = "before"
			i.EncryptedContent.CertificateThumbprint = strings.ToUpper(i.EncryptedContent.CertificateThumbprint)
		}, interaction.Received{Change: interaction.Created}},
		"with a certificate id that takes precedence over the thumbprint": {
			func(i *notification.Item) { i.EncryptedContent.CertificateThumbprint = older.Thumbprint() },
			interaction.Received{Change: interaction.Created},
		},
		"content with a time and no id": {
			func(i *notification.Item) {
				i.EncryptedContent = seal(t, key, `{"createdDateTime":"2025-12-01T14:30:05.123Z"}`)
			},
			interaction.Received{Change: interaction.Created},
		},
		"content with a time and an id of null": {
			func(i *notification.Item) {
				i.EncryptedContent = seal(t, key, ` {"id":null,"createdDateTime":"2025-12-01T14:30:05.123Z"} `)
			},
			interaction.Received{Change: interaction.Created},
		},
		"a deletion with empty content": {
			func(i *notification.Item) { i.ChangeType, i.EncryptedContent = "deleted", seal(t, key, `{}`) },
			interaction.Received{Change: interaction.Deleted, WithoutContent: true},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			item := promptItem(t, key)
			test.change(&item)
			decrypted, err := newDecrypter(t, decrypterSettings(firstKey(t), key, older)).
				Decrypt(t.Context(), collection([]string{mint(t, tokenClaims())}, item), noon)
			require.NoError(t, err)
			require.Empty(t, decrypted.Rejected)
			require.Len(t, decrypted.Received, 1)
			got := decrypted.Received[0]
			assert.Equal(t, promptID, got.ID)
			assert.Equal(t, test.want.Change, got.Change)
			assert.Equal(t, test.want.WithoutContent, got.WithoutContent)
			assert.Equal(t, tenant, got.TenantID)
		})
	}
}

func TestDecrypter_DecryptsKnownContentOfOtherChangeType(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	item := promptItem(t, key)
	settings := decrypterSettings(firstKey(t), key)
	settings.Delivered = func(digest [sha256.Size]byte) bool { return digest == item.ContentDigest() }
	decrypter := newDecrypter(t, settings)
	deletion := item
	deletion.ChangeType = "Deleted"
	decrypted, err := decrypter.Decrypt(t.Context(), collection([]string{mint(t, tokenClaims())}, item, deletion), noon)
	require.NoError(t, err)
	require.Len(t, decrypted.Received, 1)
	assert.Equal(t, interaction.Deleted, decrypted.Received[0].Change)
}

func TestDecrypter_AcceptsLifecycleItemsWithoutTokens(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	prompt := promptItem(t, key)
	decrypted, err := newDecrypter(t, decrypterSettings(firstKey(t), key)).
		Decrypt(t.Context(), collection(nil, lifecycleItem(), prompt), noon)
	require.NoError(t, err)
	assert.Equal(t, []notification.Lifecycle{{
		SubscriptionID: "subscription", Event: notification.ReauthorizationRequired,
	}}, decrypted.Lifecycle)
	require.Len(t, decrypted.Rejected, 1, "the prompt in the same collection needs them")
	assert.Equal(t, prompt.ContentDigest(), decrypted.Rejected[0].ContentDigest, "identifies the item when it is sent again")
	assert.Equal(t, notification.ReasonTokenMissing, decrypted.Rejected[0].Reason)
}

// Decryption stops between two items when the context ends, and nothing of the collection is returned.
func TestDecrypter_StopsWhenContextEnds(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	settings := decrypterSettings(firstKey(t), key)
	stops := &cancelingDecryptions{cancel: cancel}
	settings.Decrypted = stops.decrypted
	item := promptItem(t, key)
	var items []notification.Item
	for range 200 {
		items = append(items, item)
	}
	decrypted, err := newDecrypter(t, settings).Decrypt(ctx, collection([]string{mint(t, tokenClaims())}, items...), noon)
	require.ErrorIs(t, err, context.Canceled)
	assert.Empty(t, decrypted)
	assert.Less(t, stops.items.Load(), int64(200))
}

type cancelingDecryptions struct {
	items  atomic.Int64
	cancel context.CancelFunc
}

func (s *cancelingDecryptions) decrypted(time.Duration) {
	s.items.Add(1)
	s.cancel()
}

func TestDecrypter_IsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	decrypter := newDecrypter(t, decrypterSettings(firstKey(t), key))
	c := collection([]string{mint(t, tokenClaims())}, promptItem(t, key), lifecycleItem())
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			decrypted, err := decrypter.Decrypt(t.Context(), c, noon)
			if assert.NoError(t, err) {
				assert.Len(t, decrypted.Received, 1)
				assert.Len(t, decrypted.Lifecycle, 1)
			}
		})
	}
	callers.Wait()
}

// More decryptions at once would only delay each other, and the answers of all.
func TestDecrypter_AllCollectionsShareTheProcessors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		key, token := contentKey(t, 2048), mint(t, tokenClaims())
		settings := decrypterSettings(firstKey(t), key)
		var decrypting atomic.Int64
		release := make(chan struct{})
		settings.Delivered = func([sha256.Size]byte) bool { // called in each decryption
			decrypting.Add(1)
			<-release
			return true
		}
		decrypter := newDecrypter(t, settings)
		var callers sync.WaitGroup
		for range 2 * runtime.GOMAXPROCS(0) {
			callers.Go(func() {
				_, err := decrypter.Decrypt(t.Context(), collection([]string{token}, promptItem(t, key), promptItem(t, key)), noon)
				assert.NoError(t, err)
			})
		}
		synctest.Wait()
		assert.EqualValues(t, runtime.GOMAXPROCS(0), decrypting.Load())
		close(release)
		callers.Wait()
		assert.EqualValues(t, 4*runtime.GOMAXPROCS(0), decrypting.Load())
	})
}

func TestDecrypter_RejectsOtherTenantsWithoutKeyLookup(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	source := firstKey(t)
	count := &decryptions{}
	settings := decrypterSettings(source, key)
	settings.Decrypted = count.decrypted
	other, event := promptItem(t, key), lifecycleItem()
	other.TenantID, event.TenantID = "another", "another"

	decrypted, err := newDecrypter(t, settings).
		Decrypt(t.Context(), collection([]string{mint(t, tokenClaims())}, other, event, notification.Item{}), noon)
	require.NoError(t, err)
	assert.Empty(t, decrypted.Received)
	assert.Empty(t, decrypted.Lifecycle)
	require.Len(t, decrypted.Rejected, 3)
	for _, rejection := range decrypted.Rejected {
		assert.Equal(t, notification.ReasonTenant, rejection.Reason)
		assert.Equal(t, failure.OtherTenant, failure.Of(rejection.Err).Code)
	}
	assert.Zero(t, source.calls.Load())
	assert.Zero(t, count.items.Load())
}

func TestDecrypter_OwnClientStateTimeIsIndependentOfResources(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	forged := bytes.Repeat([]byte("A"), len(clientState(t, key)))
	withUsers := func(users int) *notification.Decrypter {
		settings := decrypterSettings(firstKey(t), key)
		for i := range users {
			settings.Resources = append(settings.Resources, "copilot/users/"+strconv.Itoa(i)+"/interactionHistory/getAllEnterpriseInteractions")
		}
		return newDecrypter(t, settings)
	}
	cost := func(decrypter *notification.Decrypter) time.Duration {
		start := time.Now()
		for range 1000 {
			require.False(t, decrypter.OwnClientState(forged))
		}
		return time.Since(start)
	}
	one, many := withUsers(1), withUsers(5000)
	least, leastOfMany := time.Hour, time.Hour
	for range 20 { // in turns, so that a pause of the process counts for neither
		least, leastOfMany = min(least, cost(one)), min(leastOfMany, cost(many))
	}
	assert.Less(t, leastOfMany, 20*least)
}

func TestDecrypter_ReturnsErrorWhenUndecidable(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	tests := map[string]struct {
		ctx      context.Context
		settings notification.Settings
		want     error
	}{
		"keys are not available":  {t.Context(), decrypterSettings(&fakeKeySource{err: errDown}, key), errDown},
		"the context is canceled": {canceled, decrypterSettings(firstKey(t), key), context.Canceled},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			decrypted, err := newDecrypter(t, test.settings).Decrypt(test.ctx,
				collection([]string{mint(t, tokenClaims())}, promptItem(t, key), notification.Item{}), noon)
			require.ErrorIs(t, err, test.want)
			assert.Empty(t, decrypted)
		})
	}
}

func TestDecrypter_SetKeysReplacesKeysAndClientStates(t *testing.T) {
	t.Parallel()
	old, renewed := contentKey(t, 2048), contentKey(t, 3072)
	decrypter := newDecrypter(t, decrypterSettings(firstKey(t), old))
	decrypt := func(key *notification.Key) notification.Decrypted {
		decrypted, err := decrypter.Decrypt(t.Context(), collection([]string{mint(t, tokenClaims())}, promptItem(t, key)), noon)
		require.NoError(t, err)
		assert.Equal(t, len(decrypted.Received) == 1, decrypter.OwnClientState([]byte(clientState(t, key))))
		return decrypted
	}
	for _, step := range []struct {
		ring         notification.Ring
		old, renewed int
	}{
		{notification.Ring{renewed, old}, 1, 1},
		{notification.Ring{renewed}, 0, 1},
		{notification.Ring{old}, 1, 0},
	} {
		decrypter.SetKeys(step.ring)
		assert.Len(t, decrypt(old).Received, step.old)
		assert.Len(t, decrypt(renewed).Received, step.renewed)
	}
}

// Keys that change during a call are used from the next call on.
func TestDecrypter_KeysChangeBetweenItems(t *testing.T) {
	t.Parallel()
	old, renewed := contentKey(t, 2048), contentKey(t, 3072)
	settings := decrypterSettings(firstKey(t), old)
	var decrypter *notification.Decrypter
	settings.Delivered = func([sha256.Size]byte) bool { // called for each item before it is decrypted
		decrypter.SetKeys(notification.Ring{renewed})
		return false
	}
	decrypter = newDecrypter(t, settings)
	decrypted, err := decrypter.Decrypt(t.Context(), collection([]string{mint(t, tokenClaims())}, promptItem(t, old), promptItem(t, old)), noon)
	require.NoError(t, err)
	assert.Len(t, decrypted.Received, 2)
	assert.Empty(t, decrypted.Rejected)
}

// It covers every reason why an item is rejected, its gap and its error.
func TestDecrypter_RejectsItems(t *testing.T) {
	t.Parallel()
	const (
		unverified    = gap.Unverified
		undecryptable = gap.Undecryptable
		empty         = gap.Empty
	)
	key, other := contentKey(t, 2048), contentKey(t, 3072)
	token := mint(t, tokenClaims())
	expired := tokenClaims()
	expired["exp"] = noon.Add(-time.Hour).Unix()
	expiredToken := mint(t, expired)
	tests := map[string]struct {
		tokens   []string
		change   func(*notification.Item)
		reason   notification.Reason
		gap      gap.Reason
		contains []string
	}{
		"no tenant":      {[]string{token}, func(i *notification.Item) { i.TenantID = "" }, notification.ReasonTenant, unverified, []string{"no tenant"}},
		"another tenant": {[]string{token}, func(i *notification.Item) { i.TenantID = "another" }, notification.ReasonTenant, unverified, []string{"tenant_id", "another"}},
		"null instead of tokens": {
			nil, nil, notification.ReasonTokenMissing, unverified,
			[]string{"appRoleAssignmentRequired", "Assignment required", "Microsoft Graph Change Tracking"},
		},
		"an empty list of tokens":    {[]string{}, nil, notification.ReasonTokenMissing, unverified, nil},
		"an expired token":           {[]string{expiredToken}, nil, notification.ReasonTokenExpired, unverified, []string{"clock"}},
		"one of two tokens expired":  {[]string{token, expiredToken}, nil, notification.ReasonTokenExpired, unverified, nil},
		"an empty token":             {[]string{token, ""}, nil, notification.ReasonTokenMalformed, unverified, nil},
		"too many tokens":            {strings.Split(strings.Repeat(token+" ", 65), " ")[:65], nil, notification.ReasonTokenCount, unverified, []string{"65"}},
		"an unknown change type":     {[]string{token}, func(i *notification.Item) { i.ChangeType = "undeleted" }, notification.ReasonChangeType, unverified, []string{"undeleted"}},
		"no change type":             {[]string{token}, func(i *notification.Item) { i.ChangeType = "" }, notification.ReasonChangeType, unverified, nil},
		"a creation without content": {[]string{token}, func(i *notification.Item) { i.EncryptedContent = nil }, notification.ReasonContentMissing, empty, []string{"includeResourceData"}},
		"an update without content":  {[]string{token}, func(i *notification.Item) { i.ChangeType, i.EncryptedContent = "updated", nil }, notification.ReasonContentMissing, empty, nil},
		"empty content":              {[]string{token}, func(i *notification.Item) { i.EncryptedContent = seal(t, key, `{}`) }, notification.ReasonContentMissing, empty, []string{"neither an id nor a time"}},
		"updated content without id and time": {[]string{token}, func(i *notification.Item) {
			i.ChangeType, i.EncryptedContent = "updated", seal(t, key, `{"locale":"de"}`)
		}, notification.ReasonContentMissing, empty, nil},
		"a deletion without content and id": {[]string{token}, func(i *notification.Item) {
			*i = notification.Item{ChangeType: "deleted", TenantID: tenant}
		}, notification.ReasonContentMissing, empty, nil},
		"an unknown certificate": {
			[]string{token},
			func(i *notification.Item) { i.EncryptedContent = seal(t, other, prompt) }, notification.ReasonCertificate, undecryptable,
			[]string{"encryption.certificates", other.CertificateID(), key.CertificateID()},
		},
		"no certificate id and thumbprint": {[]string{token}, func(i *notification.Item) {
			i.EncryptedContent.CertificateID, i.EncryptedContent.CertificateThumbprint = "", ""
		}, notification.ReasonCertificate, undecryptable, nil},
		"a key of another certificate": {
			[]string{token},
			func(i *notification.Item) { i.EncryptedContent.DataKey = seal(t, other, prompt).DataKey },
			notification.ReasonOAEP, undecryptable,
			[]string{"encryption.certificates"},
		},
		"data of another item":     {[]string{token}, func(i *notification.Item) { i.EncryptedContent.Data = seal(t, key, prompt).Data }, notification.ReasonHMAC, undecryptable, []string{"altered"}},
		"no data signature":        {[]string{token}, func(i *notification.Item) { i.EncryptedContent.DataSignature = "" }, notification.ReasonSignatureMissing, undecryptable, []string{"signature"}},
		"data that is not base64":  {[]string{token}, func(i *notification.Item) { i.EncryptedContent.Data = "%" }, notification.ReasonMalformed, undecryptable, []string{"data is not base64"}},
		"content that is not JSON": {[]string{token}, func(i *notification.Item) { i.EncryptedContent = seal(t, key, "List the open risks") }, notification.ReasonPlaintext, undecryptable, []string{"19 bytes"}},
		"content and item without id": {[]string{token}, func(i *notification.Item) {
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
			decrypted, err := newDecrypter(t, decrypterSettings(firstKey(t), key)).
				Decrypt(t.Context(), collection(test.tokens, item), noon)
			require.NoError(t, err)
			assert.Empty(t, decrypted.Received)
			require.Len(t, decrypted.Rejected, 1)
			got := decrypted.Rejected[0]
			assert.Equal(t, test.reason, got.Reason)
			assert.Equal(t, test.gap, got.Gap)
			assert.Equal(t, item.ResourceID, got.ItemID)
			for _, part := range test.contains {
				assert.Contains(t, told(t, got.Err), part)
			}
			for _, secret := range []string{"risks", token, expiredToken} {
				assert.NotContains(t, got.Err.Error(), secret)
			}
		})
	}
}

// told returns what the operator is told about an error, and asserts that it has a code.
func told(t *testing.T, err error) string {
	t.Helper()
	failed := failure.Of(err)
	assert.NotEmpty(t, failed.Code, err)
	assert.NotEmpty(t, failed.Hint, err)
	return err.Error() + ": " + failed.Hint
}

func TestDecrypter_RejectsCollectionWithOneBadToken(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	otherTenant := lifecycleItem()
	otherTenant.TenantID = "another"
	c := collection([]string{mint(t, tokenClaims()), "bad"}, promptItem(t, key), lifecycleItem(), otherTenant)
	decrypted, err := newDecrypter(t, decrypterSettings(firstKey(t), key)).Decrypt(t.Context(), c, noon)
	require.NoError(t, err)
	assert.Empty(t, decrypted.Received)
	assert.Empty(t, decrypted.Lifecycle)

	type kind struct {
		Reason notification.Reason
		Gap    gap.Reason
	}
	var got []kind
	for _, rejection := range decrypted.Rejected {
		got = append(got, kind{rejection.Reason, rejection.Gap})
	}
	assert.ElementsMatch(t, []kind{
		{notification.ReasonTokenMalformed, gap.Unverified},
		{notification.ReasonTokenMalformed, ""},
		{notification.ReasonTenant, ""},
	}, got)
}

func TestDecrypter_SkipsDeliveredItems(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	settings := decrypterSettings(firstKey(t), key)
	seen, count := map[[sha256.Size]byte]bool{}, &decryptions{}
	settings.Decrypted = count.decrypted
	settings.Delivered = func(digest [sha256.Size]byte) bool { return seen[digest] }
	decrypter := newDecrypter(t, settings)
	old, fresh := promptItem(t, key), promptItem(t, key)
	unsigned := promptItem(t, key)
	unsigned.EncryptedContent.DataSignature = ""
	token := mint(t, tokenClaims())

	first, err := decrypter.Decrypt(t.Context(), collection([]string{token}, old), noon)
	require.NoError(t, err)
	require.Len(t, first.Received, 1)
	seen[first.Received[0].ContentDigest] = true
	seen[[sha256.Size]byte{}] = true

	again, err := decrypter.Decrypt(t.Context(), collection([]string{token}, old, fresh, unsigned), noon)
	require.NoError(t, err)
	require.Len(t, again.Received, 1, "only the item that was not delivered")
	assert.Equal(t, fresh.ContentDigest(), again.Received[0].ContentDigest)
	require.Len(t, again.Rejected, 1, "an item without signature does not count as delivered")
	assert.Equal(t, notification.ReasonSignatureMissing, again.Rejected[0].Reason)
	assert.EqualValues(t, 2, count.items.Load(), "one decryption for each new item")

	rejected, err := decrypter.Decrypt(t.Context(), collection([]string{"forged"}, old), noon)
	require.NoError(t, err)
	assert.Len(t, rejected.Rejected, 1, "a sender without a valid token learns nothing about delivered items")
}

// The first decrypted item panics.
func TestDecrypter_PanicCostsOneItem(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	settings := decrypterSettings(firstKey(t), key)
	var once sync.Once
	settings.Decrypted = func(time.Duration) { once.Do(func() { panic("words of a conversation") }) }
	decrypted, err := newDecrypter(t, settings).
		Decrypt(t.Context(), collection([]string{mint(t, tokenClaims())}, promptItem(t, key), promptItem(t, key)), noon)
	require.NoError(t, err)
	assert.Len(t, decrypted.Received, 1)
	require.Len(t, decrypted.Rejected, 1)
	assert.Equal(t, gap.Undecryptable, decrypted.Rejected[0].Gap, "it is read from the history")
	assert.NotContains(t, decrypted.Rejected[0].Err.Error(), "words")
}
