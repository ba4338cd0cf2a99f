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
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// Telemetry is told of what costs time. It is called by several goroutines at once.
type Telemetry interface {
	// Decrypted is called for each item that was decrypted, with the time that took.
	Decrypted(spent time.Duration)
}

// Seen remembers what was delivered. It is called by several goroutines at once.
type Seen interface {
	// Known tells whether an item with a dataSignature of this SHA-256 was delivered already.
	Known(digest [sha256.Size]byte) bool
}

// Settings say whose notifications are opened.
type Settings struct {
	// TenantID and ClientID are GUIDs.
	TenantID, ClientID string
	// Audiences holds the application ids that validation tokens may be for; none stands for ClientID.
	Audiences []string
	// Issuers holds the exact issuers of validation tokens, of version 1.0 and 2.0.
	Issuers []string
	// Resources holds those of all subscriptions, without leading slash.
	Resources []string
	// Ring holds the keys that can decrypt.
	Ring Ring
	// Keys holds the signing keys of the authority.
	Keys KeySource
	// Seen spares the decryption of what was delivered already; such an item is in none of the lists of Opened. It is asked
	// only about items whose request was proven authentic. It may be nil.
	Seen Seen
	// Telemetry may be nil.
	Telemetry Telemetry
}

// Decrypter proves that notifications are authentic and decrypts them. It may be used by several goroutines, which share one
// bounded pool for the decryption.
type Decrypter struct {
	// tenant is in lower case.
	tenant    string
	states    *clientStates
	verifier  *Verifier
	ring      Ring
	seen      Seen
	telemetry Telemetry
	// slots holds an element for each decryption under way.
	slots chan struct{}
	// initErr is why nothing can be opened: a key that no client state can be derived from.
	initErr error
}

// NewDecrypter derives the client states of every key and resource. If it cannot, Open says why.
func NewDecrypter(settings Settings) *Decrypter {
	tenant, client := strings.ToLower(settings.TenantID), strings.ToLower(settings.ClientID)
	audiences := settings.Audiences
	if len(audiences) == 0 {
		audiences = []string{client}
	}
	states, err := deriveClientStates(settings.Ring, tenant, client, settings.Resources)
	return &Decrypter{
		tenant:    tenant,
		states:    states,
		verifier:  NewVerifier(VerifierSettings{TenantID: tenant, Audiences: audiences, Issuers: settings.Issuers, Keys: settings.Keys}),
		ring:      settings.Ring,
		seen:      settings.Seen,
		telemetry: settings.Telemetry,
		slots:     make(chan struct{}, runtime.GOMAXPROCS(0)),
		initErr:   err,
	}
}

// ClientStates returns what tells whether a clientState is that of a subscription of ours: one for each key and resource.
// It fails if they can't be derived.
func (d *Decrypter) ClientStates() (ours func(clientState []byte) bool, err error) {
	if d.initErr != nil {
		return nil, fmt.Errorf("open notifications: %w", d.initErr)
	}
	return d.states.match, nil
}

// outcome is what became of an item: at most one member is set.
type outcome struct {
	received  *interaction.Received
	lifecycle *Lifecycle
	rejection *Rejection
}

// Decrypt takes the items of a collection apart: clientState first, then the validation tokens, then decryption. Items that
// are not authentic cost nothing but a comparison, and when none is authentic nobody is called. at is when the collection
// was taken in; tokens are judged at that time.
//
// There is an error only when nothing can be decided now. It wraps ErrKeysUnavailable or the context's error, and Opened is
// empty.
func (d *Decrypter) Decrypt(ctx context.Context, c *Collection, at time.Time) (Decrypted, error) {
	if d.initErr != nil {
		return Decrypted{}, fmt.Errorf("open notifications: %w", d.initErr)
	}
	outcomes := make([]outcome, len(c.Items))
	authentic := d.filterAuthentic(c.Items, outcomes)
	if len(authentic) > 0 {
		verified, err := d.filterVerified(ctx, c, authentic, outcomes, at)
		if err != nil {
			return Decrypted{}, fmt.Errorf("open notifications: %w", err)
		}
		if err := d.decryptAll(ctx, c.Items, verified, outcomes, at); err != nil {
			return Decrypted{}, fmt.Errorf("open notifications: %w", err)
		}
	}
	return collect(c.Items, outcomes), nil
}

// decryptAll waits for all that it started, whatever the context says.
func (d *Decrypter) decryptAll(ctx context.Context, items []Item, verified []int, outcomes []outcome, at time.Time) error {
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
			outcomes[i] = d.decryptItem(&items[i], at)
		})
	}
	return nil
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

// ErrPlaintext tells of content that was decrypted and is not an interaction.
var ErrPlaintext = errors.New("decrypted content is not an interaction")

