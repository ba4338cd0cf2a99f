package graph

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
)

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
