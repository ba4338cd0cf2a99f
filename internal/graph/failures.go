// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
)

// The configuration keys of the addresses that are called.
const (
	endpointKey  = "graph.endpoint"
	authorityKey = "auth.authority or auth.token_url"
)

// Code returns the code by which Microsoft names a failure: that of a *TokenError or *Error. It is "" if none was sent, as for
// failures of the network.
func Code(err error) string {
	if failed, ok := errors.AsType[*TokenError](err); ok {
		return failed.Code
	}
	if failed, ok := errors.AsType[*Error](err); ok {
		return failed.Code
	}
	return ""
}

// CodeField returns Code as a log field, none if it is "".
func CodeField(err error) zap.Field {
	code := Code(err)
	if code == "" {
		return zap.Skip()
	}
	return zap.String("microsoft_code", code)
}

// networkFailure returns the failure of a call that got no usable response; key is the configuration key of the address.
func networkFailure(err error, key string) failure.Failure {
	if known := failure.Of(err); known.Code != "" {
		return known
	}
	if failed, ok := errors.AsType[*net.OpError](err); ok && failed.Op == "proxyconnect" { // https://go.dev/issue/16997
		return failure.New(failure.ProxyUnreachable)
	}
	switch {
	case isType[*net.DNSError](err):
		return failure.New(failure.NameNotResolved, key)
	case isType[*tls.CertificateVerificationError](err):
		return failure.New(failure.CertificateNotTrusted, key)
	case isType[tls.RecordHeaderError](err), errors.Is(err, http.ErrSchemeMismatch):
		return failure.New(failure.NotTLS, key)
	default:
		return failure.New(failure.Unreachable, key)
	}
}

// ThroughProxy makes t name the proxy that refuses to connect (RFC 9110, section 9.3.6), and the failure. By itself it returns the
// text of the proxy's status line, which may contain anything. It returns t.
func ThroughProxy(t *http.Transport) *http.Transport {
	t.OnProxyConnectResponse = func(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
		code := failure.ProxyRefusing
		switch resp.StatusCode {
		case http.StatusOK:
			return nil
		case http.StatusProxyAuthRequired, http.StatusUnauthorized:
			code = failure.ProxyLoginMissing
		}
		// The host of the proxy, since its URL may hold credentials.
		err := fmt.Errorf("proxy %s refused to connect: %d %s", proxy.Host, resp.StatusCode, http.StatusText(resp.StatusCode))
		return failure.With(err, failure.New(code, proxy.Host))
	}
	return t
}