// decryptItem turns an authentic item into an interaction.
//
// An item whose changeType is unknown is not guessed at: as an update it could hide a deletion. It becomes a gap, and the
// history tells what the interaction is now.
func (d *Decrypter) decryptItem(item *Item, at time.Time) outcome {
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
	decrypted, err := d.decryptContent(item)
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

var errNoContent = errors.New("item came without content: the interaction is fetched from the history; " +
	"if it happens often, the subscription was made without includeResourceData")

// errEmptyContent tells of content that says of no interaction which one it is.
var errEmptyContent = errors.New("decrypted content names neither an id nor a time: the interaction is fetched from the history")

func changeOf(changeType string) (interaction.Change, bool) {
	for _, change := range []interaction.Change{interaction.Created, interaction.Updated, interaction.Deleted} {
		if strings.EqualFold(changeType, string(change)) {
			return change, true
		}
	}
	return "", false
}

func (d *Decrypter) decryptContent(item *Item) (*interaction.Interaction, error) {
	content := item.EncryptedContent
	key, found := d.ring.find(content.CertificateID, content.CertificateThumbprint)
	if !found {
		return nil, fmt.Errorf("%w: encrypted for %s with thumbprint %s, but there are %s: add that certificate to "+
			"encryption.certificates until Graph uses a new one", ErrUnknownCertificate, quote(content.CertificateID),
			quote(content.CertificateThumbprint), d.ring.names())
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

// parseContent takes the id of the item where the content has only a time. It leaves out what the parser says: an error never
// quotes content, not even in part.
func parseContent(text []byte, resourceID string) (*interaction.Interaction, error) {
	decrypted, err := interaction.Parse(text)
	if errors.Is(err, interaction.ErrNoID) {
		named, parseErr := interaction.Parse(withID(text, cmp.Or(resourceID, "unknown")))
		switch {
		case parseErr != nil:
		case named.CreatedDateTime.IsZero():
			return nil, errEmptyContent
		case resourceID != "":
			decrypted, err = named, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w (%d bytes): it is fetched from the history; if it stays, update this receiver", ErrPlaintext, len(text))
	}
	return decrypted, nil
}

// withID adds an id to a JSON object that has none of use. Of duplicated members the parser takes the last.
func withID(object []byte, id string) []byte {
	// A string always has a JSON form.
	quoted, _ := json.Marshal(id)
	inside := bytes.TrimSpace(object)
	inside = bytes.TrimSpace(inside[1 : len(inside)-1])
	if len(inside) > 0 {
		inside = append(bytes.Clone(inside), ',')
	}
	return fmt.Appendf(nil, `{%s"id":%s}`, inside, quoted)
}

// reasonOf names an error of decrypt.
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

// withHint adds what an operator does about it.
func withHint(err error) error {
	switch {
	case errors.Is(err, ErrOAEP):
		return fmt.Errorf("%w: the subscription was made with another certificate under the same id; "+
			"give that one back to encryption.certificates, or delete the subscription so that it is made anew", err)
	case errors.Is(err, ErrHMAC):
		return fmt.Errorf("%w: the content was altered, nothing was decrypted; look at what stands between Graph and this receiver", err)
	case errors.Is(err, ErrNoSignature):
		return fmt.Errorf("%w: what cannot be checked is not decrypted; the interaction is fetched from the history", err)
	default:
		return fmt.Errorf("%w: look at what stands between Graph and this receiver", err)
	}
}

// maxTokens is far more than the one token that a single application and tenant get.
const maxTokens = 64

// ErrClientState tells of an item that does not carry the client state of a subscription of ours.
var ErrClientState = errors.New("client state is not ours: dropped; if Graph sent it, its subscription was made with another " +
	"encryption key or by another receiver, and is replaced or expires within 3 days")

// errNoTenant tells of an item that no validation token can cover, since these are for tenants.
var errNoTenant = errors.New("item names no tenant, so no validation token covers it: the interaction is fetched from the history")

// errTokenMissing tells of a trap that looks like an attack: https://learn.microsoft.com/graph/change-notifications-with-resource-data
var errTokenMissing = tokenErrorf(ReasonTokenMissing, "Graph sent none, because the enterprise application has "+
	"appRoleAssignmentRequired = true: in Entra > Enterprise applications > Properties set \"Assignment required\" to No, or grant "+
	"the service principal Microsoft Graph Change Tracking (%s) an app role of the application", publisher)

// filterAuthentic gives the indexes of the items with the right clientState and tenant, and rejects the others.
func (d *Decrypter) filterAuthentic(items []Item, outcomes []outcome) []int {
	var passed []int
	for i := range items {
		item := &items[i]
		switch {
		case !d.states.match([]byte(item.ClientState)):
			// The id is the forger's, and there is nothing to look for.
			outcomes[i].rejection = &Rejection{Reason: ReasonClientState, Err: ErrClientState}
		case item.TenantID == "" && item.LifecycleEvent != "": // it needs no token
			passed = append(passed, i)
		case item.TenantID == "":
			outcomes[i].rejection = item.unverified(ReasonTenant, errNoTenant)
		case !strings.EqualFold(item.TenantID, d.tenant):
			outcomes[i].rejection = item.unverified(ReasonTenant, fmt.Errorf("item is of tenant %s and not of %s: check tenant_id",
				quote(item.TenantID), d.tenant))
		default:
			passed = append(passed, i)
		}
	}
	return passed
}

// filterVerified gives the indexes of the items to decrypt: those whose collection carries genuine tokens. It settles lifecycle
// items, which need tokens only where Graph sends them, and rejects the others.
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

// checkTokens asks for every token to be genuine: one that is not makes the whole collection doubtful. The error is for
// what cannot be said now.
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

// unverified rejects an item that Graph may well have sent. A lifecycle item leaves nothing to fetch.
func (i *Item) unverified(reason Reason, err error) *Rejection {
	if i.LifecycleEvent != "" {
		return &Rejection{Reason: reason, Err: err}
	}
	return &Rejection{Reason: reason, Gap: GapUnverified, ItemID: i.ResourceID, Err: err}
}
