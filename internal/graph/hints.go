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

// Hint returns one sentence that tells the operator what to do about an error of this package, or "" for nil.
func Hint(err error) string {
	if err == nil {
		return ""
	}
	if failed, ok := errors.AsType[*CredentialError](err); ok {
		return "Make the file " + failed.Path + " readable for the collector, with the content that " + failed.Setting +
			" requires; the next attempt reads it again, without a restart."
	}
	if failed, ok := errors.AsType[*TokenError](err); ok {
		return tokenHint(failed)
	}
	if failed, ok := errors.AsType[*Error](err); ok {
		if sentence := operationHint(failed); sentence != "" {
			return sentence
		}
		return lookUpHint(failureInfo{byGraph, failed.Status, failed.Code, failed.Message})
	}
	if sentence := transportHint(err, "graph.endpoint"); sentence != "" {
		return sentence
	}
	return "Read the error, and check graph.endpoint and the network between the collector and Microsoft Graph; " +
		"the receiver keeps trying."
}

// Code returns a short code that identifies a failure in logs: the AADSTS code or else the OAuth error of Entra ID, or the
// code of Graph. It is "" if no remote host sent one, as for failures of the transport.
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

// HandshakeAnswer reports whether Graph refused a subscription because its validation request to the notification URL
// failed. The answer is the HTTP status that Graph received, as Graph spells it, such as NotFound; "" if it received none or
// does not name it. All of this is parsed from Graph's message, so it must be used for hints only.
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

// transportHint covers failures of the network and of proxies in it; key is the configuration key of the address.
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
		return "Check " + key + ", and whether a proxy answers in place of Microsoft; if Microsoft does, the response exceeds the limit of the receiver: " +
			"report that to the receiver's project, the gap stays open."
	case errors.Is(err, ErrForeignHost), errors.Is(err, ErrTooManyPages):
		return "Check that " + key + " is Microsoft Graph of this cloud itself, and not a gateway that rewrites its responses."
	case isType[*net.DNSError](err):
		return "Check the name in " + key + " and the DNS of the collector's host, or set graph.proxy_url if only a proxy can resolve it."
	case isType[*tls.CertificateVerificationError](err), isType[x509.UnknownAuthorityError](err), isType[x509.HostnameError](err),
		isType[x509.CertificateInvalidError](err):
		return "Check the clock, and if a proxy inspects TLS set graph.tls.ca_file to its CA certificate; " + key + " must be the name in the certificate."
	case isType[tls.RecordHeaderError](err), isType[tls.AlertError](err), errors.Is(err, http.ErrSchemeMismatch):
		return "Check that " + key + " and graph.proxy_url name a TLS endpoint and that nothing between it and the collector interferes with TLS."
	case timedOut(err):
		return "Check that the firewall lets the collector reach " + key + " within graph.timeout, or set graph.proxy_url."
	case isType[*net.OpError](err):
		return "Check that the firewall or proxy lets the collector connect to " + key + ", or set graph.proxy_url."
	}
	return ""
}

func timedOut(err error) bool {
	failed, ok := errors.AsType[net.Error](err)
	return errors.Is(err, context.DeadlineExceeded) || ok && failed.Timeout()
}

