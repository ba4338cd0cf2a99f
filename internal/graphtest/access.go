// SPDX-License-Identifier: Apache-2.0

package graphtest

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// roles returns the permissions of which the operation requires one, nil for none. An application may list and delete its own
// subscriptions without a permission: https://learn.microsoft.com/graph/api/subscription-list
func (o Operation) roles() []string {
	switch o {
	case OpCreate, OpRenew, OpReauthorize, OpHistory:
		return []string{RoleReadAll}
	case OpUsers, OpUser:
		return []string{RoleUsersReadAll}
	case OpProducts:
		return []string{RoleLicensesReadAll, "Organization.Read.All", "Directory.Read.All"}
	case OpApplication:
		return []string{RoleApplicationsReadAll, "Directory.Read.All"}
	default:
		return nil
	}
}

// authorize checks the access token of a Graph call and the roles in it.
func (e *Emulator) authorize(r *http.Request, op Operation) *graphError {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return &graphError{http.StatusUnauthorized, "InvalidAuthenticationToken", "Access token is empty."}
	}
	claims := jwt.MapClaims{}
	_, err := jwt.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return e.access.key, nil },
		jwt.WithValidMethods([]string{"HS256"}),
		jwt.WithAudience(e.baseURL(r)),
		jwt.WithExpirationRequired(),
	)
	if err == nil && !e.access.isCurrent(claims) {
		err = jwt.ErrTokenExpired
	}
	if err != nil {
		return &graphError{http.StatusUnauthorized, "InvalidAuthenticationToken", accessTokenMessage(err)}
	}
	granted, _ := claims["roles"].([]any)
	required := op.roles()
	switch {
	case required == nil || slices.ContainsFunc(required, func(role string) bool { return slices.Contains(granted, any(role)) }):
		return nil
	case required[0] != RoleReadAll: // the directory
		return &graphError{http.StatusForbidden, "Authorization_RequestDenied", "Insufficient privileges to complete the operation."}
	default:
		return &graphError{http.StatusForbidden, "Forbidden", "Missing role permissions on the request. " +
			"API requires one of '" + strings.Join(required, ", ") + "'. Roles on the request ''."}
	}
}

func (a *accessTokens) isCurrent(claims jwt.MapClaims) bool {
	_, current := a.current()
	generation, ok := claims[claimGeneration].(float64)
	return ok && int(generation) == current
}

func accessTokenMessage(err error) string {
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return "Lifetime validation failed, the token is expired."
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return "Access token validation failure. Invalid audience."
	case errors.Is(err, jwt.ErrTokenMalformed):
		return "IDX14100: JWT is not well formed, there are no dots (.)."
	default:
		return "Access token validation failure. Invalid signature."
	}
}

const maxFormBytes = 1 << 20

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// serveToken answers the client credentials flow:
// https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow
func (e *Emulator) serveToken(w http.ResponseWriter, r *http.Request, args []string) {
	w.Header().Set("Cache-Control", "no-store, no-cache")
	apiErr := e.checkTokenRequest(w, r, args[0])
	if apiErr != nil {
		apiErr.write(w)
		return
	}
	lifetime := e.settings.AccessTokenLifetime
	roles, generation := e.access.current()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, accessClaims(e.settings, e.baseURL(r), roles, generation, time.Now())).
		SignedString(e.access.key)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	e.recorder.update(func(s *Stats) { s.TokensIssued++ })
	writeJSON(w, http.StatusOK, map[string]any{
		"token_type":     "Bearer",
		"expires_in":     int(lifetime.Seconds()),
		"ext_expires_in": int(lifetime.Seconds()),
		"access_token":   token,
	})
}

