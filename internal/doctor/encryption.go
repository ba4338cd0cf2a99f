// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
	"github.com/otelcopilot/m365copilotreceiver/receiver"
)

// checkEncryption checks the certificates for which Graph encrypts.
func (t *target) checkEncryption(context.Context) []Check {
	if len(t.settings.Subscription.Resources) == 0 {
		return []Check{skipped("no notifications arrive without subscription.notification_url")}
	}
	if len(t.settings.Certificates) == 0 {
		return []Check{t.generatedKey()}
	}
	var checks []Check
	for i, certificate := range t.settings.Certificates {
		checks = append(checks, checkCertificate(i, certificate, time.Now()))
	}
	return checks
}

// generatedKey says where the key is that the receiver generates for itself.
func (t *target) generatedKey() Check {
	switch {
	case t.settings.Storage == nil: // the check of the storage has what follows from it
		return ok("the receiver generates a key at each start and keeps it in memory")
	case t.stored == nil:
		return ok("the receiver generates a key and keeps it in storage")
	case len(t.stored.Generated) == 0:
		return ok("the receiver generates a key when it starts and keeps it in storage")
	default:
		return ok("a generated key is in storage, %s", t.stored.Generated[0].CertificateID())
	}
}

// checkCertificate checks a configured certificate with its key. Only the first is used for new subscriptions, so the others may
// expire. Graph encrypts for an expired one too as far as is known.
func checkCertificate(i int, certificate receiver.Certificate, now time.Time) Check {
	path := fmt.Sprintf("encryption.certificates[%d]", i)
	key, err := notification.LoadKey(certificate.ID, certificate.CertFile, certificate.KeyFile)
	if err != nil {
		return failed(Fail, err, "%s", path)
	}
	parsed, err := x509.ParseCertificate(key.CertificateDER())
	if err != nil {
		return failed(Fail, err, "%s", path)
	}
	public, _ := parsed.PublicKey.(*rsa.PublicKey) // LoadKey accepts no others
	found := fmt.Sprintf("%s %s: RSA %d, ", path, key.CertificateID(), public.N.BitLen())
	end := parsed.NotAfter.UTC().Format(time.DateOnly)
	switch left := parsed.NotAfter.Sub(now); {
	case left > 0 && now.Before(parsed.NotBefore):
		return ok("%svalid from %s to %s", found, parsed.NotBefore.UTC().Format(time.DateOnly), end)
	case left > 0 && (left > credentialWarning || i > 0):
		return ok("%svalid until %s", found, end)
	case i > 0:
		return ok("%sexpired on %s, which does not matter for decryption", found, end)
	case left > 0:
		return bad(Warn, failure.New(failure.EncryptionExpiring), "%sexpires on %s, in %s", found, end, roughly(left))
	default:
		return bad(Warn, failure.New(failure.EncryptionExpiring), "%sexpired on %s, %s ago", found, end, roughly(-left))
	}
}
