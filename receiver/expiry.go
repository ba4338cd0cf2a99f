// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
)

// The credentials whose dates can be read. A client secret has none, and a federated token is renewed all the time.
const (
	clientCertificate     = "client_certificate"
	encryptionCertificate = "encryption_certificate"
)

// warnBefore returns how long before its date a certificate is warned of, the longest first.
func warnBefore() []time.Duration {
	const day = 24 * time.Hour
	return []time.Duration{30 * day, 7 * day, day, 0}
}

// dated is a certificate with its date.
type dated struct {
	// credential is one of the constants above, name the certificate's id or file.
	credential, name string
	expires          time.Time
	// warned is how many of the times of warnBefore were warned of.
	warned int
}

// update returns a certificate as it was read again, and what there is to say of it: whether one that was warned of is replaced by
// one with a later date, and whether to warn of this one. Each time of warnBefore is warned of once; of several that have passed
// already, as at a start, the last.
func (d dated) update(read dated, now time.Time) (next dated, replaced, warn bool) {
	replaced = d.warned > 0 && read.expires.After(d.expires)
	if !replaced {
		read.warned = d.warned
	}
	passed := 0
	for _, before := range warnBefore() {
		if !now.Before(read.expires.Add(-before)) {
			passed++
		}
	}
	warn = passed > read.warned
	read.warned = max(passed, read.warned)
	return read, replaced, warn
}

// expiry warns before certificates expire, and keeps their dates for the gauge.
type expiry struct {
	logger *zap.Logger

	mu    sync.Mutex // guards known
	known []dated    // one of each credential
}

// check takes note of the certificates that could be read. What is known of others stays: whoever uses their files reports the failure.
func (e *expiry) check(read []dated) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, one := range read {
		i := slices.IndexFunc(e.known, func(d dated) bool { return d.credential == one.credential })
		if i < 0 {
			i = len(e.known)
			e.known = append(e.known, dated{credential: one.credential})
		}
		next, replaced, warn := e.known[i].update(one, time.Now())
		e.known[i] = next
		if replaced {
			e.logger.Info("a certificate that was about to expire is replaced", next.fields()...)
		}
		if warn {
			e.warn(next)
		}
	}
}

// warn logs a warning before the date; what follows from it after that depends on the credential.
func (e *expiry) warn(d dated) {
	told, level, message := d.failure(), zapcore.WarnLevel, "a certificate expires soon"
	if d.warned == len(warnBefore()) {
		level, message = told.Level(), "a certificate has expired"
	}
	e.logger.Log(level, message, slices.Concat(d.fields(), told.Fields())...)
}

func (d dated) failure() failure.Failure {
	if d.credential == clientCertificate {
		return failure.New(failure.CredentialExpiring)
	}
	return failure.New(failure.EncryptionExpiring)
}

func (d dated) fields() []zap.Field {
	return []zap.Field{zap.String("credential", d.credential), zap.String("certificate", d.name), zap.Time("expires", d.expires)}
}

// left returns the time until each certificate expires, negative once it has.
func (e *expiry) left(now time.Time) map[string]time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	left := map[string]time.Duration{}
	for _, d := range e.known {
		left[d.credential] = d.expires.Sub(now)
	}
	return left
}

// watchFiles takes the keys of changed files into use, and notes when certificates expire, until ctx ends.
func (r *Receiver) watchFiles(ctx context.Context) {
	r.components.expiry.check(r.readCertificates())
	every(ctx, keyCheckInterval, func() {
		if r.components.keys != nil {
			r.checkKeys(ctx)
		}
		r.components.expiry.check(r.readCertificates())
	})
}

// readCertificates returns the certificates that must be replaced before they expire. Entra ID refuses an expired client certificate,
// and Graph may refuse an expired encryption certificate for a new subscription, which is always the first. The dates of the others
// don't matter: they only decrypt.
func (r *Receiver) readCertificates() []dated {
	var read []dated
	if credential := r.settings.Credential; credential != nil {
		if expires, err := credential.CertificateExpiry(); err == nil && !expires.IsZero() {
			read = append(read, dated{credential: clientCertificate, name: credential.CertFile, expires: expires})
		}
	}
	if k := r.components.keys; k != nil {
		first := k.ring[0]
		read = append(read, dated{credential: encryptionCertificate, name: first.CertificateID(), expires: first.NotAfter()})
	}
	return read
}
