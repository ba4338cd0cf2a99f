// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
)

const (
	// expiresSoon is when an automatic renewal, which is usual with a third of 90 days left, has failed for some time. For certificates
	// with a shorter life it is a sixth of that.
	expiresSoon = 14 * 24 * time.Hour
	// maxNames limits the names of a certificate in a text.
	maxNames = 5
)

// checkServerCertificate checks the certificates that a server sent, its own first, and names everything that is wrong. The roots are
// those of the system if nil.
func checkServerCertificate(host string, sent []*x509.Certificate, roots *x509.CertPool, now time.Time) Check {
	own, intermediates := sent[0], x509.NewCertPool()
	for _, one := range sent[1:] {
		intermediates.AddCert(one)
	}
	var wrong []string
	if err := own.VerifyHostname(host); err != nil {
		wrong = append(wrong, "it is for "+namesOf(own))
	}
	// The chain is that of a time at which the certificate itself is valid, since its dates are a fault of their own.
	at := now
	switch {
	case now.After(own.NotAfter):
		at, wrong = own.NotAfter, append(wrong, "it expired on "+day(own.NotAfter))
	case now.Before(own.NotBefore):
		at, wrong = own.NotBefore, append(wrong, "it is not valid before "+day(own.NotBefore))
	}
	chains, err := own.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: at})
	if err != nil {
		wrong = append(wrong, chainFault(err, sent))
	}
	f := failure.New(failure.PublicCertificate, host)
	if len(wrong) > 0 {
		return bad(Fail, f, "the certificate of %s: %s", host, strings.Join(wrong, ", and "))
	}
	end := endOf(chains)
	if end.Sub(now) < min(expiresSoon, own.NotAfter.Sub(own.NotBefore)/6) {
		return bad(Warn, f, "the certificate of %s, or one above it, expires on %s", host, day(end))
	}
	// Graph may not know a CA that this machine trusts.
	return ok("its certificate, issued by %s, is valid until %s", cmp.Or(own.Issuer.CommonName, own.Issuer.String()), day(end))
}

func chainFault(err error, sent []*x509.Certificate) string {
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); !unknown {
		return err.Error()
	}
	own := sent[0]
	switch {
	case string(own.RawIssuer) == string(own.RawSubject):
		return "it is signed by itself and not by a public CA"
	case len(sent) == 1:
		return fmt.Sprintf("it is not trusted: the server sends no intermediate certificate of %q, or this is no public CA", own.Issuer.CommonName)
	default:
		return fmt.Sprintf("it is not trusted: the chain from %q leads to no public CA", own.Issuer.CommonName)
	}
}

func namesOf(certificate *x509.Certificate) string {
	names := slices.Clone(certificate.DNSNames)
	for _, address := range certificate.IPAddresses {
		names = append(names, address.String())
	}
	switch {
	case len(names) == 0:
		return "no name"
	case len(names) > maxNames:
		return fmt.Sprintf("%s and %d other names", strings.Join(names[:maxNames], ", "), len(names)-maxNames)
	default:
		return strings.Join(names, ", ")
	}
}

// endOf returns when the last of the chains is not valid any more.
func endOf(chains [][]*x509.Certificate) (end time.Time) {
	for _, chain := range chains {
		first := chain[0].NotAfter
		for _, one := range chain {
			first = gap.Earlier(first, one.NotAfter)
		}
		end = gap.Later(end, first)
	}
	return end
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
