// SPDX-License-Identifier: Apache-2.0

package graphtest

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// publishedKeys is how many keys the JWKS holds at most: the current one and those before it.
const publishedKeys = 3

// signingKey is one signing key of the authority.
type signingKey struct {
	id  string
	key *rsa.PrivateKey
}

// keyRing holds the authority's keys and the validation tokens in use.
type keyRing struct {
	settings   Settings
	nullTokens atomic.Bool

	mu   sync.Mutex   // guards what follows
	keys []signingKey // newest first
	// tokens holds the token in use for each audience, which is reused until it nears its expiry
	tokens  map[string]validationToken
	version int
}

type validationToken struct {
	text    string
	expires time.Time
}

func newKeyRing(settings Settings) *keyRing {
	return &keyRing{settings: settings, version: settings.ValidationTokenVersion, tokens: map[string]validationToken{}}
}

// current returns the newest key; the first one is generated when it is needed.
func (k *keyRing) current() signingKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.currentLocked()
}

func (k *keyRing) currentLocked() signingKey {
	if len(k.keys) == 0 {
		k.keys = []signingKey{newSigningKey()}
	}
	return k.keys[0]
}

func newSigningKey() signingKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(fmt.Sprintf("graphtest: generate a signing key: %v", err))
	}
	return signingKey{id: strings.ReplaceAll(newGUID(), "-", ""), key: key}
}

// published returns the keys of the JWKS, newest first.
func (k *keyRing) published() []signingKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.currentLocked()
	return append([]signingKey(nil), k.keys...)
}

// RotateKeys makes a new signing key the current one and returns its id. The JWKS contains it immediately, with the two before it.
// Validation tokens in use are replaced by tokens signed with the new key.
func (e *Emulator) RotateKeys() string {
	fresh := newSigningKey()
	k := e.keys
	k.mu.Lock()
	defer k.mu.Unlock()
	k.currentLocked()
	k.keys = append([]signingKey{fresh}, k.keys...)
	k.keys = k.keys[:min(len(k.keys), publishedKeys)]
	clear(k.tokens)
	return fresh.id
}

// RetireKeys removes every key but the current one from the JWKS.
func (e *Emulator) RetireKeys() {
	e.keys.mu.Lock()
	defer e.keys.mu.Unlock()
	e.keys.keys = e.keys.keys[:min(1, len(e.keys.keys))]
}

// sign returns a JWT signed with the current key.
func (k *keyRing) sign(claims jwt.MapClaims) string {
	key := k.current()
	text, err := SignWith(jwt.SigningMethodRS256, key.key, key.id, claims)
	if err != nil {
		panic(fmt.Sprintf("graphtest: sign a token: %v", err))
	}
	return text
}

// serveMetadata answers OpenID Connect discovery. As with Entra ID, the metadata of common has an issuer with a
// literal {tenantid}: https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc
func (e *Emulator) serveMetadata(w http.ResponseWriter, r *http.Request, args []string) {
	tenant := args[0]
	if !e.knowsAuthority(tenant) {
		e.unknownTenant(tenant).write(w)
		return
	}
	issuer, keys := e.settings.IssuerV1, "/discovery/keys"
	if strings.Contains(strings.ToLower(r.URL.Path), "/v2.0/") {
		issuer, keys = e.settings.IssuerV2, "/discovery/v2.0/keys"
	}
	if !e.isTenant(tenant) {
		issuer = strings.ReplaceAll(issuer, e.settings.TenantID, "{tenantid}")
	}
	base := e.baseURL(r) + "/" + tenant
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer":                                issuer,
		"jwks_uri":                              base + keys,
		"token_endpoint":                        base + "/oauth2/v2.0/token",
		"authorization_endpoint":                base + "/oauth2/v2.0/authorize",
		"token_endpoint_auth_methods_supported": []string{"client_secret_post", "private_key_jwt", "client_secret_basic"},
		"response_types_supported":              []string{"code", "id_token", "code id_token", "id_token token"},
		"subject_types_supported":               []string{"pairwise"},
		"id_token_signing_alg_values_supported": []string{"RS256"},
	})
}

// serveKeys answers the JWKS: https://www.rfc-editor.org/rfc/rfc7517
func (e *Emulator) serveKeys(w http.ResponseWriter, _ *http.Request, args []string) {
	if !e.knowsAuthority(args[0]) {
		e.unknownTenant(args[0]).write(w)
		return
	}
	var keys []map[string]any
	for _, key := range e.keys.published() {
		keys = append(keys, map[string]any{
			"kty": "RSA",
			"use": "sig",
			"kid": key.id,
			"n":   base64.RawURLEncoding.EncodeToString(key.key.N.Bytes()),
			"e":   base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.key.E)).Bytes()),
		})
	}
	writeJSON(w, http.StatusOK, map[string]any{"keys": keys})
}

func (e *Emulator) isTenant(tenant string) bool {
	return strings.EqualFold(tenant, e.settings.TenantID)
}

// knowsAuthority reports whether metadata and keys are served under the name.
func (e *Emulator) knowsAuthority(name string) bool {
	return e.isTenant(name) || strings.EqualFold(name, "common") || strings.EqualFold(name, "organizations")
}

func (*Emulator) unknownTenant(tenant string) *entraError {
	return &entraError{"invalid_request", 90002, fmt.Sprintf("Tenant '%s' not found. Check to make sure you have the correct "+
		"tenant ID and are signing into the correct cloud. Check with your subscription administrator, this may happen if "+
		"there are no active subscriptions for the tenant.", tenant)}
}
