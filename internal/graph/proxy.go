package graph

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
)

// ProxyError is a call that failed at a proxy: the proxy refused to connect to the requested host (RFC 9110, section 9.3.6),
// or it could not be reached itself.
type ProxyError struct {
	// Proxy is the proxy's host:port, without the credentials that its URL may hold.
	Proxy string
	// Status is the proxy's answer to CONNECT; 0 if it did not answer, and then Err is the cause.
	Status int
	Err    error
}

// Error returns one line. It leaves out the proxy's own text, which may contain anything.
func (e *ProxyError) Error() string {
	if e.Status == 0 {
		return fmt.Sprintf("proxy %s: %v", e.Proxy, e.Err)
	}
	return fmt.Sprintf("proxy %s refused to connect: %d %s", e.Proxy, e.Status, http.StatusText(e.Status))
}

// Unwrap returns the cause if the proxy did not answer.
func (e *ProxyError) Unwrap() error { return e.Err }

// hint names the settings that choose a proxy: https://pkg.go.dev/net/http#ProxyFromEnvironment
func (e *ProxyError) hint() string {
	const settings = ": graph.proxy_url chooses it, or where that is not set HTTPS_PROXY and NO_PROXY in the collector's environment."
	switch {
	case e.Status == http.StatusProxyAuthRequired || e.Status == http.StatusUnauthorized:
		return "Give the proxy " + e.Proxy + " its login, as in http://user:password@" + e.Proxy + ", or bypass it" + settings
	case e.Status != 0:
		return "Allow CONNECT to the hosts of Microsoft in the rules of the proxy " + e.Proxy + ", or bypass it" + settings
	default:
		return "Check the address of the proxy " + e.Proxy + " and that the collector may connect to it, or bypass it" + settings
	}
}

// ThroughProxy wraps t so that a failure at a proxy is a *ProxyError. It modifies t.
func ThroughProxy(t *http.Transport) http.RoundTripper {
	// Without this, the error of net/http is nothing but the text of the proxy's status line.
	t.OnProxyConnectResponse = func(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
		if resp.StatusCode == http.StatusOK {
			return nil
		}
		return &ProxyError{Proxy: proxy.Host, Status: resp.StatusCode}
	}
	return &proxyTransport{t}
}

// proxyTransport embeds the Transport to keep its other methods, such as CloseIdleConnections.
type proxyTransport struct{ *http.Transport }

func (t *proxyTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.Transport.RoundTrip(req)
	if err == nil || t.Proxy == nil {
		return resp, err
	}
	failed, ok := errors.AsType[*net.OpError](err)
	if !ok || failed.Op != "proxyconnect" { // documented in https://go.dev/issue/16997
		return nil, err
	}
	proxy, proxyErr := t.Proxy(req)
	if proxyErr != nil || proxy == nil {
		return nil, err
	}
	return nil, &ProxyError{Proxy: proxy.Host, Err: err}
}
