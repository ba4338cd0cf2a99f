// Package notification decodes Graph change notifications, verifies that they are authentic, and decrypts their content.
//
// It knows nothing of HTTP, nor of what is done with an interaction. It makes no network call of its own: it asks KeySource
// for a signing key, and only for a collection with an item whose clientState is right.
package notification

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

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

// Decrypter verifies that notifications are authentic and decrypts them. It is safe for concurrent use; all callers share
// one limit on concurrent decryptions.
type Decrypter struct {
	// tenant and client are in lower case.
	tenant, client string
	resources      []string
	keys           atomic.Pointer[keySet]
	verifier       *Verifier
	seen           Seen
	telemetry      Telemetry
	// slots holds an element for each running decryption.
	slots chan struct{}
}

// keySet holds the decryption keys and the client states derived from them, which are replaced together.
type keySet struct {
	ring   Ring
	states *clientStates
}

// NewDecrypter returns a Decrypter with the keys of Settings.Ring. It fails as SetKeys does.
func NewDecrypter(settings Settings) (*Decrypter, error) {
	tenant, client := strings.ToLower(settings.TenantID), strings.ToLower(settings.ClientID)
	audiences := settings.Audiences
	if len(audiences) == 0 {
		audiences = []string{client}
	}
	d := &Decrypter{
		tenant:    tenant,
		client:    client,
		resources: settings.Resources,
		verifier:  NewVerifier(VerifierSettings{TenantID: tenant, Audiences: audiences, Issuers: settings.Issuers, Keys: settings.Keys}),
		seen:      settings.Seen,
		telemetry: settings.Telemetry,
		slots:     make(chan struct{}, runtime.GOMAXPROCS(0)),
	}
	if err := d.SetKeys(settings.Ring); err != nil {
		return nil, err
	}
	return d, nil
}

// SetKeys replaces the decryption keys, and with them the accepted client states, of which there is one for each key and
// resource. A Decrypt in progress goes on with the keys that it began with. SetKeys fails if a client state cannot be
// derived from a key; the previous keys then stay in use.
func (d *Decrypter) SetKeys(ring Ring) error {
	states, err := deriveClientStates(ring, d.tenant, d.client, d.resources)
	if err != nil {
		return fmt.Errorf("set the decryption keys: %w", err)
	}
	d.keys.Store(&keySet{ring: ring, states: states})
	return nil
}

// ClientStates returns a function that reports whether a clientState is that of one of our subscriptions, for any current key
// and resource. Its argument is only valid during the call.
func (d *Decrypter) ClientStates() (ours func(clientState []byte) bool) {
	return d.keys.Load().states.match
}

// outcome is the result for one item. At most one field is set; none for an item that was already delivered.
type outcome struct {
	received  *interaction.Received
	lifecycle *Lifecycle
	rejection *Rejection
}

// Decrypt checks the clientState of each item, then the validation tokens, then decrypts. An item with a wrong clientState
// costs only a comparison, and if all are wrong no signing key is looked up. at is when the collection was received; tokens
// must be valid at that time.
//
// It fails only if the collection cannot be decided now. The error wraps ErrKeysUnavailable or the context's error, and
// Decrypted is empty.
func (d *Decrypter) Decrypt(ctx context.Context, c *Collection, at time.Time) (Decrypted, error) {
	keys := d.keys.Load()
	outcomes := make([]outcome, len(c.Items))
	authentic := d.filterAuthentic(keys.states, c.Items, outcomes)
	if len(authentic) > 0 {
		verified, err := d.filterVerified(ctx, c, authentic, outcomes, at)
		if err != nil {
			return Decrypted{}, fmt.Errorf("decrypt notifications: %w", err)
		}
		if err := d.decryptAll(ctx, keys.ring, c.Items, verified, outcomes, at); err != nil {
			return Decrypted{}, fmt.Errorf("decrypt notifications: %w", err)
		}
	}
	return collect(c.Items, outcomes), nil
}

