package graph

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
)

// ProxyError says that a proxy stands in the way of a call: it refused to connect to the host that was asked for
// (RFC 9110, section 9.3.6), or it can't be reached itself.
type ProxyError struct {
	// Proxy is the proxy's host:port, without the credentials that its URL may hold.
	Proxy string
	// Status is what the proxy answered to CONNECT; 0 where there is no answer, then Err is the cause.
	Status int
	Err    error
}

// Error returns one line. The proxy's own words are not in it, since anything may stand there.
func (e *ProxyError) Error() string {
	if e.Status == 0 {
		return fmt.Sprintf("proxy %s: %v", e.Proxy, e.Err)
	}
	return fmt.Sprintf("proxy %s refused to connect: %d %s", e.Proxy, e.Status, http.StatusText(e.Status))
}

// Unwrap returns the cause where the proxy gave no answer.
func (e *ProxyError) Unwrap() error { return e.Err }

// hint names the settings that choose a proxy: https://pkg.go.dev/net/http#ProxyFromEnvironment
func (e *ProxyError) hint() string {
	const settings = ": graph.proxy_url chooses it, or where that is not set HTTPS_PROXY and NO_PROXY in the collector's environment."
	switch {
	case e.Status == http.StatusProxyAuthRequired || e.Status == http.StatusUnauthorized:
		return "Give the proxy " + e.Proxy + " its login, as in http://user:password@" + e.Proxy + ", or go around it" + settings
	case e.Status != 0:
		return "Have the rules of the proxy " + e.Proxy + " let CONNECT through to the hosts of Microsoft, or go around it" + settings
	default:
		return "Check the address of the proxy " + e.Proxy + " and that the collector may connect to it, or go around it" + settings
	}
}

// ThroughProxy returns a round tripper that is t, whose errors are a *ProxyError where a proxy is the cause. It changes t.
func ThroughProxy(t *http.Transport) http.RoundTripper {
	// Without this all that net/http says of a refusal is the text of the proxy's status line.
	t.OnProxyConnectResponse = func(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
		if resp.StatusCode == http.StatusOK {
			return nil
		}
		return &ProxyError{Proxy: proxy.Host, Status: resp.StatusCode}
	}
	return &proxyTransport{t}
}

// proxyTransport keeps the other methods of a Transport, such as CloseIdleConnections.
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
