// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// failing is an error with a failure.
type failing interface {
	error
	Failure() failure.Failure
}

func entraError(number string) failing {
	return &graph.TokenError{Status: 401, Code: "AADSTS" + number}
}

func graphError(status int, code, message string) failing {
	return &graph.Error{Operation: "create subscription", Status: status, Code: code, Message: message}
}

func pagedError(operation string, status int, message string) failing {
	return &graph.Error{Operation: operation, Status: status, Code: "Code", Message: message}
}

func TestFailure_ForEachError(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  failing
		want failure.Code
		// key is in the hint.
		key string
	}{
		"wrong secret":                         {entraError("7000215"), failure.ClientSecretWrong, "value (not its id)"},
		"expired secret":                       {entraError("7000222"), failure.ClientSecretExpired, "auth.client_secret_file"},
		"no credential":                        {entraError("7000218"), failure.CredentialMissing, "auth.auth_style"},
		"wrong client id":                      {entraError("700016"), failure.ApplicationUnknown, "auth.client_id"},
		"unauthorized client":                  {&graph.TokenError{Status: 400, Code: "unauthorized_client"}, failure.ApplicationUnknown, "cloud"},
		"disabled application":                 {entraError("7000112"), failure.ApplicationDisabled, "auth.client_id"},
		"no service principal":                 {entraError("7000229"), failure.ApplicationDisabled, "consent"},
		"no such tenant":                       {entraError("90002"), failure.ApplicationUnknown, "tenant_id"},
		"tenant of another cloud":              {entraError("90038"), failure.ApplicationUnknown, "cloud"},
		"certificate not registered":           {entraError("700027"), failure.CertificateNotRegistered, "auth.client_certificate"},
		"certificate of another subject":       {entraError("700030"), failure.CertificateNotRegistered, "cert_file"},
		"assertion for another endpoint":       {entraError("700023"), failure.AssertionAudience, "auth.token_url"},
		"assertion outside its validity":       {entraError("700024"), failure.AssertionExpired, "clock"},
		"federation: client id":                {entraError("700021"), failure.FederationMismatch, "auth.federated_token_file"},
		"federation: issuer":                   {entraError("700211"), failure.FederationMismatch, "issuer"},
		"federation: audience":                 {entraError("700212"), failure.FederationMismatch, "audience"},
		"federation: subject":                  {entraError("700213"), failure.FederationMismatch, "subject"},
		"federation: subject or expression":    {entraError("7002131"), failure.FederationMismatch, "subject"},
		"federation: nothing matches":          {entraError("70021"), failure.FederationMismatch, "subject"},
		"conditional access":                   {entraError("53003"), failure.ConditionalAccess, "auth.client_id"},
		"wrong scope":                          {entraError("70011"), failure.ScopeWrong, "auth.scope"},
		"scope that is no default":             {entraError("1002012"), failure.ScopeWrong, "auth.scope"},
		"scope of an unknown resource":         {entraError("500011"), failure.ScopeWrong, "auth.scope"},
		"scope, without a number":              {&graph.TokenError{Status: 400, Code: "invalid_scope"}, failure.ScopeWrong, "auth.scope"},
		"refusal without a number":             {&graph.TokenError{Status: 401, Code: "invalid_client"}, failure.TokenRequestRefused, "auth.client_id"},
		"unknown number of Entra ID":           {entraError("1"), failure.TokenRequestRefused, "https://login.microsoftonline.com/error"},
		"throttled token endpoint":             {&graph.TokenError{Status: 429}, failure.Unavailable, "tries again"},
		"token endpoint that redirects":        {&graph.TokenError{Status: 302}, failure.Redirected, "auth.token_url"},
		"proxy in place of the endpoint":       {&graph.TokenError{Status: 407}, failure.ProxyLoginMissing, "auth.authority"},
		"proxy in place of Graph":              {graphError(407, "", ""), failure.ProxyLoginMissing, "HTTPS_PROXY"},
		"refused token":                        {graphError(401, "InvalidAuthenticationToken", "Access token validation failure."), failure.ScopeWrong, "auth.scope"},
		"payment required":                     {graphError(402, "", ""), failure.PermissionMissing, "billing"},
		"missing permission":                   {graphError(403, "Forbidden", "Caller does not have access to the resource"), failure.PermissionMissing, "AiEnterpriseInteraction.Read.All of Microsoft Graph, with admin consent"},
		"missing role":                         {graphError(403, "ExtensionError", "Missing role permissions on the request."), failure.PermissionMissing, "auth.client_id"},
		"over quota":                           {graphError(403, "Forbidden", "Subscription Limit of '1' reached for the app and tenant"), failure.SubscriptionConflict, "replace_foreign: true"},
		"over quota, with a mention of access": {graphError(403, "Forbidden", "The app exceeded its quota and does not have access"), failure.SubscriptionConflict, "app registration of its own"},
		"no license":                           {graphError(403, "Forbidden", "User '1' does not have a valid Copilot license."), failure.LicenseMissing, "subscription.users"},
		"403 without a message":                {graphError(403, "UnknownError", ""), failure.PermissionMissing, "no other collector uses this app registration"},
		"notification URL not reached":         {graphError(400, "InvalidRequest", "Subscription validation request failed. Notification endpoint must respond with 200 OK to validation request."), failure.NotificationURLUnreachable, "POST"},
		"notification URL too slow":            {graphError(400, "ValidationError", "Subscription validation request timed out."), failure.NotificationURLUnreachable, "public CA"},
		"validation error of another text":     {graphError(400, "ValidationError", "The remote name could not be resolved"), failure.NotificationURLUnreachable, "subscription.notification_url"},
		"notification URL not accepted":        {graphError(400, "InvalidRequest", "NotificationUrl must be https"), failure.NotificationURLUnreachable, "DNS"},
		"expiration too far":                   {graphError(400, "ExtensionError", "Subscription expiration can only be 4320 minutes in the future."), failure.LifetimeTooLong, "subscription.lifetime"},
		"certificate not accepted":             {graphError(400, "BadRequest", "The encryptionCertificate is invalid"), failure.EncryptionCertificateRefused, "encryption.certificates"},
		"resource not in this cloud":           {graphError(404, "NotFound", "Requested API is not supported. Please check the path."), failure.NotOffered, "cloud and graph.endpoint"},
		"user not known":                       {graphError(400, "BadRequest", "Invalid user id"), failure.UserUnknown, "subscription.users"},
		"bad request without a message":        {graphError(400, "BadRequest", ""), failure.RequestRefused, "Graph's message"},
		"exists":                               {graphError(409, "Conflict", "Subscription Id <1> already exists for the requested combination"), failure.SubscriptionConflict, "adopts"},
		"throttled":                            {graphError(429, "TooManyRequests", ""), failure.Unavailable, "nothing to do"},
		"unavailable":                          {graphError(503, "ServiceUnavailable", ""), failure.Unavailable, "nothing to do"},
		"failing":                              {graphError(500, "InternalServerError", ""), failure.Unavailable, "request-id"},
		"redirected":                           {graphError(302, "", "a redirect"), failure.Redirected, "graph.endpoint"},
		"an unexpected status":                 {graphError(418, "", ""), failure.RequestRefused, "request-id"},
		"history without permission":           {pagedError("read history", 403, ""), failure.PermissionMissing, "AiEnterpriseInteraction.Read.All"},
		"history of an unknown user":           {pagedError("read history", 404, ""), failure.UserUnknown, "history.users"},
		"history in a cloud without Copilot":   {pagedError("read history", 404, "Requested API is not supported"), failure.NotOffered, "history.enabled: false"},
		"history with a bad request":           {pagedError("read history", 400, ""), failure.RequestRefused, "request-id"},
		"history of a user without a license":  {pagedError("read history", 403, "valid Copilot license"), failure.LicenseMissing, "history.users"},
		"history, with a code about licenses":  {&graph.Error{Operation: "read history", Status: 403, Code: "LicenseRequired"}, failure.PermissionMissing, "consent"},
		"history throttled":                    {pagedError("read history", 429, ""), failure.Unavailable, "Microsoft throttles the receiver"},
		"users without permission":             {pagedError("list users", 403, "Insufficient privileges to complete the operation."), failure.UsersPermissionMissing, "User.Read.All"},
		"users with an unsupported query":      {pagedError("list users", 400, ""), failure.UsersNotListed, "history.users"},
		"users with a failure of Graph":        {pagedError("list users", 500, ""), failure.Unavailable, "tries again"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := failure.Of(fmt.Errorf("create subscription: %w", errors.Join(errors.New("beside"), test.err)))
			assert.Equal(t, test.want, got.Code)
			assert.Contains(t, got.Hint, test.key)
			assert.NotContains(t, got.Hint, "%")
		})
	}
}

