package graph

import (
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // the x5t header is a SHA-1 thumbprint by definition
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// assertionLife is the longest that Microsoft recommends for an assertion: it is used once, at once.
const assertionLife = 10 * time.Minute

// certificateAssertion signs a JWT that proves possession of the certificate's key, with the SHA-256 thumbprint that
// Microsoft documents and the SHA-1 one that it documented before. The files are read each time, so that a renewed certificate needs no restart.
// See https://learn.microsoft.com/entra/identity-platform/certificate-credentials
func certificateAssertion(s CredentialSettings, now time.Time) (string, error) {
	signed, err := signAssertion(s, now)
	if err != nil {
		return "", &CredentialError{Setting: "auth.client_certificate", Path: s.CertFile + " with " + s.KeyFile, Err: err}
	}
	return signed, nil
}

func signAssertion(s CredentialSettings, now time.Time) (string, error) {
	pair, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
	if err != nil {
		return "", err
	}
	key, ok := pair.PrivateKey.(*rsa.PrivateKey)
	if !ok {
		return "", errors.New("the key is not an RSA key, the only kind that Entra ID takes")
	}
	der := pair.Certificate[0]
	wide, narrow := sha256.Sum256(der), sha1.Sum(der) //nolint:gosec // a lookup key, not a protection
	options := (&jose.SignerOptions{}).WithType("JWT").
		WithHeader("x5t#S256", base64.RawURLEncoding.EncodeToString(wide[:])).
		WithHeader("x5t", base64.RawURLEncoding.EncodeToString(narrow[:]))
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.PS256, Key: key}, options)
	if err != nil {
		return "", fmt.Errorf("sign the client assertion: %w", err)
	}
	return jwt.Signed(signer).Claims(assertionClaims{
		Audience: s.TokenURL, Issuer: s.ClientID, Subject: s.ClientID, ID: newGUID(),
		IssuedAt: now.Unix(), NotBefore: now.Unix(), Expiry: now.Add(assertionLife).Unix(),
	}).Serialize()
}

// assertionClaims are the claims as Microsoft documents them: the audience is a string, where jwt.Claims writes a list.
type assertionClaims struct {
	Audience  string `json:"aud"`
	Issuer    string `json:"iss"`
	Subject   string `json:"sub"`
	ID        string `json:"jti"`
	IssuedAt  int64  `json:"iat"`
	NotBefore int64  `json:"nbf"`
	Expiry    int64  `json:"exp"`
}
