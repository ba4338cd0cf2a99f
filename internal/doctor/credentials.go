// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// credentialWarning is how long before its end a credential is reported: time enough to get a new one.
const credentialWarning = 30 * 24 * time.Hour

// checkCredentials checks the files of the credential, and when it expires where that can be read.
func (t *target) checkCredentials(ctx context.Context) []Check {
	c, key := t.settings.Credential, t.credentialKey()
	if c == nil {
		return []Check{skipped("%s has the credential", key)}
	}
	if err := c.ReadFiles(); err != nil {
		return []Check{bad(Fail, failure.Of(err), "%v", err)}
	}
	if c.FederatedTokenFile != "" {
		return []Check{checkAssertion(key, c.FederatedTokenFile)}
	}
	expires, _ := c.CertificateExpiry() // the files were read just now
	registered, reason := t.registeredEnd(ctx)
	if !registered.IsZero() && (expires.IsZero() || registered.Before(expires)) {
		expires = registered
	}
	switch {
	case !expires.IsZero():
		return []Check{checkExpiry(key, expires)}
	case t.tokenIssued:
		return []Check{ok("%s is accepted; its expiry can't be read: %s", key, reason)}
	default:
		return []Check{skipped("the expiry of %s can't be read: %s", key, reason)}
	}
}

// registeredEnd returns when the credential expires as the app registration says it, or else why that is not known.
func (t *target) registeredEnd(ctx context.Context) (end time.Time, reason string) {
	if reason := t.whyNoCall(); reason != "" {
		return time.Time{}, reason
	}
	ctx, cancel := call(ctx)
	defer cancel()
	end, err := t.clients.Graph.CredentialExpiry(ctx, *t.settings.Credential)
	switch {
	case graph.Forbidden(err):
		return time.Time{}, "Application.Read.All is not granted"
	case err != nil:
		return time.Time{}, oneLine(err.Error())
	default:
		return end, "the app registration doesn't show it"
	}
}

// checkAssertion checks that the token in a file has not expired. What is not a JWT shows no time.
func checkAssertion(key, path string) Check {
	content, _ := os.ReadFile(path) //nolint:gosec // the operator names the file; it was read before
	c, readable := readClaims(strings.TrimSpace(string(content)))
	switch {
	case !readable || c.Expires == 0:
		return ok("%s shows no expiry", key)
	case c.left() <= 0:
		return bad(Fail, failure.New(failure.AssertionExpired), "the token in %s has expired", key)
	default:
		return ok("the token in %s is valid for %d minutes", key, c.minutes())
	}
}

// checkExpiry judges the time at which a credential expires.
func checkExpiry(key string, expires time.Time) Check {
	left, day := time.Until(expires), expires.UTC().Format(time.DateOnly)
	switch {
	case left <= 0:
		return bad(Fail, failure.New(failure.CredentialExpiring), "%s expired on %s", key, day)
	case left < credentialWarning:
		return bad(Warn, failure.New(failure.CredentialExpiring), "%s expires on %s", key, day)
	default:
		return ok("%s is valid until %s", key, day)
	}
}
