package notification

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	lru "github.com/hashicorp/golang-lru/v2"
)

// publisher is the application "Microsoft Graph Change Tracking", which sends every notification:
// https://learn.microsoft.com/graph/change-notifications-with-resource-data#validation-tokens-in-the-change-notification
const publisher = "0bf30f3b-4a52-48df-9a82-234910c4a086"

// ErrKeysUnavailable says that a token can be neither accepted nor refused now, because its key could not be obtained. A
// later call may succeed.
var ErrKeysUnavailable = errors.New("no key to verify a validation token with")

// KeySource provides the public keys of the authority.
type KeySource interface {
	// Key returns the key with the id that a token names. known is false with a nil error if there is certainly no such key;
	// an error means that this cannot be decided now.
	Key(ctx context.Context, kid string) (key *rsa.PublicKey, known bool, err error)
}

const (
	leeway        = 5 * time.Minute
	maxTokenBytes = 16 << 10
)

// TokenError says why a validation token was refused and what an operator can do. It does not contain the token.
type TokenError struct {
	Reason  Reason
	message string
}

func (e *TokenError) Error() string { return e.message }

func tokenErrorf(reason Reason, format string, args ...any) *TokenError {
	return &TokenError{Reason: reason, message: "validation token: " + fmt.Sprintf(format, args...)}
}

// Verifier checks validation tokens:
// https://learn.microsoft.com/graph/change-notifications-with-resource-data#validate-the-tokens
type Verifier struct {
	tenant    string
	audiences []string
	issuers   []string
	keys      KeySource
	verified  *verifiedTokens
}

// VerifierSettings say which tokens are accepted.
type VerifierSettings struct {
	TenantID string
	// Audiences holds the accepted application ids.
	Audiences []string
	// Issuers holds the accepted issuers of version 1.0 and 2.0 tokens, compared exactly.
	Issuers []string
	Keys    KeySource
}

// NewVerifier returns a Verifier that caches up to 1,024 verified tokens, so that a token costs one RSA operation.
func NewVerifier(settings VerifierSettings) *Verifier {
	return &Verifier{
		tenant:    settings.TenantID,
		audiences: settings.Audiences,
		issuers:   settings.Issuers,
		keys:      settings.Keys,
		verified:  newVerifiedTokens(),
	}
}

// Verify returns nil for a genuine token and a *TokenError for any other. It returns an error that wraps ErrKeysUnavailable
// or the context's error if this cannot be decided now.
func (v *Verifier) Verify(ctx context.Context, token string, now time.Time) error {
	if len(token) > maxTokenBytes {
		return tokenErrorf(ReasonTokenMalformed, "longer than %d bytes, Graph does not send such tokens", maxTokenBytes)
	}
	sum := sha256.Sum256([]byte(token))
	if valid, known := v.verified.Get(sum); known {
		return valid.check(now)
	}
	claims, err := v.verifySignature(ctx, token)
	if err != nil {
		return err
	}
	valid, err := v.checkClaims(claims)
	if err != nil {
		return err
	}
	v.verified.Add(sum, valid)
	return valid.check(now)
}

// verifySignature returns the claims of a token whose signature is valid. It checks the algorithm first, so that only RS256
// tokens cause a key lookup or an RSA operation.
func (v *Verifier) verifySignature(ctx context.Context, token string) (*claims, error) {
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256})
	if other, ok := errors.AsType[*jose.ErrUnexpectedSignatureAlgorithm](err); ok {
		return nil, tokenErrorf(ReasonTokenAlgorithm, "signed with %s instead of RS256, Graph does not send such tokens", quote(string(other.Got)))
	}
	if err != nil {
		return nil, tokenErrorf(ReasonTokenMalformed, "not a JWT in compact form, check the proxies between Graph and this receiver")
	}
	kid := parsed.Headers[0].KeyID
	if kid == "" {
		return nil, tokenErrorf(ReasonTokenMalformed, "names no signing key, Graph does not send such tokens")
	}
	public, known, err := v.keys.Key(ctx, kid)
	switch {
	case err != nil && errors.Is(err, ctx.Err()):
		return nil, fmt.Errorf("verify a validation token: %w", err)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrKeysUnavailable, err)
	case !known:
		return nil, tokenErrorf(ReasonTokenKey, "signed with a key that the authority does not have: check auth.authority and cloud")
	}
	var verified claims
	if err := parsed.Claims(public, &verified); errors.Is(err, jose.ErrCryptoFailure) {
		return nil, tokenErrorf(ReasonTokenSignature, "the signature is wrong: the token is forged or was altered in transit")
	} else if err != nil {
		return nil, tokenErrorf(ReasonTokenMalformed, "a claim cannot be decoded, Graph does not send such tokens")
	}
	return &verified, nil
}

