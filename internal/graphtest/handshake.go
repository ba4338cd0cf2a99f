// SPDX-License-Identifier: Apache-2.0

package graphtest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// newClient returns the client that sends to notification endpoints. It follows no redirects and uses no proxy.
func newClient(roots *x509.CertPool) (*http.Client, *ingress) {
	transport := &ingress{Transport: &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     30 * time.Second,
		ForceAttemptHTTP2:   true,
	}}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, transport
}

// ingress is the way to the notification endpoints. While it is broken, it answers 502 in their place.
type ingress struct {
	*http.Transport
	broken atomic.Bool
}

// RoundTrip implements http.RoundTripper.
func (i *ingress) RoundTrip(r *http.Request) (*http.Response, error) {
	if !i.broken.Load() {
		return i.Transport.RoundTrip(r)
	}
	if r.Body != nil {
		_ = r.Body.Close() // as a RoundTripper must
	}
	return &http.Response{
		StatusCode: http.StatusBadGateway, Status: "502 Bad Gateway", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: http.NoBody, Request: r,
	}, nil
}

// BreakIngress makes whatever is sent to notification endpoints from now on, handshakes included, fail with 502, as while an ingress in
// front of them is broken. RestoreIngress ends that.
func (e *Emulator) BreakIngress() { e.ingress.broken.Store(true) }

// RestoreIngress ends BreakIngress.
func (e *Emulator) RestoreIngress() { e.ingress.broken.Store(false) }

// IngressBroken reports whether BreakIngress is in effect.
func (e *Emulator) IngressBroken() bool { return e.ingress.broken.Load() }

// validate performs the handshake with each endpoint, as Graph does before it creates a subscription:
// https://learn.microsoft.com/graph/change-notifications-delivery-webhooks#notificationurl-validation
func (e *Emulator) validate(ctx context.Context, endpoints ...string) *graphError {
	for _, endpoint := range endpoints {
		if endpoint == "" {
			continue
		}
		at := time.Now()
		status, err := e.Handshake(ctx, endpoint)
		e.recorder.addAcknowledgement(Acknowledgement{
			Handshake: true, Attempt: 1, Status: status, Err: err, Latency: time.Since(at), At: at,
		})
		if err != nil {
			return &graphError{http.StatusBadRequest, "ValidationError", handshakeFailure(status, err)}
		}
	}
	return nil
}

// handshakeFailure returns Graph's message for a failed handshake. https://github.com/pnp/Microsoft365-Analytics-Insights/issues/273
// has the messages for a wrong status and for a timeout. For everything else Graph has one sentence, to which the cause is added here.
func handshakeFailure(status int, err error) string {
	const requirement = "Notification endpoint must respond with 200 OK to validation request."
	switch {
	case errors.Is(err, errTimeout):
		return "Subscription validation request timed out."
	case status != 0 && status != http.StatusOK:
		return "Subscription validation request failed. HTTP status code is '" + statusName(status) + "'. " + requirement
	default:
		return "Subscription validation request failed. " + requirement + " " + err.Error()
	}
}

// statusName returns the name of a status as Graph writes it, such as NotFound.
func statusName(status int) string {
	return strings.NewReplacer(" ", "", "-", "", "'", "").Replace(http.StatusText(status))
}

// Handshake sends one validation request, checks the answer as strictly as Graph does and returns its status. The token contains the
// characters that a wrong decoder changes.
func (e *Emulator) Handshake(ctx context.Context, endpoint string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, e.settings.HandshakeTimeout)
	defer cancel()
	token := "Validation: Testing client application reachability for subscription Request-Id: " + newGUID() + " a+b 100% %2B &=?é"
	separator := "?"
	if strings.Contains(endpoint, "?") {
		separator = "&"
	}
	target := endpoint + separator + "validationToken=" + url.QueryEscape(token)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, http.NoBody)
	if err != nil {
		return 0, errors.New("the endpoint is not a URL")
	}
	request.Header.Set("Content-Type", "text/plain; charset=utf-8")
	response, err := e.client.Do(request)
	if err != nil {
		return 0, unreachable(ctx, err)
	}
	defer func() { _ = response.Body.Close() }()
	if err := ctx.Err(); err != nil { // a response may still arrive just after the deadline
		return 0, unreachable(ctx, err)
	}
	if response.StatusCode != http.StatusOK {
		return response.StatusCode, fmt.Errorf("the endpoint answered %d, it must answer 200 OK", response.StatusCode)
	}
	kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if err != nil || kind != "text/plain" {
		return response.StatusCode, errors.New("the answer must be of type text/plain")
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, int64(len(token)+1)))
	if err != nil {
		return response.StatusCode, unreachable(ctx, err)
	}
	if string(body) != token {
		return response.StatusCode, errors.New("the answer must be exactly the validationToken query parameter, decoded")
	}
	return response.StatusCode, nil
}

var errTimeout = errors.New("the endpoint did not answer in time")

func unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errTimeout
	}
	return fmt.Errorf("the endpoint can't be reached: %w", err)
}
