package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"

	"go.opentelemetry.io/collector/config/confighttp"
)

// maxConnections bounds the connections that are open at once. Microsoft Graph reuses its connections.
const maxConnections = 1024

// listen does what confighttp.ServerConfig.ToListener does, with the bound on connections beneath TLS: a wrapped TLS
// connection would hide from net/http that it is one, and with that HTTP/2.
func listen(ctx context.Context, config confighttp.ServerConfig, connections int) (net.Listener, error) {
	var tlsConfig *tls.Config
	if config.TLS.HasValue() {
		var err error
		if tlsConfig, err = config.TLS.Get().LoadTLSConfig(ctx); err != nil {
			return nil, fmt.Errorf("webhook.tls: %w: check the certificate and key, and that this process may read them", err)
		}
		tlsConfig.NextProtos = []string{"h2", "http/1.1"}
	}
	plain, err := config.NetAddr.Listen(ctx)
	if err != nil {
		return nil, fmt.Errorf("webhook.endpoint: %w: %s", err, listenHint(err))
	}
	limited := limitConnections(plain, connections)
	if tlsConfig == nil {
		return limited, nil
	}
	return tls.NewListener(limited, tlsConfig), nil
}

// listenHint says what to do about an address that cannot be listened on.
func listenHint(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "stop the program that listens there, or choose another port"
	case errors.Is(err, fs.ErrPermission):
		return "choose a port from 1024 on, or let this process bind lower ones (CAP_NET_BIND_SERVICE)"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "use an address of this machine, or 0.0.0.0 for all of them"
	default:
		return "write host:port, with an address of this machine"
	}
}
