package notification_test

import (
	"context"
	"crypto/sha256"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

func openerSettings(source notification.KeySource, ring ...*notification.Key) notification.Settings {
	return notification.Settings{
		TenantID:  tenant,
		ClientID:  client,
		Issuers:   []string{issuerV1, issuerV2},
		Resources: []string{resource},
		Ring:      ring,
		Keys:      source,
	}
}

// promptItem is authentic and holds the prompt.
func promptItem(tb testing.TB, key *notification.Key) notification.Item {
	tb.Helper()
	return notification.Item{
		SubscriptionID:   "subscription",
		ClientState:      clientState(tb, key),
		ChangeType:       "created",
		ResourceID:       promptID,
		TenantID:         tenant,
		EncryptedContent: seal(tb, key, prompt),
	}
}

func lifecycleItem(tb testing.TB, key *notification.Key) notification.Item {
	tb.Helper()
	return notification.Item{
		SubscriptionID:         "subscription",
		ClientState:            clientState(tb, key),
		LifecycleEvent:         notification.ReauthorizationRequired,
		SubscriptionExpiration: noon.Add(time.Hour),
	}
}

func collection(tokens []string, items ...notification.Item) *notification.Collection {
	return &notification.Collection{Items: items, ValidationTokens: tokens}
}

func TestOpenGivesTheInteraction(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	settings := openerSettings(firstKey(t), key)
	settings.TenantID, settings.ClientID = strings.ToUpper(tenant), strings.ToUpper(client)
	item := promptItem(t, key)
	item.TenantID = strings.ToUpper(tenant)

	opened, err := notification.NewDecrypter(settings).Decrypt(t.Context(), collection([]string{mint(t, tokenClaims())}, item), noon)
	require.NoError(t, err)
	parsed, err := interaction.Parse([]byte(prompt))
	require.NoError(t, err)
	assert.Empty(t, cmp.Diff(notification.Opened{Received: []interaction.Received{{
		Interaction:    *parsed,
		TenantID:       tenant,
		SubscriptionID: "subscription",
		Change:         interaction.Created,
		Source:         interaction.FromNotification,
		At:             noon,
		ContentDigest:  sha256.Sum256([]byte(item.EncryptedContent.DataSignature + "\x1fcreated")),
	}}}, opened))
}

func TestOpenKeepsTheOrderOfTheItems(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	settings := openerSettings(firstKey(t), key)
	count := &decrypted{}
	settings.Telemetry = count
	var items []notification.Item
	var want []string
	for id := range strings.SplitSeq("abcdefghijklmnopqrst", "") {
		item := promptItem(t, key)
		item.EncryptedContent = seal(t, key, `{"id":"`+id+`"}`)
		items, want = append(items, item), append(want, id)
	}
	opened, err := notification.NewDecrypter(settings).Decrypt(t.Context(), collection([]string{mint(t, tokenClaims())}, items...), noon)
	require.NoError(t, err)
	var got []string
	for _, received := range opened.Received {
		got = append(got, received.ID)
	}
	assert.Equal(t, want, got)
	assert.EqualValues(t, 20, count.items.Load())
	assert.Positive(t, count.spent.Load())
}

type decrypted struct{ items, spent atomic.Int64 }

func (d *decrypted) Decrypted(spent time.Duration) {
	d.items.Add(1)
	d.spent.Add(int64(spent))
}

func TestOpenTakesTheItemsThatAreWithoutFault(t *testing.T) {
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
		"a change type in another case": {func(i *notification.Item) { i.ChangeType = "Created" }, interaction.Received{Change: interaction.Created}},
		"for the older certificate":     {func(i *notification.Item) { i.EncryptedContent = seal(t, older, prompt) }, interaction.Received{Change: interaction.Created}},
		"with the older client state":   {func(i *notification.Item) { i.ClientState = clientState(t, older) }, interaction.Received{Change: interaction.Created}},
		"without certificate id":        {func(i *notification.Item) { i.EncryptedContent.CertificateID = "" }, interaction.Received{Change: interaction.Created}},
		"with a thumbprint in upper case and another id": {func(i *notification.Item) {
			i.EncryptedContent.CertificateID = "before"
			i.EncryptedContent.CertificateThumbprint = strings.ToUpper(i.EncryptedContent.CertificateThumbprint)
		}, interaction.Received{Change: interaction.Created}},
		"with the certificate id before the thumbprint": {
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
		"a deletion whose content names nothing": {
			func(i *notification.Item) { i.ChangeType, i.EncryptedContent = "deleted", seal(t, key, `{}`) },
			interaction.Received{Change: interaction.Deleted, WithoutContent: true},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			item := promptItem(t, key)
			test.change(&item)
			opened, err := notification.NewDecrypter(openerSettings(firstKey(t), key, older)).
				Decrypt(t.Context(), collection([]string{mint(t, tokenClaims())}, item), noon)
			require.NoError(t, err)
			require.Empty(t, opened.Rejected)
			require.Len(t, opened.Received, 1)
			got := opened.Received[0]
			assert.Equal(t, promptID, got.ID)
			assert.Equal(t, test.want.Change, got.Change)
			assert.Equal(t, test.want.WithoutContent, got.WithoutContent)
			assert.Equal(t, tenant, got.TenantID)
		})
	}
}

