package graphtest

import (
	"crypto/subtle"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const maxFormBytes = 1 << 20

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// serveToken answers the client credentials flow:
// https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow
func (e *Emulator) serveToken(w http.ResponseWriter, r *http.Request, args []string) {
	w.Header().Set("Cache-Control", "no-store, no-cache")
	refused := e.grant(w, r, args[0])
	if refused != nil {
		refused.write(w)
		return
	}
	lifetime := e.settings.AccessTokenLifetime
	roles, generation := e.access.now()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, accessClaims(e.settings, e.base(r), roles, generation, time.Now())).
		SignedString(e.access.key)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	e.records.update(func(s *Stats) { s.TokensIssued++ })
	writeJSON(w, http.StatusOK, map[string]any{
		"token_type":     "Bearer",
		"expires_in":     int(lifetime.Seconds()),
		"ext_expires_in": int(lifetime.Seconds()),
		"access_token":   token,
	})
}

// grant returns nil when a token may be issued.
func (e *Emulator) grant(w http.ResponseWriter, r *http.Request, tenant string) *entraError {
	r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
	if err := r.ParseForm(); err != nil {
		return &entraError{"invalid_request", 900144, "The request body is not a form."}
	}
	form := r.PostForm
	if !e.isTenant(tenant) {
		return e.unknownTenant(tenant)
	}
	if grant := form.Get("grant_type"); grant == "" {
		return missing("grant_type")
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
		return missing("client_id")
	}
	if !strings.EqualFold(id, e.settings.ClientID) {
		return &entraError{"unauthorized_client", 700016, fmt.Sprintf("Application with identifier '%s' was not found in the "+
			"directory '%s'. This can happen if the application has not been installed by the administrator of the tenant or "+
			"consented to by any user in the tenant.", id, e.settings.TenantID)}
	}
	if refused := e.authenticate(r, form, secret); refused != nil {
		return refused
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
	case e.settings.ClientSecret == "" || subtle.ConstantTimeCompare([]byte(secret), []byte(e.settings.ClientSecret)) != 1:
		return &entraError{"invalid_client", 7000215, fmt.Sprintf("Invalid client secret provided. Ensure the secret being sent "+
			"in the request is the client secret value, not the client secret ID, for a secret added to app '%s'.", e.settings.ClientID)}
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
		return missing("scope")
	case !ok:
		return &entraError{"invalid_scope", 1002012, fmt.Sprintf("The provided value for scope %s is not valid. Client credential "+
			"flows must have a scope value with /.default suffixed to the resource identifier (application ID URI).", scope)}
	case resource != e.base(r):
		return &entraError{"invalid_resource", 500011, fmt.Sprintf("The resource principal named %s was not found in the tenant "+
			"named %s. This can happen if the application has not been installed by the administrator of the tenant.",
			resource, e.settings.TenantID)}
	default:
		return nil
	}
}

func missing(parameter string) *entraError {
	return &entraError{"invalid_request", 900144, fmt.Sprintf("The request body must contain the following parameter: '%s'.", parameter)}
}

// accessTokens says what newly issued tokens hold and which old ones still count. Access tokens are for Graph alone,
// opaque to their holder, so they have a key of their own and outlive every rotation of the published ones.
type accessTokens struct {
	key []byte

	mu         sync.Mutex // guards what follows
	roles      []string
	generation int
}

func (a *accessTokens) now() (roles []string, generation int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.roles, a.generation
}

// SetRoles changes the permissions of the application. As with Entra ID, only tokens issued from now on have them;
// see RevokeTokens.
func (e *Emulator) SetRoles(roles ...string) {
	e.access.mu.Lock()
	defer e.access.mu.Unlock()
	e.access.roles = append([]string{}, roles...)
}

// RevokeTokens makes every access token issued so far invalid.
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