func isType[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// statusFailure returns the failure that a status means whoever sent it, the zero Failure if it depends on the sender.
func statusFailure(status int, key string) failure.Failure {
	switch {
	case status == http.StatusTooManyRequests, status >= 500 && status != http.StatusNotImplemented:
		return failure.New(failure.Unavailable)
	case status >= 300 && status < 400:
		return failure.New(failure.Redirected, key)
	case status == http.StatusProxyAuthRequired:
		return failure.New(failure.ProxyLoginMissing, "that answers in place of "+key)
	default:
		return failure.Failure{}
	}
}

// Failure classifies the error.
func (e *TokenError) Failure() failure.Failure {
	if e.Err != nil {
		return failure.Of(e.Err)
	}
	for code, names := range tokenFailures() {
		if slices.Contains(names, e.Code) {
			return failure.New(code)
		}
	}
	return cmp.Or(statusFailure(e.Status, authorityKey), failure.New(failure.TokenRequestRefused))
}

// tokenFailures classifies the codes of Entra ID: https://learn.microsoft.com/entra/identity-platform/reference-error-codes
// Microsoft warns that they may change.
func tokenFailures() map[failure.Code][]string {
	return map[failure.Code][]string{
		failure.ClientSecretWrong:        {"AADSTS7000215"},
		failure.ClientSecretExpired:      {"AADSTS7000222"},
		failure.CredentialMissing:        {"AADSTS7000218"},
		failure.ApplicationUnknown:       {"AADSTS700016", "AADSTS90002", "AADSTS90038", "unauthorized_client"},
		failure.ApplicationDisabled:      {"AADSTS7000112", "AADSTS7000229"},
		failure.AssertionExpired:         {"AADSTS700024"},
		failure.AssertionAudience:        {"AADSTS700023"},
		failure.CertificateNotRegistered: {"AADSTS700027", "AADSTS700030"},
		failure.FederationMismatch: {
			"AADSTS70021", "AADSTS700021", "AADSTS700211", "AADSTS700212", "AADSTS700213", "AADSTS7002131",
		},
		failure.ConditionalAccess: {"AADSTS53003"},
		failure.ScopeWrong:        {"AADSTS70011", "AADSTS500011", "AADSTS1002012", "invalid_scope"},
	}
}

// Failure classifies the error.
func (e *Error) Failure() failure.Failure {
	text := strings.ToLower(e.Code + " " + e.Message)
	for _, row := range graphFailures() {
		if (row.operation == "" || row.operation == e.Operation) && slices.Contains(row.statuses, e.Status) &&
			(len(row.words) == 0 || slices.ContainsFunc(row.words, func(word string) bool { return strings.Contains(text, word) })) {
			return failure.New(row.code)
		}
	}
	return cmp.Or(statusFailure(e.Status, endpointKey), failure.New(failure.RequestRefused))
}

// graphFailure is a row of the table of Graph's refusals.
type graphFailure struct {
	operation string   // "" is any
	statuses  []int    // one of them
	words     []string // lower case; one of them is in the code or the message, unless there are none
	code      failure.Code
}

// graphFailures is the table of Graph's refusals, the most specific ones first. Graph documents few of its codes and no texts,
// and sends 403 for licenses, quotas and permissions alike, so the rows look for words of the message. Those for a missing
// license are strict, since a user without one counts as read.
func graphFailures() []graphFailure {
	bad, denied, notFound := []int{400}, []int{402, 403}, []int{400, 404, 501}
	return []graphFailure{
		{opUsers, denied, nil, failure.UsersPermissionMissing},
		{opUser, denied, nil, failure.UsersPermissionMissing},
		{opUsers, notFound, nil, failure.UsersNotListed},
		{"", bad, []string{"validation request", "notification endpoint", "endpoint validation"}, failure.NotificationURLUnreachable},
		{"", []int{401}, nil, failure.ScopeWrong},
		{"", denied, []string{"copilot license", "service plan"}, failure.LicenseMissing},
		{"", denied, []string{"quota", "limit", "maximum", "exceed", "too many"}, failure.SubscriptionConflict},
		{"", denied, nil, failure.PermissionMissing},
		{"", []int{409}, nil, failure.SubscriptionConflict},
		{"", bad, []string{"in the future", "expiration"}, failure.LifetimeTooLong},
		{"", bad, []string{"certificate"}, failure.EncryptionCertificateRefused},
		{"", bad, []string{"notificationurl", "validationerror"}, failure.NotificationURLUnreachable},
		{"", notFound, []string{"not supported", "unsupported", "resource not found for the segment"}, failure.NotOffered},
		{opHistory, []int{404}, nil, failure.UserUnknown},
		{opUser, []int{404}, []string{"resourcenotfound"}, failure.UserUnknown},
		{"", bad, []string{"user id", "userid", "user not found"}, failure.UserUnknown},
	}
}

// Unlicensed reports whether an error of History means that this user has no history: no Copilot license (403), or unknown or
// without a mailbox (404). Such a user counts as read.
func Unlicensed(err error) bool { return isOneOf(err, failure.LicenseMissing, failure.UserUnknown) }

// UnknownUser reports whether an error of User means that the tenant does not have this user, or no longer.
func UnknownUser(err error) bool { return isOneOf(err, failure.UserUnknown) }

// Forbidden reports whether Graph refused (403, 402) for another reason than the user's license: a missing permission or consent.
func Forbidden(err error) bool {
	return isOneOf(err, failure.PermissionMissing, failure.UsersPermissionMissing)
}

// Unsupported reports whether this installation of Graph does not offer the call for any user: a cloud without Copilot, or a
// wrong graph.endpoint.
func Unsupported(err error) bool { return isOneOf(err, failure.NotOffered, failure.UsersNotListed) }

func isOneOf(err error, codes ...failure.Code) bool {
	return slices.Contains(codes, failure.Of(err).Code)
}

// HandshakeAnswer reports whether Graph refused a subscription because its validation request to the notification URL
// failed. The answer is the HTTP status that Graph received, as Graph spells it, such as NotFound; "" if it received none or
// does not name it. All of this is parsed from Graph's message, so it must be used for hints only.
func HandshakeAnswer(err error) (answer string, failed bool) {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Failure().Code != failure.NotificationURLUnreachable {
		return "", false
	}
	// "Subscription validation request failed. HTTP status code is 'NotFound'. Notification endpoint must respond ..."
	_, rest, _ := strings.Cut(e.Message, "HTTP status code is '")
	answer, _, _ = strings.Cut(rest, "'")
	return answer, true
}
