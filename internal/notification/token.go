// SPDX-License-Identifier: Apache-2.0

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

const (
	leeway        = 5 * time.Minute
	maxTokenBytes = 16 << 10
	// maxTokens is far above the one token that Graph sends for a single application and tenant.
	maxTokens         = 64
	maxVerifiedTokens = 1024
)

// KeySource provides the public keys of the authority.
type KeySource interface {
	// Key returns the key with the id that a token names. known is false with a nil error if there is certainly no such key;
	// an error means that this cannot be decided now.
	Key(ctx context.Context, kid string) (key *rsa.PublicKey, known bool, err error)
}

// Verifier checks validation tokens:
// https://learn.microsoft.com/graph/change-notifications-with-resource-data#validate-the-tokens
type Verifier struct {
	settings Settings
	// verified holds the claims of verified tokens by their SHA-256.
	verified *lru.Cache[[sha256.Size]byte, *claims]
}

// NewVerifier returns a Verifier that caches up to 1,024 verified tokens, so that a token costs one RSA operation. Of the
// settings it uses TenantID, ClientID, Audiences, Issuers and Keys.
func NewVerifier(settings Settings) *Verifier {
	if len(settings.Audiences) == 0 {
		settings.Audiences = []string{settings.ClientID}
	}
	verified, err := lru.New[[sha256.Size]byte, *claims](maxVerifiedTokens)
	if err != nil {
		panic(fmt.Sprintf("a cache of %d entries: %v", maxVerifiedTokens, err)) // only a size below 1 is an error
	}
	return &Verifier{settings: settings, verified: verified}
}

// verifyAll verifies the tokens of a collection, which is invalid if one of them is. Its error is that of Verify.
func (v *Verifier) verifyAll(ctx context.Context, tokens []string, now time.Time) error {
	if len(tokens) > maxTokens {
		return tokenErrorf(ReasonTokenCount, "%d of them, Graph sends one for each application and tenant", len(tokens))
	}
	for _, token := range tokens {
		if err := v.Verify(ctx, token, now); err != nil {
			return err
		}
	}
	return nil
}

// Verify returns nil for a genuine token and an *Error for any other. It returns another error, that of the KeySource or of the
// context, if this cannot be decided now.
func (v *Verifier) Verify(ctx context.Context, token string, now time.Time) error {
	if len(token) > maxTokenBytes {
		return tokenErrorf(ReasonTokenMalformed, "longer than %d bytes", maxTokenBytes)
	}
	sum := sha256.Sum256([]byte(token))
	if claims, known := v.verified.Get(sum); known {
		return claims.checkTime(now)
	}
	claims, err := v.verifySignature(ctx, token)
	if err != nil {
		return err
	}
	if err := v.checkClaims(claims); err != nil {
		return err
	}
	v.verified.Add(sum, claims)
	return claims.checkTime(now)
}

// claims are the claims that are checked.
type claims struct {
	jwt.Claims

	Version         string `json:"ver"`
	AppID           string `json:"appid"`
	AuthorizedParty string `json:"azp"`
	TenantID        string `json:"tid"`
}

// verifySignature returns the claims of a token whose signature is valid. It checks the algorithm first, so that only RS256
// tokens cause a key lookup or an RSA operation.
func (v *Verifier) verifySignature(ctx context.Context, token string) (*claims, error) {
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256})
	if other, ok := errors.AsType[*jose.ErrUnexpectedSignatureAlgorithm](err); ok {
		return nil, tokenErrorf(ReasonTokenAlgorithm, "signed with %.128q instead of RS256", other.Got)
	}
	if err != nil {
		return nil, tokenErrorf(ReasonTokenMalformed, "not a JWT in compact form")
	}
	kid := parsed.Headers[0].KeyID
	if kid == "" {
		return nil, tokenErrorf(ReasonTokenMalformed, "names no signing key")
	}
	public, known, err := v.settings.Keys.Key(ctx, kid)
	if err != nil {
		return nil, fmt.Errorf("look up the key of a validation token: %w", err)
	}
	if !known {
		return nil, tokenErrorf(ReasonTokenKey, "signed with a key that the authority does not have")
	}
	var verified claims
	if err := parsed.Claims(public, &verified); errors.Is(err, jose.ErrCryptoFailure) {
		return nil, tokenErrorf(ReasonTokenSignature, "the signature is wrong: the token is forged or was altered in transit")
	} else if err != nil {
		return nil, tokenErrorf(ReasonTokenMalformed, "a claim cannot be decoded")
	}
	return &verified, nil
}

// checkClaims checks everything that does not depend on the time. The library's own checks accept only one issuer and compare
// audiences case-sensitively.
func (v *Verifier) checkClaims(c *claims) error {
	if !slices.ContainsFunc(c.Audience, v.isAudience) {
		return tokenErrorf(ReasonTokenAudience, "its audience is %.128q, but auth.audiences has %s",
			strings.Join(c.Audience, ", "), strings.Join(v.settings.Audiences, ", "))
	}
	var sender string
	switch c.Version {
	case "1.0":
		sender = c.AppID
	case "2.0":
		sender = c.AuthorizedParty
	default:
		return tokenErrorf(ReasonTokenVersion, "version %.128q is neither 1.0 nor 2.0", c.Version)
	}
	if !strings.EqualFold(sender, publisher) {
		return tokenErrorf(ReasonTokenPublisher, "it was issued to %.128q and not to Microsoft Graph Change Tracking (%s)",
			sender, publisher)
	}
	if !slices.Contains(v.settings.Issuers, c.Issuer) {
		return tokenErrorf(ReasonTokenIssuer, "issued by %.128q, but auth.issuers has %s",
			c.Issuer, strings.Join(v.settings.Issuers, ", "))
	}
	if !strings.EqualFold(c.TenantID, v.settings.TenantID) {
		return tokenErrorf(ReasonTokenTenant, "its tenant is %.128q and not %s", c.TenantID, v.settings.TenantID)
	}
	if c.Expiry == nil {
		return tokenErrorf(ReasonTokenMalformed, "it has no expiry")
	}
	return nil
}

func (v *Verifier) isAudience(audience string) bool {
	return slices.ContainsFunc(v.settings.Audiences, func(a string) bool { return strings.EqualFold(a, audience) })
}

// checkTime tolerates a clock difference of 5 minutes.
func (c *claims) checkTime(now time.Time) error {
	expires, notBefore := c.Expiry.Time(), c.NotBefore.Time() // notBefore is zero if the token has none
	if !now.Before(expires.Add(leeway)) {
		return tokenErrorf(ReasonTokenExpired, "expired at %s, but the local time is %s",
			expires.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	if now.Before(notBefore.Add(-leeway)) {
		return tokenErrorf(ReasonTokenNotYetValid, "valid from %s, but the local time is %s",
			notBefore.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

func tokenErrorf(reason Reason, format string, args ...any) *Error {
	return errorf(reason, "validation token: "+format, args...)
}
