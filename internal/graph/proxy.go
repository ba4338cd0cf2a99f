package graph

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
)

// ProxyError means that a proxy refused to connect to the requested host (RFC 9110, section 9.3.6).
type ProxyError struct {
	// Proxy is the proxy's host:port, without the credentials that its URL may hold.
	Proxy string
	// Status is the proxy's answer to CONNECT.
	Status int
}

// Error returns one line. It leaves out the proxy's own text, which may contain anything.
func (e *ProxyError) Error() string {
	return fmt.Sprintf("proxy %s refused to connect: %d %s", e.Proxy, e.Status, http.StatusText(e.Status))
}

// Failure classifies the error.
func (e *ProxyError) Failure() failure.Failure {
	if e.Status == http.StatusProxyAuthRequired || e.Status == http.StatusUnauthorized {
		return failure.New(failure.ProxyLoginMissing, e.Proxy)
	}
	return failure.New(failure.ProxyRefusing, e.Proxy)
}

// ThroughProxy makes t return a *ProxyError where a proxy refuses to connect; by itself it returns the text of the proxy's status
// line and nothing else. It returns t.
func ThroughProxy(t *http.Transport) *http.Transport {
	t.OnProxyConnectResponse = func(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
		if resp.StatusCode == http.StatusOK {
			return nil
		}
		return &ProxyError{Proxy: proxy.Host, Status: resp.StatusCode}
	}
	return t
}
