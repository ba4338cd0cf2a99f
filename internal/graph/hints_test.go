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
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

func entraError(number string) error {
	return &graph.TokenError{Status: 401, Code: "invalid_client", AADSTS: "AADSTS" + number}
}

func graphError(status int, code, message string) error {
	return &graph.Error{Operation: "create subscription", Status: status, Code: code, Message: message}
}

func transportFailure(cause error) error { return &graph.TokenError{Err: cause} }

func TestHint_ForEachFailure(t *testing.T) {
	t.Parallel()
	dial := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	for name, test := range map[string]struct {
		err  error
		want string
	}{
		"wrong secret":                          {entraError("7000215"), "value (not its id)"},
		"expired secret":                        {entraError("7000222"), "has expired"},
		"no credential":                         {entraError("7000218"), "auth.auth_style"},
		"wrong client id":                       {entraError("700016"), "auth.client_id"},
		"disabled application":                  {entraError("7000112"), "Enable the enterprise application"},
		"no such tenant":                        {entraError("90002"), "tenant_id"},
		"certificate not registered":            {entraError("700027"), "Upload the certificate"},
		"assertion for another endpoint":        {entraError("700023"), "auth.token_url"},
		"assertion outside its validity":        {entraError("700024"), "clock"},
		"federation: client id":                 {entraError("700021"), "auth.federated_token_file"},
		"federation: issuer":                    {entraError("700211"), "issuer, subject and audience"},
		"federation: audience":                  {entraError("700212"), "issuer, subject and audience"},
		"federation: subject":                   {entraError("700213"), "issuer, subject and audience"},
		"conditional access":                    {entraError("53003"), "Conditional Access"},
		"wrong scope":                           {entraError("70011"), "auth.scope"},
		"no service principal":                  {entraError("7000229"), "Enable the enterprise application"},
		"tenant of another cloud":               {entraError("90038"), "tenant_id and cloud"},
		"certificate of another subject":        {entraError("700030"), "client_certificate's cert_file"},
		"federation: subject or expression":     {entraError("7002131"), "issuer, subject and audience"},
		"federation: nothing matches":           {entraError("70021"), "issuer, subject and audience"},
		"scope that is no default":              {entraError("1002012"), "auth.scope"},
		"scope of an unknown resource":          {entraError("500011"), "auth.scope"},
		"scope, without a number":               {&graph.TokenError{Status: 400, Code: "invalid_scope"}, "auth.scope"},
		"refusal without a number":              {&graph.TokenError{Status: 401, Code: "invalid_client"}, "does not accept them together"},
		"unauthorized client":                   {&graph.TokenError{Status: 400, Code: "unauthorized_client"}, "client credentials"},
		"unknown number of Entra ID":            {entraError("1"), "https://login.microsoftonline.com/error"},
		"throttled token endpoint":              {&graph.TokenError{Status: 429}, "Nothing to do"},
		"token endpoint that redirects":         {&graph.TokenError{Status: 302}, "redirect"},
		"token endpoint that is another server": {&graph.TokenError{Status: 200, Err: graph.ErrUnreadable}, "auth.authority"},
		"token endpoint that does not end":      {&graph.TokenError{Err: graph.ErrTooLarge}, "auth.authority"},
		"token endpoint without name":           {transportFailure(&net.DNSError{Err: "no such host"}), "auth.authority"},
		"token endpoint, unknown failure":       {transportFailure(io.ErrUnexpectedEOF), "auth.token_url"},
		"unreadable secret file":                {&graph.CredentialError{Setting: "auth.client_secret_file", Path: "/run/s", Err: io.EOF}, "Make the file /run/s readable"},
		"refused token":                         {graphError(401, "InvalidAuthenticationToken", "Access token validation failure."), "auth.scope"},
		"payment required":                      {graphError(402, "", ""), "billing"},
		"missing permission":                    {graphError(403, "Forbidden", "Caller does not have access to the resource"), "AiEnterpriseInteraction.Read.All of Microsoft Graph, with admin consent."},
		"missing role":                          {graphError(403, "ExtensionError", "Missing role permissions on the request."), "with admin consent."},
		"over quota":                            {graphError(403, "Forbidden", "Subscription Limit of '1' reached for the app and tenant"), "replace_foreign: true"},
		"over quota, with a mention of access":  {graphError(403, "Forbidden", "The app exceeded its quota and does not have access"), "app registration of its own"},
		"no license":                            {graphError(403, "Forbidden", "User '1' does not have a valid Copilot license."), "Assign Microsoft 365 Copilot licenses"},
		"403 without a message":                 {graphError(403, "UnknownError", ""), "no other collector uses this app registration"},
		"notification URL not reached":          {graphError(400, "InvalidRequest", "Subscription validation request failed. Notification endpoint must respond with 200 OK to validation request."), "POST"},
		"notification URL too slow":             {graphError(400, "ValidationError", "Subscription validation request timed out."), "public CA"},
		"validation error of another text":      {graphError(400, "ValidationError", "The remote name could not be resolved"), "notification_url reachable"},
		"notification URL not accepted":         {graphError(400, "InvalidRequest", "NotificationUrl must be https"), "notification_url reachable"},
		"no lifecycle URL":                      {graphError(400, "InvalidRequest", "lifecycleNotificationUrl is a required property for subscription creation on this resource when the expirationDateTime value is set to greater than 1 hour"), "an hour at most"},
		"expiration too far":                    {graphError(400, "ExtensionError", "Subscription expiration can only be 4320 minutes in the future."), "subscription.lifetime"},
		"certificate not accepted":              {graphError(400, "BadRequest", "The encryptionCertificate is invalid"), "RSA key"},
		"resource not in this cloud":            {graphError(404, "NotFound", "Requested API is not supported. Please check the path."), "cloud and graph.endpoint"},
		"user not known":                        {graphError(400, "BadRequest", "Invalid user id"), "subscription.users"},
		"bad request without a message":         {graphError(400, "BadRequest", ""), "Graph's message"},
		"no longer existing":                    {graphError(404, "ResourceNotFound", ""), "creates a new one"},
		"exists":                                {graphError(409, "Conflict", "Subscription Id <1> already exists for the requested combination"), "adopts"},
		"throttled":                             {graphError(429, "TooManyRequests", ""), "Nothing to do"},
		"unavailable":                           {graphError(503, "ServiceUnavailable", ""), "Nothing to do"},
		"failing":                               {graphError(500, "InternalServerError", ""), "request-id"},
		"redirected":                            {graphError(302, "", "a redirect"), "redirect"},
		"an unexpected status":                  {graphError(418, "", ""), "request-id"},
		"no name":                               {&net.DNSError{Err: "no such host", Name: "graph"}, "DNS"},
		"refused connection":                    {dial, "firewall"},
		"timeout":                               {context.DeadlineExceeded, "graph.timeout"},
		"timeout of the network":                {&net.OpError{Op: "read", Err: timeout{}}, "graph.timeout"},
		"proxy that wants a login":              {transportFailure(&graph.ProxyError{Proxy: "p:3128", Status: 407}), "proxy p:3128 its login"},
		"proxy that answers 401":                {&graph.ProxyError{Proxy: "p:3128", Status: 401}, "graph.proxy_url"},
		"proxy with rules":                      {transportFailure(&graph.ProxyError{Proxy: "p:3128", Status: 403}), "rules of the proxy p:3128"},
		"proxy without name":                    {transportFailure(&graph.ProxyError{Proxy: "p:3128", Err: &net.DNSError{Err: "no such host"}}), "address of the proxy p:3128"},
		"call canceled at the proxy":            {&graph.ProxyError{Proxy: "p:3128", Err: context.Canceled}, "shuts down"},
		"proxy in place of Graph":               {graphError(407, "", ""), "HTTPS_PROXY"},
		"proxy in place of the endpoint":        {&graph.TokenError{Status: 407}, "HTTPS_PROXY"},
		"unknown authority":                     {&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, "graph.tls.ca_file"},
		"no TLS at all":                         {tls.RecordHeaderError{}, "TLS endpoint"},
		"plain HTTP":                            {&url.Error{Op: "Get", Err: http.ErrSchemeMismatch}, "TLS endpoint"},
		"canceled":                              {context.Canceled, "shuts down"},
		"unreadable":                            {graph.ErrUnreadable, "proxy"},
		"a foreign link":                        {graph.ErrForeignHost, "gateway"},
		"an unknown failure of the transport":   {io.EOF, "keeps trying"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := graph.Hint(fmt.Errorf("create subscription: %w", errors.Join(errors.New("beside"), test.err)))
			assert.Contains(t, got, test.want)
			assert.True(t, strings.HasSuffix(got, "."), got)
			assert.NotContains(t, strings.TrimSuffix(got, "."), ". ", "one sentence")
		})
	}
	assert.Empty(t, graph.Hint(nil))
}

type timeout struct{}

func (timeout) Error() string   { return "slow" }
func (timeout) Timeout() bool   { return true }
func (timeout) Temporary() bool { return true }

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
	assert.Empty(t, graph.Code(transportFailure(io.EOF)))
	assert.Empty(t, graph.Code(io.EOF))
	assert.Empty(t, graph.Code(nil))
}

// The rows of README's table of failures must not contradict the hints for the same code.
func TestREADME_AgreesWithTokenHints(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
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
		hint := graph.Hint(entraError(number))
		assert.NotEqual(t, graph.Hint(entraError("1")), hint, "there is no hint for AADSTS%s", number)
		assert.Equal(t, strings.Contains(hint, "expired"), strings.Contains(row, "expired"), "AADSTS%s: %s", number, row)
	}
}