// decryptAll does not return before all decryptions that it started have ended, even if the context ends.
func (d *Decrypter) decryptAll(ctx context.Context, ring Ring, items []Item, verified []int, outcomes []outcome, at time.Time) error {
	var running sync.WaitGroup
	defer running.Wait()
	for _, i := range verified {
		if err := ctx.Err(); err != nil {
			return err
		}
		select {
		case d.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		running.Go(func() {
			defer func() { <-d.slots }()
			outcomes[i] = d.decryptOrRecover(ring, &items[i], at)
		})
	}
	return nil
}

// decryptOrRecover is decryptItem, for goroutines that nothing else guards: a panic costs the item and not the process.
func (d *Decrypter) decryptOrRecover(ring Ring, item *Item, at time.Time) (result outcome) {
	err := panics.Catch(func() error {
		result = d.decryptItem(ring, item, at)
		return nil
	})
	if err != nil {
		return outcome{rejection: &Rejection{
			Reason: ReasonPlaintext, Gap: GapUndecryptable, ItemID: item.ResourceID,
			Err: fmt.Errorf("decrypt an item: %w: it is read from the history; report this to the receiver's project", err),
		}}
	}
	return result
}

func collect(items []Item, outcomes []outcome) Decrypted {
	var decrypted Decrypted
	for i, each := range outcomes {
		switch {
		case each.received != nil:
			decrypted.Received = append(decrypted.Received, *each.received)
		case each.lifecycle != nil:
			decrypted.Lifecycle = append(decrypted.Lifecycle, *each.lifecycle)
		case each.rejection != nil:
			if each.rejection.Gap != "" {
				each.rejection.ContentDigest = items[i].ContentDigest()
			}
			decrypted.Rejected = append(decrypted.Rejected, *each.rejection)
		}
	}
	return decrypted
}

// ErrPlaintext says that content was decrypted but is not an interaction.
var ErrPlaintext = errors.New("decrypted content is not an interaction")

// decryptItem turns an authentic item into an interaction.
//
// An item with an unknown changeType becomes a gap, and the interaction is read from the history. Treating it as an update
// could hide a deletion.
func (d *Decrypter) decryptItem(ring Ring, item *Item, at time.Time) outcome {
	change, known := changeOf(item.ChangeType)
	if !known {
		return outcome{rejection: item.unverified(ReasonChangeType,
			fmt.Errorf("unknown changeType %s: update this receiver", quote(item.ChangeType)))}
	}
	received := &interaction.Received{
		TenantID:       d.tenant,
		SubscriptionID: item.SubscriptionID,
		Change:         change,
		Source:         interaction.FromNotification,
		At:             at,
	}
	if item.EncryptedContent == nil {
		if change != interaction.Deleted || item.ResourceID == "" {
			return outcome{rejection: &Rejection{Reason: ReasonContentMissing, Gap: GapEmpty, ItemID: item.ResourceID, Err: errNoContent}}
		}
		received.ID, received.WithoutContent = item.ResourceID, true
		return outcome{received: received}
	}
	received.ContentDigest = item.ContentDigest()
	if d.seen != nil && received.ContentDigest != ([sha256.Size]byte{}) && d.seen.Known(received.ContentDigest) {
		return outcome{}
	}
	decrypted, err := d.decryptContent(ring, item)
	switch {
	case errors.Is(err, errEmptyContent) && change == interaction.Deleted && item.ResourceID != "":
		received.ID, received.WithoutContent = item.ResourceID, true
		return outcome{received: received}
	case errors.Is(err, errEmptyContent):
		return outcome{rejection: &Rejection{Reason: ReasonContentMissing, Gap: GapEmpty, ItemID: item.ResourceID, Err: err}}
	case err != nil:
		return outcome{rejection: &Rejection{Reason: reasonOf(err), Gap: GapUndecryptable, ItemID: item.ResourceID, Err: err}}
	}
	received.Interaction = *decrypted
	return outcome{received: received}
}

var errNoContent = errors.New("item has no content: the interaction is fetched from the history; " +
	"if this happens often, the subscription was created without includeResourceData")

// errEmptyContent says that content does not identify an interaction.
var errEmptyContent = errors.New("decrypted content names neither an id nor a time: the interaction is fetched from the history")

func changeOf(changeType string) (interaction.Change, bool) {
	for _, change := range []interaction.Change{interaction.Created, interaction.Updated, interaction.Deleted} {
		if strings.EqualFold(changeType, string(change)) {
			return change, true
		}
	}
	return "", false
}

func (d *Decrypter) decryptContent(ring Ring, item *Item) (*interaction.Interaction, error) {
	content := item.EncryptedContent
	key, found := ring.find(content.CertificateID, content.CertificateThumbprint)
	if !found {
		return nil, fmt.Errorf("%w: encrypted for %s with thumbprint %s, but the configured ones are %s: add that certificate to "+
			"encryption.certificates until Graph uses a new one", ErrUnknownCertificate, quote(content.CertificateID),
			quote(content.CertificateThumbprint), ring.names())
	}
	start := time.Now()
	text, err := Decrypt(content, key)
	if err != nil {
		return nil, withHint(err)
	}
	if d.telemetry != nil {
		d.telemetry.Decrypted(time.Since(start))
	}
	return parseContent(text, item.ResourceID)
}

// parseContent takes the id of the item if the content has a time but no id. It omits the parser's error, which could quote
// content.
func parseContent(text []byte, resourceID string) (*interaction.Interaction, error) {
	parsed, err := interaction.Parse(text)
	if errors.Is(err, interaction.ErrNoID) {
		named, parseErr := interaction.Parse(withID(text, cmp.Or(resourceID, "unknown")))
		switch {
		case parseErr != nil:
		case named.CreatedDateTime.IsZero():
			return nil, errEmptyContent
		case resourceID != "":
			parsed, err = named, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w (%d bytes): it is fetched from the history; if this keeps happening, update this receiver", ErrPlaintext, len(text))
	}
	return parsed, nil
}

// withID adds an id to a JSON object without a usable one. Of duplicate members the parser takes the last.
func withID(object []byte, id string) []byte {
	// Marshaling a string cannot fail.
	quoted, _ := json.Marshal(id)
	inside := bytes.TrimSpace(object)
	inside = bytes.TrimSpace(inside[1 : len(inside)-1])
	if len(inside) > 0 {
		inside = append(bytes.Clone(inside), ',')
	}
	return fmt.Appendf(nil, `{%s"id":%s}`, inside, quoted)
}

// reasonOf returns the reason for an error of decryptContent.
func reasonOf(err error) Reason {
	switch {
	case errors.Is(err, ErrUnknownCertificate):
		return ReasonCertificate
	case errors.Is(err, ErrOAEP):
		return ReasonOAEP
	case errors.Is(err, ErrHMAC):
		return ReasonHMAC
	case errors.Is(err, ErrNoSignature):
		return ReasonSignatureMissing
	case errors.Is(err, ErrPlaintext):
		return ReasonPlaintext
	default:
		return ReasonMalformed
	}
}

// withHint appends what an operator can do.
func withHint(err error) error {
	switch {
	case errors.Is(err, ErrOAEP):
		return fmt.Errorf("%w: the subscription was created with another certificate under the same id; "+
			"add that one to encryption.certificates again, or delete the subscription so that it is recreated", err)
	case errors.Is(err, ErrHMAC):
		return fmt.Errorf("%w: the content was altered, nothing was decrypted; check the proxies between Graph and this receiver", err)
	case errors.Is(err, ErrNoSignature):
		return fmt.Errorf("%w: content that cannot be verified is not decrypted; the interaction is fetched from the history", err)
	default:
		return fmt.Errorf("%w: check the proxies between Graph and this receiver", err)
	}
}

// maxTokens is far above the one token that Graph sends for a single application and tenant.
const maxTokens = 64

// ErrClientState says that an item does not have the client state of one of our subscriptions.
var ErrClientState = errors.New("client state is not ours: dropped; if Graph sent it, its subscription was created with another " +
	"encryption key or by another receiver, and is replaced or expires within 3 days")

// errNoTenant says that no validation token can cover an item, since a token is issued for a tenant.
var errNoTenant = errors.New("item names no tenant, so no validation token covers it: the interaction is fetched from the history")

// errTokenMissing says that Graph sent no tokens, which looks like an attack but is a setting of the enterprise application:
// https://learn.microsoft.com/graph/change-notifications-with-resource-data
var errTokenMissing = tokenErrorf(ReasonTokenMissing, "Graph sent none, because the enterprise application has "+
	"appRoleAssignmentRequired = true: in Entra > Enterprise applications > Properties set \"Assignment required\" to No, or grant "+
	"the service principal Microsoft Graph Change Tracking (%s) an app role of the application", publisher)

// filterAuthentic returns the indexes of the items with the right clientState and tenant, and rejects the others.
func (d *Decrypter) filterAuthentic(states *clientStates, items []Item, outcomes []outcome) []int {
	var passed []int
	for i := range items {
		item := &items[i]
		switch {
		case !states.match([]byte(item.ClientState)):
			// The id is omitted: a forger chose it, and no interaction is missing.
			outcomes[i].rejection = &Rejection{Reason: ReasonClientState, Err: ErrClientState}
		case item.TenantID == "" && item.LifecycleEvent != "": // lifecycle items need no token
			passed = append(passed, i)
		case item.TenantID == "":
			outcomes[i].rejection = item.unverified(ReasonTenant, errNoTenant)
		case !strings.EqualFold(item.TenantID, d.tenant):
			outcomes[i].rejection = item.unverified(ReasonTenant, fmt.Errorf("the tenant of the item is %s and not %s: check tenant_id",
				quote(item.TenantID), d.tenant))
		default:
			passed = append(passed, i)
		}
	}
	return passed
}

// filterVerified returns the indexes of the items to decrypt, or none if a token is missing or invalid. It sets the outcome of
// lifecycle items, which need valid tokens only if there are any, and rejects the others.
func (d *Decrypter) filterVerified(ctx context.Context, c *Collection, authentic []int, outcomes []outcome, at time.Time) ([]int, error) {
	refused, err := d.checkTokens(ctx, c.ValidationTokens, at)
	if err != nil {
		return nil, err
	}
	var data []int
	for _, i := range authentic {
		item := &c.Items[i]
		switch {
		case refused != nil:
			outcomes[i].rejection = item.unverified(refused.Reason, refused)
		case item.LifecycleEvent != "":
			outcomes[i].lifecycle = &Lifecycle{
				SubscriptionID: item.SubscriptionID,
				Event:          item.LifecycleEvent,
				Expiration:     item.SubscriptionExpiration,
			}
		case len(c.ValidationTokens) == 0:
			outcomes[i].rejection = item.unverified(ReasonTokenMissing, errTokenMissing)
		default:
			data = append(data, i)
		}
	}
	return data, nil
}

// checkTokens verifies all tokens; one invalid token invalidates the collection. The error says that this cannot be decided
// now.
func (d *Decrypter) checkTokens(ctx context.Context, tokens []string, at time.Time) (*TokenError, error) {
	if len(tokens) > maxTokens {
		return tokenErrorf(ReasonTokenCount, "%d of them, Graph sends one for each application and tenant", len(tokens)), nil
	}
	for _, token := range tokens {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		err := d.verifier.Verify(ctx, token, at)
		if refused, ok := errors.AsType[*TokenError](err); ok {
			return refused, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// unverified returns the rejection of an item that Graph may have sent. A lifecycle item leaves no gap.
func (i *Item) unverified(reason Reason, err error) *Rejection {
	if i.LifecycleEvent != "" {
		return &Rejection{Reason: reason, Err: err}
	}
	return &Rejection{Reason: reason, Gap: GapUnverified, ItemID: i.ResourceID, Err: err}
}