// Failures of the network are told apart by their type, and name the setting of the address.
func TestFailure_OfNetwork(t *testing.T) {
	t.Parallel()
	dial := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	for name, test := range map[string]struct {
		err  error
		want failure.Code
	}{
		"no such name":       {&net.DNSError{Err: "no such host"}, failure.NameNotResolved},
		"refused connection": {dial, failure.Unreachable},
		"timeout":            {context.DeadlineExceeded, failure.Unreachable},
		"unknown failure":    {io.ErrUnexpectedEOF, failure.Unreachable},
		"unreachable proxy":  {&net.OpError{Op: "proxyconnect", Err: dial}, failure.ProxyUnreachable},
		"unknown authority":  {&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, failure.CertificateNotTrusted},
		"no TLS at all":      {tls.RecordHeaderError{}, failure.NotTLS},
		"plain HTTP":         {http.ErrSchemeMismatch, failure.NotTLS},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			down := roundTripFunc(func(*http.Request) (*http.Response, error) { return nil, test.err }).client()
			token := newTokens(graph.CredentialSettings{TokenURL: "https://login.example.com/token", Secret: "hush", HTTP: down})
			for key, settings := range map[string]graph.Settings{
				"graph.endpoint":                   {HTTP: down},
				"auth.authority or auth.token_url": {Tokens: token},
			} {
				settings.Endpoint = "https://graph.example.com"
				_, err := newGraph(settings).ListSubscriptions(t.Context())
				require.ErrorIs(t, err, test.err)
				got := failure.Of(err)
				assert.Equal(t, test.want, got.Code)
				assert.NotContains(t, got.Hint, "%")
				if test.want != failure.ProxyUnreachable && test.want != failure.ProxyLoginMissing {
					assert.Contains(t, got.Hint, key)
				}
			}
		})
	}
}