func isType[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// remote is the kind of host that reported a failure.
type remote int

const (
	byGraph remote = iota
	byTokenEndpoint
)

// failureInfo is what a remote host reported.
type failureInfo struct {
	remote        remote
	status        int
	code, message string
}

// hintRule is a row of the table of hints. An empty list matches everything.
type hintRule struct {
	remote   remote
	statuses []int
	codes    []string // compared case-insensitively
	texts    []string // lower case; one of them in the message is enough
	hint     string
}

func (r hintRule) matches(c failureInfo) bool {
	return r.remote == c.remote &&
		(len(r.statuses) == 0 || slices.Contains(r.statuses, c.status)) &&
		(len(r.codes) == 0 || slices.ContainsFunc(r.codes, func(code string) bool { return strings.EqualFold(code, c.code) })) &&
		(len(r.texts) == 0 || slices.ContainsFunc(r.texts, func(text string) bool { return strings.Contains(c.message, text) }))
}

// lookUpHint returns the hint of the first row that matches. The last row of each remote matches everything.
func lookUpHint(c failureInfo) string {
	c.message = strings.ToLower(c.message)
	rows := hintRules()
	return rows[slices.IndexFunc(rows, func(r hintRule) bool { return r.matches(c) })].hint
}

const grantInteractions = "Grant the app registration of auth.client_id the application permission AiEnterpriseInteraction.Read.All of Microsoft Graph, with admin consent"

// operationHint returns the hint that is specific to the history or the list of users, or "" if the general hints apply.
func operationHint(failed *Error) string {
	switch failed.Operation {
	case opHistory:
		return historyHint(failed)
	case opUsers:
		return usersHint(failed)
	default:
		return ""
	}
}

func historyHint(failed *Error) string {
	switch denialIn(failed) {
	case unlicensed:
		return "Nothing to do if it is one user, who has no Copilot license or is not known to Microsoft Graph; if it is every user, " +
			"check history.users and subscription.users, and the Microsoft 365 Copilot licenses of the tenant."
	case forbidden:
		return grantInteractions + "; if it is granted and only some users are refused, check their Microsoft 365 Copilot licenses."
	case unsupported:
		return "Check cloud and graph.endpoint: this installation of Microsoft Graph does not offer the history of Copilot interactions; " +
			"if it is the right one, set history.enabled: false."
	case noDenial:
	}
	if failed.Status == http.StatusBadRequest {
		return "Check that history.users and subscription.users hold object ids of users of this tenant; Microsoft support finds the call by its request-id."
	}
	return ""
}

func usersHint(failed *Error) string {
	switch failed.Status {
	case http.StatusForbidden:
		return "Grant the app registration of auth.client_id the application permission User.Read.All of Microsoft Graph, with admin consent, " +
			"or name the users in history.users; until then only users already seen are read."
	case http.StatusBadRequest, http.StatusNotFound, http.StatusNotImplemented:
		return "Name the users in history.users, and check cloud and graph.endpoint: this installation of Microsoft Graph does not list users by their license."
	default:
		return ""
	}
}

const (
	nothingToDo = "Nothing to do: Microsoft throttles the receiver or is unavailable, and the receiver tries again after the time that Microsoft asked for."

	createNewValue = "create a new client secret for this app registration and set its value (not its id) in auth.client_secret or auth.client_secret_file."

	checkFederation = "Make the issuer, subject and audience of the app registration's federated credential equal to those of the token in auth.federated_token_file, " +
		"and auth.client_id that app's id."

	checkTenant = "Check tenant_id and cloud: this cloud has no such tenant."

	checkRedirect = "Set the address to the one that answers without a redirect: a proxy, a sign-in page of the network or http instead of https is the usual cause."

	checkProxy = "Add the login of the proxy: a proxy answered in place of Microsoft, set by graph.proxy_url, or if that is empty by HTTPS_PROXY, HTTP_PROXY and NO_PROXY in the collector's environment."

	checkReachable = "Make subscription.notification_url reachable for Microsoft: public DNS name, a certificate with its whole chain from a public CA, " +
		"TLS 1.2 or later, and an ingress or firewall that lets a POST with a query string through to the receiver's webhook within 10 s."
)

// hintRules is the table of known failures of remote hosts. Entra ID numbers its errors, and warns that numbers may change
// (https://learn.microsoft.com/entra/identity-platform/reference-error-codes); Graph documents few of its codes and no texts,
// so its rows look for words of the message, the most specific ones first. The table is therefore used for hints only, and
// unknown failures get a general hint.
func hintRules() []hintRule {
	return slices.Concat(tokenHintRules(), graphHintRules(), denialHintRules())
}

func tokenHintRules() []hintRule {
	return []hintRule{
		{remote: byTokenEndpoint, codes: []string{"AADSTS7000215"}, hint: "The client secret is wrong: " + createNewValue},
		{remote: byTokenEndpoint, codes: []string{"AADSTS7000222"}, hint: "The client secret has expired: " + createNewValue},
		{remote: byTokenEndpoint, codes: []string{"AADSTS7000218"}, hint: "No credential arrived: set exactly one under auth, and check auth.auth_style where a proxy drops the Authorization header."},
		{remote: byTokenEndpoint, codes: []string{"AADSTS7000112", "AADSTS7000229"}, hint: "Enable the enterprise application (service principal) of auth.client_id in this tenant, or create it by granting admin consent."},
		{remote: byTokenEndpoint, codes: []string{"AADSTS700016"}, hint: "Check that auth.client_id is the application (client) id of an app registration in the tenant of tenant_id, and that cloud is its cloud."},
		{remote: byTokenEndpoint, codes: []string{"AADSTS90002", "AADSTS90038"}, hint: checkTenant},
		{remote: byTokenEndpoint, codes: []string{"AADSTS700024"}, hint: "Set the clock of the collector's host; with auth.federated_token_file also check that the file is still being renewed, since the assertion is outside its time of validity."},
		{remote: byTokenEndpoint, codes: []string{"AADSTS700023"}, hint: "Check auth.token_url and auth.authority, since the assertion must be addressed to the endpoint that gets it, and leave auth.scope empty."},
		{remote: byTokenEndpoint, codes: []string{"AADSTS700027"}, hint: "Upload the certificate of auth.client_certificate to the app registration of auth.client_id, and check that it has not expired."},
		{remote: byTokenEndpoint, codes: []string{"AADSTS700030"}, hint: "Check cloud, and that the first certificate in auth.client_certificate's cert_file is the application's own: its subject or its issuer is not accepted there."},
		{remote: byTokenEndpoint, codes: []string{"AADSTS700021", "AADSTS700211", "AADSTS700212", "AADSTS700213", "AADSTS7002131", "AADSTS70021"}, hint: checkFederation},
		{remote: byTokenEndpoint, codes: []string{"AADSTS53003"}, hint: "Let the service principal of auth.client_id sign in from the collector's address: a Conditional Access policy for workload identities blocks it."},
		{remote: byTokenEndpoint, codes: []string{"AADSTS70011", "AADSTS1002012", "AADSTS500011", "invalid_scope"}, hint: "Check auth.scope: it is graph.endpoint of this cloud followed by /.default, which is also what it is when left empty."},
		{remote: byTokenEndpoint, codes: []string{"invalid_client"}, hint: "Check auth.client_id and the credential under auth: the token endpoint does not accept them together."},
		{remote: byTokenEndpoint, codes: []string{"unauthorized_client"}, hint: "Check that auth.client_id is an app registration of the tenant of tenant_id that may use client credentials."},
		{remote: byTokenEndpoint, statuses: []int{429, 500, 502, 503, 504}, hint: nothingToDo},
		{remote: byTokenEndpoint, statuses: []int{301, 302, 303, 307, 308}, hint: checkRedirect},
		{remote: byTokenEndpoint, statuses: []int{407}, hint: checkProxy},
		{remote: byTokenEndpoint, hint: "Check tenant_id, cloud, auth.authority and auth.token_url, and look the code up at https://login.microsoftonline.com/error; the receiver keeps trying."},
	}
}

// graphHintRules covers failures of Graph other than denied access.
func graphHintRules() []hintRule {
	bad, gone := []int{400}, []int{404, 410}
	return []hintRule{
		{texts: []string{"validation request", "notification endpoint", "endpoint validation"}, hint: checkReachable},
		{statuses: []int{429, 503, 509}, hint: nothingToDo},
		{statuses: []int{500, 502, 504}, hint: "Nothing to do unless it lasts: Microsoft Graph failed, the receiver tries again, and Microsoft support wants the request-id."},
		{statuses: []int{301, 302, 303, 307, 308}, hint: checkRedirect},
		{statuses: bad, texts: []string{"lifecyclenotificationurl is a required", "lifecyclenotificationurl is required"}, hint: "Set subscription.notification_url, which also serves lifecycle events: " +
			"without a lifecycle URL a subscription lasts an hour at most."},
		{statuses: bad, texts: []string{"in the future", "expirationdatetime", "expiration"}, hint: "Set subscription.lifetime to less than 72h, and set the clock of the collector's host."},
		{statuses: bad, texts: []string{"encryptioncertificate", "certificate"}, hint: "Check the first of encryption.certificates: an X.509 certificate with an RSA key of 2048 to 4096 bits in PEM."},
		{statuses: bad, texts: []string{"notificationurl"}, hint: checkReachable},
		{statuses: []int{400, 404, 501}, texts: []string{"not supported", "unsupported", "resource not found for the segment"}, hint: "Check cloud and graph.endpoint: this installation of " +
			"Microsoft Graph does not offer Copilot interactions."},
		{statuses: bad, codes: []string{"ValidationError"}, hint: checkReachable},
		{statuses: bad, texts: []string{"user id", "userid", "user not found"}, hint: "Check subscription.users: each must be the object id of a user of this tenant."},
		{statuses: bad, hint: "Read Graph's message, and check subscription.notification_url (reachable for Microsoft over HTTPS) and the other keys under subscription."},
		{statuses: gone, hint: "Nothing to do if a subscription no longer exists, since the receiver creates a new one; otherwise check graph.endpoint and subscription.users."},
		{statuses: []int{409}, hint: "Nothing to do if it passes: a subscription of this app registration for the same interactions exists already, and the receiver adopts it if it is its own; " +
			"otherwise delete it, set subscription.replace_foreign: true, or give this collector an app registration of its own."},
	}
}

// denialHintRules covers denied access. Graph sends 403 for three causes: licenses, quotas and permissions.
func denialHintRules() []hintRule {
	unauthorized, payment, forbidden := []int{401}, []int{402}, []int{403}
	return []hintRule{
		{statuses: unauthorized, hint: "Check that auth.scope (or the scopes of the authenticator in graph.auth) is that of graph.endpoint, and that tenant_id and cloud belong together: Graph does not accept the access token."},
		{statuses: []int{407}, hint: checkProxy},
		{statuses: payment, hint: "Check the licenses and the billing of Microsoft 365 Copilot in this tenant: Graph asks for payment."},
		{statuses: forbidden, texts: []string{"license", "service plan", "serviceplan"}, hint: "Assign Microsoft 365 Copilot licenses in this tenant, or take users without one out of subscription.users and history.users."},
		{statuses: forbidden, texts: []string{"quota", "limit", "maximum", "exceed", "too many"}, hint: "Give this collector an app registration of its own, since Graph allows one tenant-wide subscription for each app registration and tenant; " +
			"or set subscription.replace_foreign: true to replace the other one."},
		{statuses: forbidden, texts: []string{"permission", "privilege", "scope", "role", "consent", "does not have access", "access denied", "not authorized", "unauthorized"}, hint: grantInteractions + "."},
		{statuses: forbidden, hint: grantInteractions + "; if it is granted, check that the tenant has Microsoft 365 Copilot licenses and that no other collector uses this app registration."},
		{hint: "Read Graph's message, and check graph.endpoint, cloud and the keys under subscription; Microsoft support finds the call by its request-id."},
	}
}
