// SPDX-License-Identifier: Apache-2.0

// Package notification decodes Graph change notifications, verifies that they are authentic, and decrypts their content.
//
// It knows nothing of HTTP, nor of what is done with an interaction. It makes no network call of its own: it asks KeySource
// for a signing key, and only for a collection with an item whose clientState is right.
package notification

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// Settings configure a Decrypter.
type Settings struct {
	// TenantID and ClientID are GUIDs.
	TenantID, ClientID string
	// Audiences holds the application ids that validation tokens may be issued for; empty means ClientID.
	Audiences []string
	// Issuers holds the accepted issuers of version 1.0 and 2.0 validation tokens, compared exactly.
	Issuers []string
	// Resources holds the resources of all subscriptions, without leading slash.
	Resources []string
	// Ring holds the first decryption keys; see SetKeys.
	Ring Ring
	// Keys provides the signing keys of the authority.
	Keys KeySource
	// Delivered reports whether an item with this Item.ContentDigest was already delivered. Such an item is not decrypted, and is in
	// none of the lists of Decrypted. It is called concurrently, and only for items of verified collections. It may be nil.
	Delivered func(digest [sha256.Size]byte) bool
	// Decrypted is called concurrently for each decrypted item with the duration of the decryption. It may be nil.
	Decrypted func(spent time.Duration)
}

// Decrypter verifies that notifications are authentic and decrypts them. It is safe for concurrent use.
type Decrypter struct {
	settings Settings
	verifier *Verifier
	keys     atomic.Pointer[keySet]
	// processors holds 1 for each decryption in progress.
	processors *semaphore.Weighted
}

// keySet holds the decryption keys and the client states derived from them, which are replaced together.
type keySet struct {
	ring Ring
	// states holds the SHA-256 of the client states, so that the duration of a lookup depends neither on their number nor on how
	// much of a state was right. A part of a hash, which it could reveal, does not help to find a secret of 32 bytes.
	states map[[sha256.Size]byte]bool
}

// NewDecrypter returns a Decrypter with the keys of Settings.Ring.
func NewDecrypter(settings Settings) *Decrypter {
	settings.TenantID = strings.ToLower(settings.TenantID)
	d := &Decrypter{
		settings: settings, verifier: NewVerifier(settings), processors: semaphore.NewWeighted(int64(runtime.GOMAXPROCS(0))),
	}
	d.SetKeys(settings.Ring)
	return d
}

// SetKeys replaces the decryption keys, and with them the accepted client states, of which there is one for each key and
// resource. A collection is decrypted with one set of keys.
func (d *Decrypter) SetKeys(ring Ring) {
	states := make(map[[sha256.Size]byte]bool)
	for _, key := range ring {
		for _, resource := range d.settings.Resources {
			states[sha256.Sum256([]byte(ClientState(key, d.settings.TenantID, d.settings.ClientID, resource)))] = true
		}
	}
	d.keys.Store(&keySet{ring, states})
}

// OwnClientState reports whether a clientState is that of one of our subscriptions, for any current key and resource. It
// allocates nothing.
func (d *Decrypter) OwnClientState(clientState []byte) bool {
	return d.keys.Load().states[sha256.Sum256(clientState)]
}

// Decrypted is the result of decrypting a collection.
type Decrypted struct {
	// Received holds the authentic interactions in the order of the items.
	Received []interaction.Received
	// Lifecycle holds the authentic lifecycle events in the order of the items.
	Lifecycle []Lifecycle
	// Rejected holds everything else.
	Rejected []Rejection
}

func (d *Decrypted) reject(item *Item, err error) { d.Rejected = append(d.Rejected, item.reject(err)) }

// Lifecycle is an authentic lifecycle notification:
// https://learn.microsoft.com/graph/change-notifications-lifecycle-events
type Lifecycle struct {
	SubscriptionID string
	// Event is one of the constants below, or another event that Graph sent.
	Event string
}

// The lifecycle events that Graph documents.
const (
	ReauthorizationRequired = "reauthorizationRequired"
	SubscriptionRemoved     = "subscriptionRemoved"
	Missed                  = "missed"
)

// Decrypt checks the tenant of each item, then the validation tokens, then decrypts. It does not check the clientState, which
// Inspect does. If no item is of our tenant, no signing key is looked up. at is when the collection was received; tokens must be
// valid at that time.
//
// It fails only if the collection cannot be decided now: a signing key is not available, or the context ended. Decrypted is
// empty then.
func (d *Decrypter) Decrypt(ctx context.Context, c *Collection, at time.Time) (Decrypted, error) {
	var decrypted Decrypted
	var ours, verified []*Item
	for i := range c.Items {
		item := &c.Items[i]
		if err := d.checkTenant(item); err != nil {
			decrypted.reject(item, err)
		} else {
			ours = append(ours, item)
		}
	}
	if len(ours) == 0 {
		return decrypted, nil
	}
	err := d.verifier.verifyAll(ctx, c.ValidationTokens, at)
	refused, invalid := errors.AsType[*Error](err)
	if err != nil && !invalid {
		return Decrypted{}, fmt.Errorf("decrypt notifications: %w", err)
	}
	for _, item := range ours {
		switch {
		case invalid:
			decrypted.reject(item, refused)
		case item.LifecycleEvent != "": // needs valid tokens only if there are any
			decrypted.Lifecycle = append(decrypted.Lifecycle, Lifecycle{SubscriptionID: item.SubscriptionID, Event: item.LifecycleEvent})
		case len(c.ValidationTokens) == 0:
			decrypted.reject(item, errorf(ReasonTokenMissing, "Graph sent no validation tokens"))
		default:
			verified = append(verified, item)
		}
	}
	if err := d.decryptAll(ctx, verified, at, &decrypted); err != nil {
		return Decrypted{}, fmt.Errorf("decrypt notifications: %w", err)
	}
	return decrypted, nil
}

// checkTenant returns an *Error if the tenant of an item is wrong, or if no validation token can cover the item, since a token
// is issued for a tenant.
func (d *Decrypter) checkTenant(item *Item) error {
	switch {
	case item.TenantID == "" && item.LifecycleEvent == "": // lifecycle items need no token
		return errorf(ReasonTenant, "the item names no tenant, so no validation token covers it")
	case item.TenantID != "" && !strings.EqualFold(item.TenantID, d.settings.TenantID):
		return errorf(ReasonTenant, "the tenant of the item is %.128q and not %s", item.TenantID, d.settings.TenantID)
	default:
		return nil
	}
}
