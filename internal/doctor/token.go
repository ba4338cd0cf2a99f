// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
)

// checkToken requests an access token and compares it with the configuration.
func (t *target) checkToken(ctx context.Context) []Check {
	if t.clients.Tokens == nil {
		return []Check{t.checkAuthenticator(ctx)}
	}
	if !t.loginReached {
		return []Check{skipped("the login service was not reached")}
	}
	ctx, cancel := call(ctx)
	defer cancel()
	token, err := t.clients.Tokens.Token(ctx, true)
	if err != nil {
		return []Check{failed(Fail, err, "%s", t.credentialKey())}
	}
	t.tokenIssued = true
	c, readable := readClaims(token)
	if !readable || c.Tenant == "" { // Microsoft may change the form of tokens for Graph at any time
		return []Check{ok("%s: an access token that can't be read", t.credentialKey())}
	}
	t.roles = append([]string{}, c.Roles...)
	checks := []Check{ok("%s: an access token that is valid for %d minutes", t.credentialKey(), c.minutes())}
	if !strings.EqualFold(c.Tenant, t.settings.TenantID) {
		checks = append(checks, bad(Fail, failure.New(failure.ApplicationUnknown),
			"the access token is for tenant %s, while tenant_id is %s", c.Tenant, t.settings.TenantID))
	}
	if application := cmp.Or(c.Application, c.AuthorizedParty); !strings.EqualFold(application, t.settings.ClientID) {
		checks = append(checks, bad(Fail, failure.New(failure.ApplicationUnknown),
			"the access token is for application %s, while auth.client_id is %s", application, t.settings.ClientID))
	}
	return checks
}

// checkAuthenticator makes a call to see whether Graph accepts the token of an authenticator extension, which nobody else sees.
func (t *target) checkAuthenticator(ctx context.Context) Check {
	if !t.graphReached {
		return skipped("Microsoft Graph was not reached")
	}
	ctx, cancel := call(ctx)
	defer cancel()
	if _, err := t.clients.Graph.ListSubscriptions(ctx); err != nil {
		return failed(Fail, err, "%s", t.credentialKey())
	}
	t.tokenIssued = true
	return ok("%s: Microsoft Graph accepts its access token", t.credentialKey())
}

// whyNoCall returns why Graph can't be called, "" if it can.
func (t *target) whyNoCall() string {
	switch {
	case !t.graphReached:
		return "Microsoft Graph was not reached"
	case !t.tokenIssued:
		return "there is no access token"
	default:
		return ""
	}
}

// credentialKey returns the configuration key of the credential, and the id of an authenticator extension.
func (t *target) credentialKey() string {
	c := t.settings.Credential
	switch {
	case c == nil:
		return "graph.auth " + t.settings.Graph.Auth.Get().AuthenticatorID.String()
	case c.CertFile != "" || c.KeyFile != "":
		return "auth.client_certificate"
	case c.FederatedTokenFile != "":
		return "auth.federated_token_file"
	case c.SecretFile != "":
		return "auth.client_secret_file"
	default:
		return "auth.client_secret"
	}
}

// claims are those of an access token: https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference
type claims struct {
	Tenant string `json:"tid"`
	// Application is in tokens of version 1.0, AuthorizedParty in those of version 2.0.
	Application     string   `json:"appid"`
	AuthorizedParty string   `json:"azp"`
	Roles           []string `json:"roles"`
	Expires         float64  `json:"exp"` // seconds since 1970
}

// readClaims decodes the claims of a JWT without verifying it, or returns false for another kind of token.
func readClaims(token string) (c claims, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return claims{}, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	return c, err == nil && json.Unmarshal(raw, &c) == nil
}

// left returns how long the token is still valid.
func (c claims) left() time.Duration { return time.Until(time.Unix(int64(c.Expires), 0)) }

// minutes returns the same in minutes, for a text.
func (c claims) minutes() int { return max(0, int(c.left().Round(time.Minute).Minutes())) }

// readsUsers are the permissions of which one is enough to list and read users: https://learn.microsoft.com/graph/api/user-list
var readsUsers = []string{"User.Read.All", "User.ReadWrite.All", "Directory.Read.All", "Directory.ReadWrite.All"}

// checkPermissions looks for the permissions that the configuration needs in the token.
func (t *target) checkPermissions(context.Context) []Check {
	const interactions = "AiEnterpriseInteraction.Read.All"
	switch {
	case !t.tokenIssued:
		return []Check{skipped("there is no access token")}
	case t.roles == nil:
		return []Check{skipped("the access token can't be read")}
	}
	var checks []Check
	if slices.Contains(t.roles, interactions) {
		checks = append(checks, ok(interactions))
	} else {
		checks = append(checks, bad(Fail, failure.New(failure.PermissionMissing), "the access token lacks %s", interactions))
	}
	isGranted := func(permission string) bool { return slices.Contains(t.roles, permission) }
	if i := slices.IndexFunc(readsUsers, isGranted); i >= 0 {
		checks = append(checks, ok("%s", readsUsers[i]))
	} else if t.needsUsers() {
		checks = append(checks, bad(Warn, failure.New(failure.UsersPermissionMissing), "the access token lacks %s", readsUsers[0]))
	}
	return checks
}

// needsUsers reports whether the receiver reads the directory: for properties of users, or to know whose history to read.
func (t *target) needsUsers() bool {
	s := t.settings
	return s.Directory.Lookup || s.Directory.ListLicensed || !s.History.Rules.Disabled && len(s.History.Users) == 0
}
