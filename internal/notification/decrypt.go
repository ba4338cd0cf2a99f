// SPDX-License-Identifier: Apache-2.0

package notification

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // Graph encrypts with RSA-OAEP over SHA-1, which does not rely on collision resistance
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/panics"
)

// decryptAll decrypts the items in parallel. All collections together use each processor once, so that those in excess wait instead
// of delaying each other's answers. It does not return before all that it started has ended, even if the context ends.
func (d *Decrypter) decryptAll(ctx context.Context, items []*Item, at time.Time, into *Decrypted) error {
	ring := d.keys.Load().ring // SetKeys may replace it meanwhile
	received, errs := make([]*interaction.Received, len(items)), make([]error, len(items))
	var decryptions errgroup.Group
	decryptions.SetLimit(runtime.GOMAXPROCS(0))
	for i, item := range items {
		decryptions.Go(func() error {
			if err := d.processors.Acquire(ctx, 1); err != nil {
				return err
			}
			defer d.processors.Release(1)
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
	if d.settings.Delivered != nil && d.settings.Delivered(received.ContentDigest) {
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
	if d.settings.Decrypted != nil {
		d.settings.Decrypted(time.Since(start))
	}
	return parseContent(text, item.ResourceID)
}

// find looks up a key by encryptionCertificateId, or by thumbprint if that is missing or unknown. It may return nil.
func (r Ring) find(certificateID, thumbprint string) *Key {
	for _, key := range r {
		if key.certificateID == certificateID {
			return key
		}
	}
	for _, key := range r {
		if strings.EqualFold(key.thumbprint, thumbprint) {
			return key
		}
	}
	return nil
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

const contentKeyLength = 32

// Decrypt decrypts the content of a notification:
// https://learn.microsoft.com/graph/change-notifications-with-resource-data#decrypting-resource-data-from-change-notifications
//
// It verifies the signature in constant time before it decrypts data with the content key. The error is an *Error with
// ReasonOAEP, ReasonHMAC, ReasonSignatureMissing or ReasonMalformed.
func Decrypt(content *EncryptedContent, key *Key) ([]byte, error) {
	if content.DataSignature == "" {
		return nil, errorf(ReasonSignatureMissing, "content without a signature is not decrypted")
	}
	digest, digestErr := base64.StdEncoding.DecodeString(content.DataSignature)
	wrapped, wrappedErr := base64.StdEncoding.DecodeString(content.DataKey)
	data, dataErr := base64.StdEncoding.DecodeString(content.Data)
	if err := errors.Join(digestErr, wrappedErr, dataErr); err != nil {
		return nil, errorf(ReasonMalformed, "dataSignature, dataKey or data is not base64")
	}
	contentKey, err := rsa.DecryptOAEP(sha1.New(), nil, key.private, wrapped, nil) //nolint:gosec // see the import
	if err != nil {
		return nil, errorf(ReasonOAEP, "the data key cannot be decrypted with the key of %s", key.certificateID)
	}
	if len(contentKey) != contentKeyLength {
		return nil, errorf(ReasonMalformed, "data key of %d bytes instead of %d", len(contentKey), contentKeyLength)
	}
	mac := hmac.New(sha256.New, contentKey)
	mac.Write(data)
	if !hmac.Equal(mac.Sum(nil), digest) {
		return nil, errorf(ReasonHMAC, "the content does not match its signature: it was altered, nothing was decrypted")
	}
	return decryptData(data, contentKey)
}

// decryptData decrypts in place: AES-256-CBC with PKCS#7 padding (RFC 5652 section 6.3). Graph prescribes that the
// initialization vector is a part of the key; this is acceptable because each key is used once.
func decryptData(data, contentKey []byte) ([]byte, error) {
	if len(data) == 0 || len(data)%aes.BlockSize != 0 {
		return nil, errorf(ReasonMalformed, "data of %d bytes is not a multiple of the AES block size", len(data))
	}
	block, err := aes.NewCipher(contentKey)
	if err != nil {
		return nil, errorf(ReasonMalformed, "data key: %v", err)
	}
	cipher.NewCBCDecrypter(block, contentKey[:aes.BlockSize]).CryptBlocks(data, data)
	last := data[len(data)-1:]
	padding := bytes.Repeat(last, int(last[0]))
	if len(padding) == 0 || len(padding) > aes.BlockSize || !bytes.HasSuffix(data, padding) {
		return nil, errorf(ReasonMalformed, "wrong padding")
	}
	return bytes.TrimSuffix(data, padding), nil
}
