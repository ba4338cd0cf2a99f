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
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/panics"
)

// Telemetry receives measurements. It must be safe for concurrent use.
type Telemetry interface {
	// Decrypted is called for each decrypted item with the duration of the decryption.
	Decrypted(spent time.Duration)
}

// Seen knows which items were delivered. It must be safe for concurrent use.
type Seen interface {
	// Known reports whether an item with this Item.ContentDigest was already delivered.
	Known(digest [sha256.Size]byte) bool
}

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
	// Seen avoids decrypting what was already delivered; such an item is in none of the lists of Decrypted. It is called only
	// for items of collections that were verified. It may be nil.
	Seen Seen
	// Telemetry may be nil.
	Telemetry Telemetry
}

// Decrypter verifies that notifications are authentic and decrypts them. It is safe for concurrent use.
type Decrypter struct {
	settings Settings
	verifier *Verifier
	keys     atomic.Pointer[keySet]
}

// keySet holds the decryption keys and the client states derived from them, which are replaced together.
type keySet struct {
	ring   Ring
	states clientStates
}

// NewDecrypter returns a Decrypter with the keys of Settings.Ring.
func NewDecrypter(settings Settings) *Decrypter {
	settings.TenantID = strings.ToLower(settings.TenantID)
	d := &Decrypter{settings: settings, verifier: NewVerifier(settings)}
	d.SetKeys(settings.Ring)
	return d
}

// SetKeys replaces the decryption keys, and with them the accepted client states, of which there is one for each key and
// resource. A Decrypt in progress goes on with the keys that it began with.
func (d *Decrypter) SetKeys(ring Ring) {
	states := deriveClientStates(ring, d.settings.TenantID, d.settings.ClientID, d.settings.Resources)
	d.keys.Store(&keySet{ring: ring, states: states})
}

// ClientStates returns a function that reports whether a clientState is that of one of our subscriptions, for any current key
// and resource. Its argument is only valid during the call.
func (d *Decrypter) ClientStates() (ours func(clientState []byte) bool) {
	return d.keys.Load().states.match
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

// Decrypt checks the clientState of each item, then the validation tokens, then decrypts. An item with a wrong clientState
// costs only a comparison, and if all are wrong no signing key is looked up. at is when the collection was received; tokens
// must be valid at that time.
//
// It fails only if the collection cannot be decided now. The error wraps ErrKeysUnavailable or the context's error, and
// Decrypted is empty.
func (d *Decrypter) Decrypt(ctx context.Context, c *Collection, at time.Time) (Decrypted, error) {
	keys := d.keys.Load()
	var decrypted Decrypted
	var ours, verified []*Item
	for i := range c.Items {
		item := &c.Items[i]
		if err := d.checkOrigin(keys.states, item); err != nil {
			decrypted.reject(item, err)
		} else {
			ours = append(ours, item)
		}
	}
	if len(ours) == 0 {
		return decrypted, nil
	}
	refused, err := d.verifier.verifyAll(ctx, c.ValidationTokens, at)
	if err != nil {
		return Decrypted{}, fmt.Errorf("decrypt notifications: %w", err)
	}
	for _, item := range ours {
		switch {
		case refused != nil:
			decrypted.reject(item, refused)
		case item.LifecycleEvent != "": // needs valid tokens only if there are any
			decrypted.Lifecycle = append(decrypted.Lifecycle, Lifecycle{SubscriptionID: item.SubscriptionID, Event: item.LifecycleEvent})
		case len(c.ValidationTokens) == 0:
			decrypted.reject(item, errorf(ReasonTokenMissing, "Graph sent no validation tokens"))
		default:
			verified = append(verified, item)
		}
	}
	if err := d.decryptAll(ctx, keys.ring, verified, at, &decrypted); err != nil {
		return Decrypted{}, fmt.Errorf("decrypt notifications: %w", err)
	}
	return decrypted, nil
}

// checkOrigin returns an *Error if the clientState or the tenant of an item is wrong, or if no validation token can cover the
// item, since a token is issued for a tenant.
func (d *Decrypter) checkOrigin(states clientStates, item *Item) error {
	switch {
	case !states.match([]byte(item.ClientState)):
		return errForeign
	case item.TenantID == "" && item.LifecycleEvent == "": // lifecycle items need no token
		return errorf(ReasonTenant, "the item names no tenant, so no validation token covers it")
	case item.TenantID != "" && !strings.EqualFold(item.TenantID, d.settings.TenantID):
		return errorf(ReasonTenant, "the tenant of the item is %.128q and not %s", item.TenantID, d.settings.TenantID)
	default:
		return nil
	}
}

// decryptAll decrypts the items in parallel. It does not return before all that it started has ended, even if the context ends.
func (d *Decrypter) decryptAll(ctx context.Context, ring Ring, items []*Item, at time.Time, into *Decrypted) error {
	received, errs := make([]*interaction.Received, len(items)), make([]error, len(items))
	var decryptions errgroup.Group
	decryptions.SetLimit(runtime.GOMAXPROCS(0))
	for i, item := range items {
		decryptions.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			// Nothing else guards this goroutine: a panic costs the item and not the process.
			errs[i] = panics.Catch(func() (err error) {
				received[i], err = d.decryptItem(ring, item, at)
				return err
			})
			return nil
		})
	}
	if err := decryptions.Wait(); err != nil {
		return err
	}
	for i, item := range items {
		if errs[i] != nil {
			into.reject(item, errs[i])
		} else if received[i] != nil {
			into.Received = append(into.Received, *received[i])
		}
	}
	return nil
}

