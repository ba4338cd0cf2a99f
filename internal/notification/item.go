package notification

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// ErrPlaintext tells of content that was decrypted and is not an interaction.
var ErrPlaintext = errors.New("decrypted content is not an interaction")

// openItem turns an authentic item into an interaction.
//
// An item whose changeType is unknown is not guessed at: as an update it could hide a deletion. It becomes a gap, and the
// history tells what the interaction is now.
func (o *Decrypter) openItem(item *Item, at time.Time) outcome {
	change, known := changeOf(item.ChangeType)
	if !known {
		return outcome{rejection: item.unverified(ReasonChangeType,
			fmt.Errorf("unknown changeType %s: update this receiver", short(item.ChangeType)))}
	}
	received := &interaction.Received{
		TenantID:       o.tenant,
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
	if o.seen != nil && received.ContentDigest != ([sha256.Size]byte{}) && o.seen.Known(received.ContentDigest) {
		return outcome{}
	}
	opened, err := o.decrypt(item)
	switch {
	case errors.Is(err, errEmptyContent) && change == interaction.Deleted && item.ResourceID != "":
		received.ID, received.WithoutContent = item.ResourceID, true
		return outcome{received: received}
	case errors.Is(err, errEmptyContent):
		return outcome{rejection: &Rejection{Reason: ReasonContentMissing, Gap: GapEmpty, ItemID: item.ResourceID, Err: err}}
	case err != nil:
		return outcome{rejection: &Rejection{Reason: reasonOf(err), Gap: GapUndecryptable, ItemID: item.ResourceID, Err: err}}
	}
	received.Interaction = *opened
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

func (o *Decrypter) decrypt(item *Item) (*interaction.Interaction, error) {
	content := item.EncryptedContent
	key, found := o.ring.find(content.CertificateID, content.CertificateThumbprint)
	if !found {
		return nil, fmt.Errorf("%w: encrypted for %s with thumbprint %s, but there are %s: add that certificate to "+
			"encryption.certificates until Graph uses a new one", ErrUnknownCertificate, short(content.CertificateID),
			short(content.CertificateThumbprint), o.ring.names())
	}
	began := time.Now()
	text, err := Decrypt(content, key)
	if err != nil {
		return nil, mended(err)
	}
	if o.telemetry != nil {
		o.telemetry.Decrypted(time.Since(began))
	}
	return read(text, item.ResourceID)
}

// read takes the id of the item where the content has only a time. It leaves out what the parser says: an error never
// quotes content, not even in part.
func read(text []byte, resourceID string) (*interaction.Interaction, error) {
	opened, err := interaction.Parse(text)
	if errors.Is(err, interaction.ErrNoID) {
		named, parseErr := interaction.Parse(withID(text, cmp.Or(resourceID, "unknown")))
		switch {
		case parseErr != nil:
		case named.CreatedDateTime.IsZero():
			return nil, errEmptyContent
		case resourceID != "":
			opened, err = named, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w (%d bytes): it is fetched from the history; if it stays, update this receiver", ErrPlaintext, len(text))
	}
	return opened, nil
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

// mended adds what an operator does about it.
func mended(err error) error {
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
