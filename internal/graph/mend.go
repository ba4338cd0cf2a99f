package graph

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
)

// Hint returns one sentence that tells the operator what to do about an error of this package, "" for nil.
func Hint(err error) string {
	if err == nil {
		return ""
	}
	if failed, ok := errors.AsType[*CredentialError](err); ok {
		return "Make " + failed.Path + " a file that the collector can read and that holds what " + failed.Setting +
			" asks for; it is read again at the next attempt, no restart is needed."
	}
	if failed, ok := errors.AsType[*TokenError](err); ok {
		return tokenHint(failed)
	}
	if failed, ok := errors.AsType[*Error](err); ok {
		if sentence := readingHint(failed); sentence != "" {
			return sentence
		}
		return lookUpHint(failureInfo{byGraph, failed.Status, failed.Code, failed.Message})
	}
	if sentence := transportHint(err, "graph.endpoint"); sentence != "" {
		return sentence
	}
	return "Look at the error itself, check graph.endpoint and the network between the collector and Microsoft Graph; " +
		"the receiver keeps trying."
}

// Code returns the short name of a failure for logs and for telling failures apart: AADSTS7000215, else OAuth's error, or
// Graph's code; "" where no remote host named one, as for failures of the transport.
func Code(err error) string {
	if failed, ok := errors.AsType[*TokenError](err); ok {
		if failed.AADSTS != "" {
			return failed.AADSTS
		}
		return failed.Code
	}
	if failed, ok := errors.AsType[*Error](err); ok {
		return failed.Code
	}
	return ""
}

// HandshakeAnswer tells whether Graph refused a subscription because its validation request to the notification URL
// failed. The answer is the HTTP status that it got there, in its words, such as NotFound; "" where it got none or does
// not say. Graph says all of this in words only, so nothing but advice may hang on it.
func HandshakeAnswer(err error) (answer string, failed bool) {
	e, ok := errors.AsType[*Error](err)
	if !ok || lookUpHint(failureInfo{byGraph, e.Status, e.Code, e.Message}) != checkReachable {
		return "", false
	}
	// "Subscription validation request failed. HTTP status code is 'NotFound'. Notification endpoint must respond ..."
	_, rest, _ := strings.Cut(e.Message, "HTTP status code is '")
	answer, _, _ = strings.Cut(rest, "'")
	return answer, true
}

func tokenHint(failed *TokenError) string {
	if failed.Err != nil {
		if sentence := transportHint(failed.Err, "auth.authority or auth.token_url"); sentence != "" {
			return sentence
		}
	}
	code := failed.AADSTS
	if code == "" {
		code = failed.Code
	}
	return lookUpHint(failureInfo{byTokenEndpoint, failed.Status, code, failed.Description})
}

// transportHint reads failures of the network and of what stands in it; key names the configuration of the address.
func transportHint(err error, key string) string {
	if failed, ok := errors.AsType[*ProxyError](err); ok && !errors.Is(err, context.Canceled) {
		return failed.hint()
	}
	switch {
	case errors.Is(err, context.Canceled):
		return "Nothing to do: the collector stopped waiting, as it does when it shuts down."
	case errors.Is(err, ErrUnreadable):
		return "Check " + key + ", and whether a proxy or a sign-in page of the network answers in place of Microsoft."
	case errors.Is(err, ErrTooLarge):
		return "Check " + key + ", and whether a proxy answers in place of Microsoft; if Microsoft does, the answer is larger than the receiver reads: " +
			"report it to the receiver's project, what is missing stays known."
	case errors.Is(err, ErrForeignHost), errors.Is(err, ErrTooManyPages):
		return "Check that " + key + " is Microsoft Graph of this cloud itself, and not a gateway that rewrites its answers."
	case is[*net.DNSError](err):
		return "Check the name in " + key + " and the DNS of the collector's host, or set graph.proxy_url where only a proxy may resolve it."
	case is[*tls.CertificateVerificationError](err), is[x509.UnknownAuthorityError](err), is[x509.HostnameError](err),
		is[x509.CertificateInvalidError](err):
		return "Check the clock, and where a proxy inspects TLS set graph.tls.ca_file to its CA certificate; " + key + " must be the name in the certificate."
	case is[tls.RecordHeaderError](err), is[tls.AlertError](err), errors.Is(err, http.ErrSchemeMismatch):
		return "Check that " + key + " and graph.proxy_url name a TLS endpoint and that nothing between it and the collector interferes with TLS."
	case timedOut(err):
		return "Check that the firewall lets the collector reach " + key + " within graph.timeout, or set graph.proxy_url."
	case is[*net.OpError](err):
		return "Check that the firewall or proxy lets the collector connect to " + key + ", or set graph.proxy_url."
	}
	return ""
}

func timedOut(err error) bool {
	failed, ok := errors.AsType[net.Error](err)
	return errors.Is(err, context.DeadlineExceeded) || ok && failed.Timeout()
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// remote is who complained.
type remote int

const (
	byGraph remote = iota
	byTokenEndpoint
)

// failureInfo is what a remote host answered.
type failureInfo struct {
	by            remote
	status        int
	code, message string
}

// hintRule is a row of the table of remedies. An empty list matches everything.
type hintRule struct {
	by       remote
	statuses []int
	codes    []string // compared without case
	texts    []string // lower case; one of them in the message is enough
	hint     string
}

func (r hintRule) fits(c failureInfo) bool {
	return r.by == c.by &&
		(len(r.statuses) == 0 || slices.Contains(r.statuses, c.status)) &&
		(len(r.codes) == 0 || slices.ContainsFunc(r.codes, func(code string) bool { return strings.EqualFold(code, c.code) })) &&
		(len(r.texts) == 0 || slices.ContainsFunc(r.texts, func(text string) bool { return strings.Contains(c.message, text) }))
}

// lookUpHint returns the sentence of the first row that fits; the last row for each remote fits always.
func lookUpHint(c failureInfo) string {
	c.message = strings.ToLower(c.message)
	rows := hintRules()
	return rows[slices.IndexFunc(rows, func(r hintRule) bool { return r.fits(c) })].hint
}
