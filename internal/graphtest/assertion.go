package graphtest

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"

	"github.com/golang-jwt/jwt/v5"
)

// errUnknownCertificate: the assertion names no certificate that is registered.
var errUnknownCertificate = errors.New("the certificate with identifier used to sign the client assertion is not registered on application")

// checkAssertion accepts the federated assertion of the settings, or a JWT signed by a registered certificate:
// https://learn.microsoft.com/entra/identity-platform/certificate-credentials
func (e *Emulator) checkAssertion(r *http.Request, kind, assertion string) *entraError {
	if kind != assertionType {
		return &entraError{"invalid_request", 900144, "The request body must contain the following parameter: 'client_assertion_type'."}
	}
	federated := e.settings.FederatedAssertion
	if federated != "" && subtle.ConstantTimeCompare([]byte(federated), []byte(assertion)) == 1 {
		return nil
	}
	if len(e.settings.ClientCertificates) == 0 {
		return &entraError{"invalid_client", 700213, "No matching federated identity record found for presented assertion subject."}
	}
	_, err := jwt.Parse(assertion, e.assertionKey,
		jwt.WithValidMethods([]string{"RS256", "PS256"}),
		jwt.WithIssuer(e.settings.ClientID),
		jwt.WithSubject(e.settings.ClientID),
		jwt.WithAudience(e.base(r)+"/"+e.settings.TenantID+"/oauth2/v2.0/token"),
		jwt.WithExpirationRequired(),
	)
	return assertionRefused(err)
}

// assertionKey finds the certificate by x5t#S256.
func (e *Emulator) assertionKey(token *jwt.Token) (any, error) {
	named, _ := token.Header["x5t#S256"].(string)
	for _, certificate := range e.settings.ClientCertificates {
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

func assertionRefused(err error) *entraError {
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
