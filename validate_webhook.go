package m365copilotreceiver

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/config/confignet"

	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

// Graph gives up on an answer after 3 seconds: https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
const graphPatience = 3 * time.Second

// transports are those that HTTP is served over.
var transports = []confignet.TransportType{confignet.TransportTypeTCP, confignet.TransportTypeTCP4, confignet.TransportTypeTCP6}

// validate leaves the endpoint alone where nothing listens.
func (w *WebhookConfig) validate(listens bool) error {
	errs := []error{
		positive("webhook.ack_timeout", w.AckTimeout, time.Millisecond),
	}
	if w.AckTimeout >= graphPatience {
		errs = append(errs, fmt.Errorf("webhook.ack_timeout: Graph waits 3s for an answer: write less, such as 2500ms, not %s", w.AckTimeout))
	}
	longest := w.ServerConfig.MaxRequestBodySize
	if longest <= 0 { // as confighttp reads it
		longest = defaultMaxRequestBodySize
	}
	least := webhook.MinInFlightBytes(longest)
	if w.MaxInFlightBytes <= 0 {
		errs = append(errs, errors.New("webhook.max_in_flight_bytes: write a number of bytes above 0, such as 67108864"))
	} else if w.MaxInFlightBytes < least {
		errs = append(errs, fmt.Errorf("webhook.max_in_flight_bytes: %d would refuse a body of webhook.max_request_body_size with what is decoded of it, or any at all: write at least %d", w.MaxInFlightBytes, least))
	}
	if slices.ContainsFunc(w.ServerConfig.CompressionAlgorithms, func(algorithm string) bool { return algorithm != "" }) {
		errs = append(errs, errors.New(`webhook.compression_algorithms: Graph does not compress, and compressed bodies are refused: take it out`))
	}
	if w.Path != "" && (!strings.HasPrefix(w.Path, "/") || strings.ContainsAny(w.Path, "?#")) {
		errs = append(errs, fmt.Errorf("webhook.path: write a path that begins with /, without query, such as /graph/notifications, not %q", w.Path))
	}
	// The handler compares it with the path of the request, which net/http has decoded.
	if decoded, err := url.PathUnescape(w.Path); err == nil && decoded != w.Path {
		errs = append(errs, fmt.Errorf("webhook.path: it is compared with the decoded path of a request: write %q, not %q", decoded, w.Path))
	}
	if limit := w.ServerConfig.WriteTimeout; limit > 0 && limit <= w.AckTimeout {
		errs = append(errs, fmt.Errorf("webhook.write_timeout: an answer may take webhook.ack_timeout, %s: write more, such as 30s, or 0s for no limit, not %s", w.AckTimeout, limit))
	}
	if keepalive := w.ServerConfig.Keepalive.Get(); keepalive != nil && keepalive.IdleTimeout > webhook.MaxIdleTimeout {
		errs = append(errs, fmt.Errorf("webhook.keepalive.idle_timeout: connections without a request take up places that Graph may need: write %s or less, not %s", webhook.MaxIdleTimeout, keepalive.IdleTimeout))
	}
	if !slices.Contains(transports, w.ServerConfig.NetAddr.Transport) {
		errs = append(errs, fmt.Errorf("webhook.transport: write tcp, tcp4 or tcp6, or take it out, not %q", w.ServerConfig.NetAddr.Transport))
	}
	if listens {
		errs = append(errs, w.validateEndpoint())
	}
	return errors.Join(errs...)
}

func (w *WebhookConfig) validateEndpoint() error {
	endpoint := w.ServerConfig.NetAddr.Endpoint
	host, port, err := net.SplitHostPort(endpoint)
	switch {
	case err != nil || port == "":
		return fmt.Errorf("webhook.endpoint: write host:port, such as localhost:8443, not %q", endpoint)
	case !w.ServerConfig.TLS.HasValue() && !w.TLSTerminatedUpstream && !isLoopback(host):
		return fmt.Errorf("webhook.endpoint: %q would take conversations in without TLS: write webhook.tls, or webhook.tls_terminated_upstream: true where an ingress ends TLS", endpoint)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return fmt.Errorf("webhook.endpoint: write a port up to 65535, such as localhost:8443, not %q", port)
	}
	return nil
}