// claims are the claims that checkClaims uses.
type claims struct {
	Issuer          string           `json:"iss"`
	Audience        jwt.Audience     `json:"aud"`
	Expires         *jwt.NumericDate `json:"exp"`
	NotBefore       *jwt.NumericDate `json:"nbf"`
	Version         string           `json:"ver"`
	AppID           string           `json:"appid"`
	AuthorizedParty string           `json:"azp"`
	TenantID        string           `json:"tid"`
}

// checkClaims checks everything that does not depend on the time.
func (v *Verifier) checkClaims(c *claims) (validity, error) {
	if !slices.ContainsFunc(c.Audience, v.isAudience) {
		return validity{}, tokenErrorf(ReasonTokenAudience, "its audience is %s, but auth.audiences has %s: add it if it is yours",
			quote(strings.Join(c.Audience, ", ")), strings.Join(v.audiences, ", "))
	}
	var sender string
	switch c.Version {
	case "1.0":
		sender = c.AppID
	case "2.0":
		sender = c.AuthorizedParty
	default:
		return validity{}, tokenErrorf(ReasonTokenVersion, "version %s is neither 1.0 nor 2.0: update this receiver", quote(c.Version))
	}
	if !strings.EqualFold(sender, publisher) {
		return validity{}, tokenErrorf(ReasonTokenPublisher, "it was issued to %s and not to Microsoft Graph Change Tracking (%s), "+
			"so another application sent it and knows the client state: replace the encryption key", quote(sender), publisher)
	}
	if !slices.Contains(v.issuers, c.Issuer) {
		return validity{}, tokenErrorf(ReasonTokenIssuer, "issued by %s, but auth.issuers has %s: check tenant_id and cloud, or add it",
			quote(c.Issuer), strings.Join(v.issuers, ", "))
	}
	if !strings.EqualFold(c.TenantID, v.tenant) {
		return validity{}, tokenErrorf(ReasonTokenTenant, "its tenant is %s and not %s: check tenant_id", quote(c.TenantID), v.tenant)
	}
	if c.Expires == nil {
		return validity{}, tokenErrorf(ReasonTokenMalformed, "it has no expiry, Graph does not send such tokens")
	}
	valid := validity{expires: c.Expires.Time()}
	if c.NotBefore != nil {
		valid.notBefore = c.NotBefore.Time()
	}
	return valid, nil
}

func (v *Verifier) isAudience(audience string) bool {
	return slices.ContainsFunc(v.audiences, func(a string) bool { return strings.EqualFold(a, audience) })
}

// check tolerates a clock difference of 5 minutes.
func (v validity) check(now time.Time) error {
	if !now.Before(v.expires.Add(leeway)) {
		return tokenErrorf(ReasonTokenExpired, "expired at %s, but the local time is %s: check the clock of this machine",
			v.expires.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	if now.Before(v.notBefore.Add(-leeway)) {
		return tokenErrorf(ReasonTokenNotYetValid, "valid from %s, but the local time is %s: check the clock of this machine",
			v.notBefore.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// quote quotes a string from outside and truncates it, so that it cannot fill the log.
func quote(s string) string {
	const maxLength = 128
	if len(s) > maxLength {
		return fmt.Sprintf("%q...", s[:maxLength])
	}
	return fmt.Sprintf("%q", s)
}

const maxVerifiedTokens = 1024

// validity is the period in which a token is valid.
type validity struct {
	notBefore time.Time // zero if the token has none
	expires   time.Time
}

// verifiedTokens holds the validity of verified tokens by their SHA-256. It evicts the least recently used token.
type verifiedTokens = lru.Cache[[sha256.Size]byte, validity]

func newVerifiedTokens() *verifiedTokens {
	cache, err := lru.New[[sha256.Size]byte, validity](maxVerifiedTokens)
	if err != nil {
		panic(fmt.Sprintf("a cache of %d entries: %v", maxVerifiedTokens, err)) // only a size below 1 is an error
	}
	return cache
}
