package notification

import (
	"context"
	"crypto/sha256"
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
	Known(signature [sha256.Size]byte) bool
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
	// unusable is why nothing can be opened: a key that no client state can be derived from.
	unusable error
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
		unusable:  err,
	}
}

// ClientStates returns what tells whether a clientState is that of a subscription of ours: one for each key and resource.
// It fails if they can't be derived.
func (o *Decrypter) ClientStates() (ours func(clientState []byte) bool, err error) {
	if o.unusable != nil {
		return nil, fmt.Errorf("open notifications: %w", o.unusable)
	}
	return o.states.match, nil
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
func (o *Decrypter) Decrypt(ctx context.Context, c *Collection, at time.Time) (Opened, error) {
	if o.unusable != nil {
		return Opened{}, fmt.Errorf("open notifications: %w", o.unusable)
	}
	outcomes := make([]outcome, len(c.Items))
	authentic := o.authentic(c.Items, outcomes)
	if len(authentic) > 0 {
		verified, err := o.verified(ctx, c, authentic, outcomes, at)
		if err != nil {
			return Opened{}, fmt.Errorf("open notifications: %w", err)
		}
		if err := o.decryptAll(ctx, c.Items, verified, outcomes, at); err != nil {
			return Opened{}, fmt.Errorf("open notifications: %w", err)
		}
	}
	return gather(c.Items, outcomes), nil
}

// decryptAll waits for all that it started, whatever the context says.
func (o *Decrypter) decryptAll(ctx context.Context, items []Item, verified []int, outcomes []outcome, at time.Time) error {
	var running sync.WaitGroup
	defer running.Wait()
	for _, i := range verified {
		if err := ctx.Err(); err != nil {
			return err
		}
		select {
		case o.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		running.Go(func() {
			defer func() { <-o.slots }()
			outcomes[i] = o.openItem(&items[i], at)
		})
	}
	return nil
}

func gather(items []Item, outcomes []outcome) Opened {
	var opened Opened
	for i, each := range outcomes {
		switch {
		case each.received != nil:
			opened.Received = append(opened.Received, *each.received)
		case each.lifecycle != nil:
			opened.Lifecycle = append(opened.Lifecycle, *each.lifecycle)
		case each.rejection != nil:
			if each.rejection.Gap != "" {
				each.rejection.ContentDigest = items[i].ContentDigest()
			}
			opened.Rejected = append(opened.Rejected, *each.rejection)
		}
	}
	return opened
}