// checkTokenRequest returns nil if a token may be issued.
func (e *Emulator) checkTokenRequest(w http.ResponseWriter, r *http.Request, tenant string) *entraError {
	r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
	if err := r.ParseForm(); err != nil {
		return &entraError{"invalid_request", 900144, "The request body is not a form."}
	}
	form := r.PostForm
	if !e.isTenant(tenant) {
		return e.unknownTenant(tenant)
	}
	if grant := form.Get("grant_type"); grant == "" {
		return missingParameter("grant_type")
	} else if grant != "client_credentials" {
		return &entraError{"unsupported_grant_type", 70003, fmt.Sprintf("The app requested an unsupported grant type '%s'.", grant)}
	}
	id, secret, basic := basicCredentials(r)
	if basic && (form.Has("client_secret") || form.Has("client_assertion")) {
		return &entraError{"invalid_request", 90023, "Only one way of client authentication may be used in a request."}
	}
	if !basic {
		id, secret = form.Get("client_id"), form.Get("client_secret")
	}
	if id == "" {
		return missingParameter("client_id")
	}
	if !strings.EqualFold(id, e.settings.ClientID) {
		return &entraError{"unauthorized_client", 700016, fmt.Sprintf("Application with identifier '%s' was not found in the "+
			"directory '%s'. This can happen if the application has not been installed by the administrator of the tenant or "+
			"consented to by any user in the tenant.", id, e.settings.TenantID)}
	}
	if apiErr := e.authenticate(r, form, secret); apiErr != nil {
		return apiErr
	}
	return e.checkScope(r, form.Get("scope"))
}

func (e *Emulator) authenticate(r *http.Request, form url.Values, secret string) *entraError {
	switch {
	case form.Has("client_assertion"):
		return e.checkAssertion(r, form.Get("client_assertion_type"), form.Get("client_assertion"))
	case secret == "":
		return &entraError{"invalid_client", 7000216, "'client_assertion', 'client_secret' or 'request' is required for the " +
			"'client_credentials' grant type."}
	case !e.credentials.hasSecret(secret):
		return &entraError{"invalid_client", 7000215, fmt.Sprintf("Invalid client secret provided. Ensure the secret being sent "+
			"in the request is the client secret value, not the client secret ID, for a secret added to app '%s'.", e.settings.ClientID)}
	case !time.Now().Before(e.secretEnd()):
		return &entraError{"invalid_client", 7000222, fmt.Sprintf("The provided client secret keys for app '%s' are expired. Visit the "+
			"Azure portal to create new keys for your app: https://aka.ms/NewClientSecret.", e.settings.ClientID)}
	default:
		return nil
	}
}

// basicCredentials reads HTTP Basic with both halves form-encoded: https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1
func basicCredentials(r *http.Request) (id, secret string, ok bool) {
	id, secret, ok = r.BasicAuth()
	if !ok {
		return "", "", false
	}
	id, errID := url.QueryUnescape(id)
	secret, errSecret := url.QueryUnescape(secret)
	if errID != nil || errSecret != nil {
		return "", "", true
	}
	return id, secret, true
}

func (e *Emulator) checkScope(r *http.Request, scope string) *entraError {
	resource, ok := strings.CutSuffix(scope, "/.default")
	switch {
	case scope == "":
		return missingParameter("scope")
	case !ok:
		return &entraError{"invalid_scope", 1002012, fmt.Sprintf("The provided value for scope %s is not valid. Client credential "+
			"flows must have a scope value with /.default suffixed to the resource identifier (application ID URI).", scope)}
	case resource != e.baseURL(r):
		return &entraError{"invalid_resource", 500011, fmt.Sprintf("The resource principal named %s was not found in the tenant "+
			"named %s. This can happen if the application has not been installed by the administrator of the tenant.",
			resource, e.settings.TenantID)}
	default:
		return nil
	}
}

func missingParameter(parameter string) *entraError {
	return &entraError{"invalid_request", 900144, fmt.Sprintf("The request body must contain the following parameter: '%s'.", parameter)}
}

// accessTokens holds the roles of new access tokens and the generation that is still valid. Only the emulated Graph verifies access
// tokens, so they are signed with a key of their own, which is never rotated.
type accessTokens struct {
	key []byte

	mu         sync.Mutex // guards what follows
	roles      []string
	generation int
}

func (a *accessTokens) current() (roles []string, generation int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.roles, a.generation
}

