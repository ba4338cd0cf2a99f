package graphtest

import (
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Publisher is the application id of Microsoft Graph Change Tracking, which validation tokens carry in azp or appid:
// https://learn.microsoft.com/graph/change-notifications-with-resource-data#validating-the-authenticity-of-notifications
const Publisher = "0bf30f3b-4a52-48df-9a82-234910c4a086"

// Token signs a validation token of the version in use with the current key, after mutate changed its claims; nil: an authentic
// one. A claim is taken out with delete.
func (e *Emulator) Token(mutate func(claims map[string]any)) string {
	claims := e.Claims()
	if mutate != nil {
		mutate(claims)
	}
	return e.keys.sign(claims)
}

// Claims returns those of an authentic validation token that begins now.
func (e *Emulator) Claims() map[string]any {
	e.keys.mu.Lock()
	version := e.keys.version
	e.keys.mu.Unlock()
	return e.settings.validationClaims(version, e.settings.ClientID, time.Now())
}

// SignWith makes a JWT with any method and key: another RSA key, HS256 with a public key, jwt.UnsafeAllowNoneSignatureType.
// An empty kid leaves the header out.
func SignWith(method jwt.SigningMethod, key any, kid string, claims map[string]any) (string, error) {
	token := jwt.NewWithClaims(method, jwt.MapClaims(claims))
	if kid != "" {
		token.Header["kid"] = kid
	}
	text, err := token.SignedString(key)
	if err != nil {
		return "", fmt.Errorf("sign a token with %s: %w", method.Alg(), err)
	}
	return text, nil
}

// SetValidationTokenVersion chooses version 1 or 2 for the tokens from now on.
func (e *Emulator) SetValidationTokenVersion(version int) {
	e.keys.mu.Lock()
	defer e.keys.mu.Unlock()
	e.keys.version = version
	clear(e.keys.tokens)
}

// CurrentKeyID returns the kid of the key that signs now.
func (e *Emulator) CurrentKeyID() string { return e.keys.current().id }

// token returns the validation token in use for the audience: the same one until a tenth of its lifetime is left.
func (k *keyRing) token(audience string, now time.Time) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := k.currentLocked()
	if held, ok := k.tokens[audience]; ok && held.expires.Sub(now) > k.settings.ValidationTokenLifetime/10 {
		return held.text
	}
	text, err := SignWith(jwt.SigningMethodRS256, key.key, key.id, k.settings.validationClaims(k.version, audience, now))
	if err != nil {
		panic(fmt.Sprintf("graphtest: %v", err))
	}
	k.tokens[audience] = validationToken{text: text, expires: now.Add(k.settings.ValidationTokenLifetime)}
	return text
}

func (s Settings) validationClaims(version int, audience string, now time.Time) map[string]any {
	claims := map[string]any{
		"aud": audience,
		"tid": s.TenantID,
		"iat": now.Unix(),
		"nbf": now.Unix(),
		"exp": now.Add(s.ValidationTokenLifetime).Unix(),
		"uti": newGUID(),
		"aio": newGUID(),
	}
	if version == 1 {
		claims["ver"], claims["iss"], claims["appid"], claims["appidacr"] = "1.0", s.IssuerV1, Publisher, "2"
		claims["idp"] = s.IssuerV1
	} else {
		claims["ver"], claims["iss"], claims["azp"], claims["azpacr"] = "2.0", s.IssuerV2, Publisher, "2"
		claims["oid"], claims["sub"] = s.servicePrincipalID(), s.servicePrincipalID()
	}
	return claims
}
