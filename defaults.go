package m365copilotreceiver

import (
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/confignet"
	"go.opentelemetry.io/collector/config/configoptional"

	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

// defaultMaxRequestBodySize is confighttp's own default, in bytes.
const defaultMaxRequestBodySize = 20 << 20

const (
	// defaultReconcileInterval is the default where reconciliation is possible.
	defaultReconcileInterval = 24 * time.Hour
	// defaultReconcileDelay is 1 h until Graph notifies, 4 h of retries, and half an hour to spare:
	// https://learn.microsoft.com/graph/change-notifications-overview
	// https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
	defaultReconcileDelay = 5*time.Hour + 30*time.Minute
)

func createDefaultConfig() component.Config {
	client := confighttp.NewDefaultClientConfig()
	client.Timeout = 30 * time.Second

	server := confighttp.NewDefaultServerConfig()
	server.NetAddr = confignet.NewDefaultAddrConfig()
	server.NetAddr.Transport = confignet.TransportTypeTCP
	server.NetAddr.Endpoint = "localhost:8443"
	server.ReadTimeout = 10 * time.Second
	server.ReadHeaderTimeout = 5 * time.Second
	server.Keepalive = configoptional.Some(confighttp.KeepaliveServerConfig{IdleTimeout: webhook.MaxIdleTimeout})
	server.CompressionAlgorithms = []string{""}
	server.MaxRequestBodySize = defaultMaxRequestBodySize

	return &Config{
		Cloud: CloudGlobal,
		Auth:  AuthConfig{AuthStyle: AuthStyleHeader},
		Graph: client,
		Subscription: SubscriptionConfig{
			ChangeTypes:   []string{"created", "updated", "deleted"},
			Lifetime:      71 * time.Hour,
			CheckInterval: 5 * time.Minute,
		},
		Webhook: WebhookConfig{
			ServerConfig:     server,
			AckTimeout:       2500 * time.Millisecond,
			MaxInFlightBytes: 64 << 20,
		},
		History: HistoryConfig{
			Enabled:           true,
			MaxGap:            168 * time.Hour,
			Reconcile:         ReconcileConfig{Delay: defaultReconcileDelay},
			RequestsPerSecond: 25,
			Concurrency:       4,
		},
		Content: ContentConfig{Capture: CaptureNone},
		Dedupe:  DedupeConfig{Window: 26 * time.Hour, MaxEntries: 1_000_000},
		Metrics: MetricsConfig{Interval: time.Minute},
	}
}
