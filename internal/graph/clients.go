// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configauth"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configmiddleware"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/extension/extensionmiddleware"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
)

// Clients are the HTTP clients for Microsoft's services.
type Clients struct {
	Graph *Client
	// Plain has the same proxy and TLS settings, but neither credentials nor the headers for Graph.
	Plain *http.Client
	// Tokens are those of Graph, nil if an extension authenticates it.
	Tokens *Tokens

	// transports are those of both clients.
	transports *transports
}

// transportID is the id of a middleware that is none of the user's: no extension has the receiver's type.
var transportID = component.MustNewIDWithName("m365_copilot", "transport")

// NewClients creates the clients of a configuration with its endpoint. Without a credential, which needs no HTTP and Telemetry, an
// extension authenticates the client of Graph.
func NewClients(
	ctx context.Context, config confighttp.ClientConfig, credential *CredentialSettings, extensions map[component.ID]component.Component,
	set component.TelemetrySettings, telemetry Telemetry,
) (*Clients, error) {
	stored, all := &transports{}, map[component.ID]component.Component{}
	maps.Copy(all, extensions)
	all[transportID] = stored
	// The last middleware gets the transport itself.
	config.Middlewares = append(slices.Clone(config.Middlewares), configmiddleware.Config{ID: transportID})
	authenticated, err := config.ToClient(ctx, all, set)
	if err != nil {
		return nil, fmt.Errorf("graph: %w", err)
	}
	config.Auth = configoptional.None[configauth.Config]()
	config.Headers = nil
	plain, err := config.ToClient(ctx, all, set)
	if err != nil {
		return nil, fmt.Errorf("graph: %w", err)
	}
	c := &Clients{Plain: plain, transports: stored}
	settings := Settings{Endpoint: config.Endpoint, HTTP: authenticated, Telemetry: telemetry}
	if credential != nil {
		own := *credential
		own.HTTP, own.Telemetry = plain, telemetry
		c.Tokens = NewTokens(own)
		settings.Tokens = c.Tokens
	}
	c.Graph = New(settings)
	return c, nil
}

// Reach requests an address of Microsoft without credentials. Any response counts; it returns its Date, zero if it has none. The
// failure of an error names key, the configuration key of the address.
func (c *Clients) Reach(ctx context.Context, address, key string) (date time.Time, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return time.Time{}, err
	}
	resp, err := withoutRedirects(c.Plain).Do(req)
	if err != nil {
		if failed, ok := errors.AsType[*url.Error](err); ok {
			err = failed.Err
		}
		return time.Time{}, failure.With(err, networkFailure(err, key))
	}
	_ = resp.Body.Close() // nothing of it is read
	if f := statusFailure(resp.StatusCode, key); f.Code == failure.Redirected || f.Code == failure.ProxyLoginMissing {
		return time.Time{}, failure.With(fmt.Errorf("the answer is %d %s", resp.StatusCode, http.StatusText(resp.StatusCode)), f)
	}
	date, _ = http.ParseTime(resp.Header.Get("Date")) // zero if there is none
	return date, nil
}

// Proxy returns host and port of the proxy for requests to an address, without its credentials: graph.proxy_url, else that of the
// environment. It returns "" if there is none.
func (c *Clients) Proxy(address string) string {
	target, err := url.Parse(address)
	if err != nil {
		return ""
	}
	for _, transport := range c.transports.all {
		if transport.Proxy == nil {
			continue
		}
		if proxy, err := transport.Proxy(&http.Request{URL: target}); err == nil && proxy != nil {
			return proxy.Host
		}
	}
	return ""
}

// Close closes the idle connections.
func (c *Clients) Close() {
	for _, transport := range c.transports.all {
		transport.CloseIdleConnections()
	}
}

// transports is an HTTP client middleware that collects the transports which confighttp creates. confighttp wraps them for
// headers, credentials and instrumentation, and the wrappers do not forward CloseIdleConnections.
type transports struct {
	component.Component // nil: nothing starts it
	all                 []*http.Transport
}

// GetHTTPRoundTripper implements extensionmiddleware.HTTPClient.
func (t *transports) GetHTTPRoundTripper(context.Context) (extensionmiddleware.WrapHTTPRoundTripperFunc, error) {
	return func(_ context.Context, base http.RoundTripper) (http.RoundTripper, error) {
		if transport, ok := base.(*http.Transport); ok {
			t.all = append(t.all, ThroughProxy(transport))
		}
		return base, nil
	}, nil
}