// decryptItem turns an authentic item into an interaction. It returns nil for an item that was already delivered.
//
// An item with an unknown changeType becomes a gap, and the interaction is read from the history. Treating it as an update
// could hide a deletion.
func (d *Decrypter) decryptItem(ring Ring, item *Item, at time.Time) (*interaction.Received, error) {
	change := interaction.Change(strings.ToLower(item.ChangeType))
	if !slices.Contains([]interaction.Change{interaction.Created, interaction.Updated, interaction.Deleted}, change) {
		return nil, errorf(ReasonChangeType, "unknown changeType %.128q", item.ChangeType)
	}
	received := &interaction.Received{
		TenantID:       d.settings.TenantID,
		SubscriptionID: item.SubscriptionID,
		Change:         change,
		Source:         interaction.FromNotification,
		At:             at,
		ContentDigest:  item.ContentDigest(),
	}
	if d.settings.Seen != nil && d.settings.Seen.Known(received.ContentDigest) {
		return nil, nil
	}
	decrypted, err := d.decryptContent(ring, item)
	if err == nil {
		received.Interaction = *decrypted
		return received, nil
	}
	missing := errors.Is(err, errNoContent) || errors.Is(err, errEmptyContent)
	if missing && change == interaction.Deleted && item.ResourceID != "" {
		received.ID, received.WithoutContent = item.ResourceID, true
		return received, nil
	}
	return nil, err
}

var (
	errNoContent    = errorf(ReasonContentMissing, "the item has no content")
	errEmptyContent = errorf(ReasonContentMissing, "the decrypted content names neither an id nor a time")
)

func (d *Decrypter) decryptContent(ring Ring, item *Item) (*interaction.Interaction, error) {
	content := item.EncryptedContent
	if content == nil {
		return nil, errNoContent
	}
	key := ring.find(content.CertificateID, content.CertificateThumbprint)
	if key == nil {
		return nil, errorf(ReasonCertificate, "encrypted for %.128q with thumbprint %.128q, but the configured certificates are %s",
			content.CertificateID, content.CertificateThumbprint, strings.Join(ring.CertificateIDs(), ", "))
	}
	start := time.Now()
	text, err := Decrypt(content, key)
	if err != nil {
		return nil, err
	}
	if d.settings.Telemetry != nil {
		d.settings.Telemetry.Decrypted(time.Since(start))
	}
	return parseContent(text, item.ResourceID)
}

// parseContent takes the id of the item if the content has a time but no id. It omits the parser's error, which could quote
// content.
func parseContent(text []byte, resourceID string) (*interaction.Interaction, error) {
	parsed, err := interaction.Parse(text)
	noID := errors.Is(err, interaction.ErrNoID)
	switch {
	case err == nil:
		return parsed, nil
	case noID && parsed.CreatedDateTime.IsZero():
		return nil, errEmptyContent
	case noID && resourceID != "":
		parsed.ID = resourceID
		return parsed, nil
	default:
		return nil, errorf(ReasonPlaintext, "the decrypted content is not an interaction (%d bytes)", len(text))
	}
}