func TestTheSameContentUnderAnotherChangeIsAnotherItem(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	item := promptItem(t, key)
	settings := openerSettings(firstKey(t), key)
	settings.Seen = seenOnce{item.ContentDigest(): true}
	opener := notification.NewDecrypter(settings)
	deletion := item
	deletion.ChangeType = "Deleted"
	opened, err := opener.Decrypt(t.Context(), collection([]string{mint(t, tokenClaims())}, item, deletion), noon)
	require.NoError(t, err)
	require.Len(t, opened.Received, 1)
	assert.Equal(t, interaction.Deleted, opened.Received[0].Change)
}

// seenOnce are the signatures of what was delivered.
type seenOnce map[[sha256.Size]byte]bool

func (s seenOnce) Known(signature [sha256.Size]byte) bool { return s[signature] }

func TestLifecycleItemsNeedNoTokens(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	prompt := promptItem(t, key)
	opened, err := notification.NewDecrypter(openerSettings(firstKey(t), key)).
		Decrypt(t.Context(), collection(nil, lifecycleItem(t, key), prompt), noon)
	require.NoError(t, err)
	assert.Equal(t, []notification.Lifecycle{{
		SubscriptionID: "subscription", Event: notification.ReauthorizationRequired, Expiration: noon.Add(time.Hour),
	}}, opened.Lifecycle)
	require.Len(t, opened.Rejected, 1, "the prompt beside it does need them")
	assert.Equal(t, prompt.ContentDigest(), opened.Rejected[0].ContentDigest, "so that it is known when it comes again")
	assert.Equal(t, notification.ReasonTokenMissing, opened.Rejected[0].Reason)
}

// The decryption stops between two items when the context ends, and nothing of the collection is given out.
func TestOpenStopsWithItsContext(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	settings := openerSettings(firstKey(t), key)
	stops := &stopping{cancel: cancel}
	settings.Telemetry = stops
	item := promptItem(t, key)
	var items []notification.Item
	for range 200 {
		items = append(items, item)
	}
	opened, err := notification.NewDecrypter(settings).Decrypt(ctx, collection([]string{mint(t, tokenClaims())}, items...), noon)
	require.ErrorIs(t, err, context.Canceled)
	assert.Empty(t, opened)
	assert.Less(t, stops.items.Load(), int64(200))
}

type stopping struct {
	items  atomic.Int64
	cancel context.CancelFunc
}

func (s *stopping) Decrypted(time.Duration) {
	s.items.Add(1)
	s.cancel()
}

func TestOpenMayBeCalledByMany(t *testing.T) {
	t.Parallel()
	key := contentKey(t, 2048)
	opener := notification.NewDecrypter(openerSettings(firstKey(t), key))
	c := collection([]string{mint(t, tokenClaims())}, promptItem(t, key), lifecycleItem(t, key))
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			opened, err := opener.Decrypt(t.Context(), c, noon)
			if assert.NoError(t, err) {
				assert.Len(t, opened.Received, 1)
				assert.Len(t, opened.Lifecycle, 1)
			}
		})
	}
	callers.Wait()
}