// SetRoles replaces the permissions of the application. As with Entra ID, only tokens issued from now on carry them;
// see RevokeTokens.
func (e *Emulator) SetRoles(roles ...string) {
	e.access.mu.Lock()
	defer e.access.mu.Unlock()
	e.access.roles = append([]string{}, roles...)
}

// RevokeTokens invalidates every access token issued so far.
func (e *Emulator) RevokeTokens() {
	e.access.mu.Lock()
	defer e.access.mu.Unlock()
	e.access.generation++
}

const claimGeneration = "xms_generation"

func accessClaims(s Settings, audience string, roles []string, generation int, now time.Time) jwt.MapClaims {
	return jwt.MapClaims{
		"aud":           audience,
		"iss":           s.IssuerV1,
		"iat":           now.Unix(),
		"nbf":           now.Unix(),
		"exp":           now.Add(s.AccessTokenLifetime).Unix(),
		"appid":         s.ClientID,
		"tid":           s.TenantID,
		"roles":         roles,
		"ver":           "1.0",
		"uti":           newGUID(),
		claimGeneration: generation,
	}
}

// errUnknownCertificate means that the assertion names no registered certificate.
var errUnknownCertificate = errors.New("the certificate with identifier used to sign the client assertion is not registered on application")

// checkAssertion accepts the federated assertion of the settings, or a JWT signed by a registered certificate:
// https://learn.microsoft.com/entra/identity-platform/certificate-credentials
func (e *Emulator) checkAssertion(r *http.Request, kind, assertion string) *entraError {
	if kind != assertionType {
		return &entraError{"invalid_request", 900144, "The request body must contain the following parameter: 'client_assertion_type'."}
	}
	if e.credentials.hasAssertion(assertion) {
		return nil
	}
	if len(e.credentials.registered()) == 0 {
		return &entraError{"invalid_client", 700213, "No matching federated identity record found for presented assertion subject."}
	}
	_, err := jwt.Parse(assertion, e.assertionKey,
		jwt.WithValidMethods([]string{"RS256", "PS256"}),
		jwt.WithIssuer(e.settings.ClientID),
		jwt.WithSubject(e.settings.ClientID),
		jwt.WithAudience(e.baseURL(r)+"/"+e.settings.TenantID+"/oauth2/v2.0/token"),
		jwt.WithExpirationRequired(),
	)
	return assertionError(err)
}

// assertionKey finds the registered certificate by the x5t#S256 header.
func (e *Emulator) assertionKey(token *jwt.Token) (any, error) {
	named, _ := token.Header["x5t#S256"].(string)
	for _, certificate := range e.credentials.registered() {
		if named == thumbprintSHA256(certificate) {
			return certificate.PublicKey, nil
		}
	}
	return nil, errUnknownCertificate
}

func thumbprintSHA256(certificate *x509.Certificate) string {
	sum := sha256.Sum256(certificate.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func assertionError(err error) *entraError {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errUnknownCertificate):
		return &entraError{"invalid_client", 700027, "The certificate with identifier used to sign the client assertion is not registered on application."}
	case errors.Is(err, jwt.ErrTokenMalformed):
		return &entraError{"invalid_client", 50027, "JWT token is invalid or malformed."}
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return &entraError{"invalid_client", 700027, "Client assertion failed signature validation."}
	case errors.Is(err, jwt.ErrTokenExpired), errors.Is(err, jwt.ErrTokenNotValidYet):
		return &entraError{"invalid_client", 700024, "Client assertion is not within its valid time range."}
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return &entraError{"invalid_client", 700023, "Client assertion audience claim does not match Realm issuer."}
	case errors.Is(err, jwt.ErrTokenInvalidIssuer), errors.Is(err, jwt.ErrTokenInvalidSubject):
		return &entraError{"invalid_client", 700021, "Client assertion application identifier doesn't match 'client_id' parameter."}
	default:
		return &entraError{"invalid_client", 50027, fmt.Sprintf("JWT token is invalid: %v.", err)}
	}
}
