// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
)

// checkNotificationURL goes Graph's way to the notification URL, from its name to the handshake, directly and without credentials.
// If nothing listens on webhook.endpoint, the doctor does until the check ends, and answers nothing but handshakes. A running
// collector counts the handshakes in its telemetry.
func (t *target) checkNotificationURL(ctx context.Context) []Check {
	public, err := url.Parse(t.settings.Subscription.NotificationURL)
	if err != nil || public.Host == "" {
		return []Check{skipped("none is configured, the history is polled")}
	}
	local, problems := t.listen(ctx)
	defer local.close(ctx)
	checks, secure := t.checkConnection(ctx, public)
	if secure {
		checks = append(checks, t.checkHandshake(ctx, public, local))
	} else {
		checks = append(checks, skipped("without a valid connection no validation request is sent"))
	}
	return append(checks, problems...)
}

// checkConnection checks name, address, certificate and TLS version, and reports whether Graph would accept the connection.
func (t *target) checkConnection(ctx context.Context, public *url.URL) (checks []Check, secure bool) {
	ctx, cancel := call(ctx)
	defer cancel()
	host, address := public.Hostname(), public.Host
	if public.Port() == "" {
		address = net.JoinHostPort(host, "443")
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return []Check{bad(Fail, failure.New(failure.PublicNameNotResolved, host), "%v", err)}, false
	}
	first := addresses[0].Unmap()
	name := ok("%s is %s", host, first)
	if !first.IsGlobalUnicast() || first.IsPrivate() {
		name.Found += ", an address of this network: Graph must find a public one"
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return []Check{name, bad(Fail, failure.New(failure.PublicAddressUnreachable, address), "%v", err)}, false
	}
	defer func() { _ = conn.Close() }()
	// Whatever the server offers is accepted here, in order to name it. Nothing is sent on this connection.
	client := tls.Client(conn, &tls.Config{ServerName: host, InsecureSkipVerify: true, MinVersion: tls.VersionTLS10}) //nolint:gosec // see above
	if err := client.HandshakeContext(ctx); err != nil {
		code := failure.PublicTLSVersion
		if ctx.Err() != nil || disconnected(err) {
			code = failure.PublicAddressUnreachable
		}
		return []Check{name, bad(Fail, failure.New(code, address), "TLS with %s: %v", address, timeoutOr(ctx, err))}, false
	}
	state := client.ConnectionState()
	certificate := checkServerCertificate(host, state.PeerCertificates, t.roots, time.Now())
	version := ok("%s", tls.VersionName(state.Version))
	if state.Version < tls.VersionTLS12 {
		version = bad(Fail, failure.New(failure.PublicTLSVersion, address), "%s answers with %s", address, tls.VersionName(state.Version))
	}
	return []Check{name, certificate, version}, certificate.Mark < Fail && version.Mark < Fail
}

// disconnected reports whether a TLS handshake failed because the connection ended.
func disconnected(err error) bool {
	failed, ok := errors.AsType[*net.OpError](err)
	return errors.Is(err, io.EOF) || ok && (failed.Op == "read" || failed.Op == "write")
}

// timeoutOr returns why the context ended, if it did, else the error.
func timeoutOr(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// checkHandshake makes the handshake, and says who answered it or where it went.
func (t *target) checkHandshake(ctx context.Context, public *url.URL, local *localListener) Check {
	ctx, cancel := call(ctx)
	defer cancel()
	s, config := t.settings.Subscription, &tls.Config{RootCAs: t.roots, MinVersion: tls.VersionTLS12}
	got, err := requestValidation(ctx, &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}, s.NotificationURL, local.token)
	arrived := local.arrived.Load()
	switch {
	case err != nil:
		return bad(Fail, s.HandshakeFailure(""), "the validation request got no answer: %v%s", timeoutOr(ctx, err), local.where())
	case got.echoed():
		return ok("the validation request was answered%s", local.answering())
	case arrived != nil && arrived.path != s.WebhookPath:
		requested := cmp.Or(public.Path, "/")
		return bad(Fail, failure.New(failure.HandshakePathsDiffer, requested, got.name(), s.WebhookPath, s.WebhookAddress),
			"the validation request arrived at webhook.endpoint with the path %q, while webhook.path is %q", arrived.path, s.WebhookPath)
	case got.status == http.StatusOK:
		return bad(Fail, failure.New(failure.HandshakeAltered), "the answer to the validation request is wrong: %s%s", got.wrong, local.where())
	}
	found := fmt.Sprintf("the validation request was answered with %d %s%s", got.status, http.StatusText(got.status), local.where())
	if local.server != nil && arrived == nil && got.unavailable() {
		return bad(Warn, s.HandshakeFailure(got.name()), "%s; an ingress also answers so before the collector runs: check again while it does", found)
	}
	return bad(Fail, s.HandshakeFailure(got.name()), "%s", found)
}