// The errors without a response have the failure of what they lead to.
func TestFailure_OfSentinels(t *testing.T) {
	t.Parallel()
	for _, err := range []error{graph.ErrUnreadable, graph.ErrForeignHost, graph.ErrTooManyPages} {
		assert.Equal(t, failure.New(failure.UnexpectedResponse, "graph.endpoint"), failure.Of(fmt.Errorf("list: %w", err)), err)
	}
}

func TestHandshakeAnswer_ReturnsStatusNamedByGraph(t *testing.T) {
	t.Parallel()
	const failed = "Subscription validation request failed. "
	for name, test := range map[string]struct {
		err    error
		answer string
		failed bool
	}{
		"a server answers":     {graphError(400, "ValidationError", failed+"HTTP status code is 'NotFound'. Notification endpoint must respond with 200 OK to validation request."), "NotFound", true},
		"no server answers":    {graphError(400, "ValidationError", failed+"Notification endpoint must respond with 200 OK to validation request."), "", true},
		"a timeout":            {graphError(400, "InvalidRequest", "Subscription validation request timed out."), "", true},
		"another failure":      {graphError(403, "Forbidden", "HTTP status code is 'NotFound'."), "", false},
		"no response of Graph": {io.EOF, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer, failed := graph.HandshakeAnswer(fmt.Errorf("create: %w", test.err))
			assert.Equal(t, test.answer, answer)
			assert.Equal(t, test.failed, failed)
		})
	}
}

func TestCode_NamesFailure(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "AADSTS7000215", graph.Code(fmt.Errorf("list: %w", entraError("7000215"))))
	assert.Equal(t, "invalid_client", graph.Code(&graph.TokenError{Code: "invalid_client"}))
	assert.Equal(t, "Forbidden", graph.Code(fmt.Errorf("list: %w", graphError(403, "Forbidden", ""))))
	assert.Empty(t, graph.Code(&graph.TokenError{Err: io.EOF}))
	assert.Empty(t, graph.Code(io.EOF))
	assert.Empty(t, graph.Code(nil))
	assert.Equal(t, zap.String("microsoft_code", "Forbidden"), graph.CodeField(graphError(403, "Forbidden", "")))
	assert.Equal(t, zap.Skip(), graph.CodeField(io.EOF))
}

// The rows of the table of log lines must not contradict the hints for the same code.
func TestTroubleshooting_AgreesWithTokenFailures(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(filepath.Join("..", "..", "docs", "troubleshooting.md"))
	require.NoError(t, err)
	rows := map[string]string{}
	for line := range strings.Lines(string(content)) {
		if strings.HasPrefix(line, "|") {
			for _, code := range regexp.MustCompile(`AADSTS(\d+)`).FindAllStringSubmatch(line, -1) {
				rows[code[1]] = line
			}
		}
	}
	require.Contains(t, rows, "7000215")
	require.Contains(t, rows, "7000222")
	for number, row := range rows {
		hint := entraError(number).Failure().Hint
		assert.NotEqual(t, entraError("1").Failure().Hint, hint, "there is no hint for AADSTS%s", number)
		assert.Equal(t, strings.Contains(hint, "expired"), strings.Contains(row, "expired"), "AADSTS%s: %s", number, row)
	}
}
