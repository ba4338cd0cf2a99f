// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configmiddleware"
	"go.opentelemetry.io/collector/extension/extensionmiddleware"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

// localListener is what listens on webhook.endpoint: the doctor while nothing else does, with the webhook of the receiver.
type localListener struct {
	component.Component // nil: nothing starts it

	address, token string
	// server is nil if the doctor doesn't listen. collector says that a collector with the same configuration does.
	server    *webhook.Server
	collector bool
	// arrived is the validation request, nil until it came.
	arrived atomic.Pointer[arrival]
}

// arrival is what the doctor got of a validation request.
type arrival struct {
	path      string
	withQuery bool
}

// middlewareID is an id that no extension has.
var middlewareID = component.MustNewIDWithName("m365_copilot", "doctor")

// listen listens on webhook.endpoint, or finds out what does. It returns the checks of what is wrong there.
func (t *target) listen(ctx context.Context) (*localListener, []Check) {
	settings := t.settings.Webhook
	// The form is that of Graph's tokens, with characters that are encoded.
	l := &localListener{address: settings.Config.NetAddr.Endpoint, token: "Validation: m365copilot doctor " + rand.Text()}
	extensions := map[component.ID]component.Component{middlewareID: l}
	maps.Copy(extensions, t.extensions)
	settings.Config.Middlewares = slices.Concat([]configmiddleware.Config{{ID: middlewareID}}, settings.Config.Middlewares)
	settings.Telemetry, settings.Fatal, settings.Logger = noWebhookTelemetry{}, func(error) {}, zap.NewNop()
	server := webhook.New(settings)
	err := server.Start(ctx, extensions, componenttest.NewNopTelemetrySettings())
	switch code := failure.Of(err).Code; {
	case err == nil:
		l.server = server
		return l, nil
	case code == failure.ListenAddressInUse:
		return l, l.askOther(ctx, settings)
	case code == failure.ListenPortForbidden: // to this user, while a collector with more rights may listen there
		if problems := l.askOther(ctx, settings); l.collector || len(problems) > 0 {
			return l, problems
		}
		return l, []Check{failed(Fail, err, "listen as the collector does")}
	case code == "": // an extension of the listener that the doctor doesn't have
		return l, []Check{skipped("%s", oneLine("the doctor can't listen on webhook.endpoint: "+err.Error()))}
	default:
		return l, []Check{failed(Fail, err, "listen as the collector does")}
	}
}

// GetHTTPHandler implements extensionmiddleware.HTTPServer. The webhook gets handshakes alone, so it needs none of its functions. A
// notification for the collector that is not running gets 503, so that Graph sends it again.
func (l *localListener) GetHTTPHandler(context.Context) (extensionmiddleware.WrapHTTPHandlerFunc, error) {
	return func(_ context.Context, webhook http.Handler) (http.Handler, error) {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			token := r.URL.Query()["validationToken"]
			switch {
			case slices.Contains(token, l.token):
				l.arrived.Store(&arrival{path: r.URL.Path, withQuery: true})
			case r.Method == http.MethodPost && r.ContentLength == 0 && len(token) == 0: // no notification is empty
				l.arrived.CompareAndSwap(nil, &arrival{path: r.URL.Path})
			}
			if len(token) == 0 {
				w.Header().Set("Retry-After", "5")
				http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
				return
			}
			webhook.ServeHTTP(w, r)
		}), nil
	}, nil
}

// askOther makes the handshake with what listens on webhook.endpoint.
func (l *localListener) askOther(ctx context.Context, settings webhook.Settings) []Check {
	ctx, cancel := call(ctx)
	defer cancel()
	// The certificate is for the public name and is checked there.
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // see above
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.address) // 0.0.0.0 means this machine
	}
	local := url.URL{Scheme: "http", Host: "localhost", Path: settings.Path}
	if settings.Config.TLS.HasValue() {
		local.Scheme = "https"
	}
	got, err := requestValidation(ctx, transport, local.String(), l.token)
	l.collector = err == nil && got.echoed()
	if err != nil || l.collector { // no answer proves nothing: a collector may ask for a client certificate
		return nil
	}
	return []Check{bad(Fail, failure.New(failure.ListenAddressInUse), "%s is used by another program, or by a collector with another "+
		"configuration: a validation request for %q is answered there with %d %s", l.address, settings.Path, got.status, got.wrong)}
}

// where says where the validation request arrived, empty if that is not known.
func (l *localListener) where() string {
	arrived := l.arrived.Load()
	switch {
	case l.server == nil:
		return ""
	case arrived == nil:
		return "; it did not arrive at webhook.endpoint, where the doctor listens"
	case !arrived.withQuery:
		return "; it arrived at webhook.endpoint without its query"
	default:
		return "; it arrived at webhook.endpoint"
	}
}

// answering says who answered the validation request well, as far as is known.
func (l *localListener) answering() string {
	switch {
	case l.arrived.Load() != nil:
		return " by the doctor, which listens on " + l.address + " since no collector does"
	case l.server != nil:
		return " by another machine: nothing listens on " + l.address + " of this one"
	case l.collector:
		return "; a collector with this configuration listens on " + l.address
	default:
		return ""
	}
}

// close ends the listener.
func (l *localListener) close(ctx context.Context) {
	if l.server != nil {
		_ = l.server.Shutdown(context.WithoutCancel(ctx)) // nothing is delivered, so nothing can be lost
	}
}

// validation is the answer to a validation request.
type validation struct {
	status int
	// wrong is what is wrong with the content of an answer with status 200.
	wrong string
}

func (v validation) echoed() bool { return v.status == http.StatusOK && v.wrong == "" }

// unavailable reports whether a gateway answered that it has no server that works.
func (v validation) unavailable() bool {
	return v.status >= http.StatusBadGateway && v.status <= http.StatusGatewayTimeout
}

// name returns the status as Graph spells it, such as NotFound.
func (v validation) name() string { return strings.ReplaceAll(http.StatusText(v.status), " ", "") }

// requestValidation makes the handshake as Graph does: https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
// A redirect is not followed. No error contains the URL, whose query may hold secrets.
func requestValidation(ctx context.Context, transport *http.Transport, address, token string) (validation, error) {
	defer transport.CloseIdleConnections()
	transport.DisableCompression = true
	separator := "?"
	if strings.Contains(address, separator) {
		separator = "&"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address+separator+"validationToken="+url.QueryEscape(token), http.NoBody)
	if err != nil {
		return validation{}, err
	}
	req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return validation{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	v := validation{status: resp.StatusCode}
	if v.status != http.StatusOK {
		return v, nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(len(token))+1)) // one more byte is wrong already
	kind, _, kindErr := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case err != nil:
		return v, err
	case kindErr != nil || kind != "text/plain":
		v.wrong = fmt.Sprintf("its type is %q instead of text/plain", kind)
	case string(body) != token:
		v.wrong = "it is not exactly the decoded validation token"
	}
	return v, nil
}

// noWebhookTelemetry drops the measurements of the webhook.
type noWebhookTelemetry struct{}

func (noWebhookTelemetry) Notifications(context.Context, webhook.Outcome, int) {}
func (noWebhookTelemetry) Acknowledged(context.Context, int, time.Duration)    {}
func (noWebhookTelemetry) Handshake(context.Context, int)                      {}
