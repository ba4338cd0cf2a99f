package m365copilotreceiver

import (
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/confignet"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/config/configoptional"
)

// Config is what a user writes under m365_copilot in the collector's YAML.
type Config struct {
	// TenantID is the directory (tenant) id in Entra, a GUID. Required.
	TenantID string `mapstructure:"tenant_id"`

	// Cloud is the Microsoft cloud of the tenant: global (default; GCC too), us_gov, us_gov_dod or china.
	// It sets the defaults of graph.endpoint, auth.authority, auth.scope and auth.issuers.
	Cloud Cloud `mapstructure:"cloud"`

	// Auth says who the receiver is towards Microsoft.
	Auth AuthConfig `mapstructure:"auth"`

	// Graph is the HTTP client for Microsoft Graph.
	// Its endpoint defaults to that of the cloud, its timeout to 30s.
	// With auth.authenticator an extension authenticates the calls to Graph, in place of the secrets under auth.
	Graph confighttp.ClientConfig `mapstructure:"graph"`

	// Subscription is what Graph is asked to send, and where.
	Subscription SubscriptionConfig `mapstructure:"subscription"`

	// Webhook is the HTTP server that Graph sends to.
	Webhook WebhookConfig `mapstructure:"webhook"`

	// Encryption holds the keys that notifications are encrypted for.
	Encryption EncryptionConfig `mapstructure:"encryption"`

	// Content says how much of a conversation leaves the receiver. By default nothing does.
	Content ContentConfig `mapstructure:"content"`

	// Metrics is about the metrics pipeline.
	Metrics MetricsConfig `mapstructure:"metrics"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// Cloud is one of the Microsoft clouds, see https://learn.microsoft.com/graph/deployments.
type Cloud string

// AuthConfig is the app registration in Entra, and how it proves itself: by exactly one of client_secret,
// client_secret_file, client_certificate and federated_token_file, or by the extension in graph.auth.
type AuthConfig struct {
	// ClientID is the application (client) id. It is also the audience that notifications must carry. Required.
	ClientID string `mapstructure:"client_id"`

	// ClientSecret is a client secret's value.
	ClientSecret configopaque.String `mapstructure:"client_secret"`

	// ClientSecretFile holds a client secret's value. It is read for each token request, so a new secret needs no restart.
	ClientSecretFile string `mapstructure:"client_secret_file"`

	// ClientCertificate signs the token requests.
	ClientCertificate configoptional.Optional[ClientCertificateConfig] `mapstructure:"client_certificate"`

	// FederatedTokenFile holds a token of another identity provider that Entra trusts, as with workload identity.
	// It is read for each token request.
	FederatedTokenFile string `mapstructure:"federated_token_file"`

	// AuthStyle is how client id and secret are sent: header (HTTP Basic, default) or body.
	AuthStyle AuthStyle `mapstructure:"auth_style"`

	// Authority is the base URL of the login service. It defaults to that of the cloud.
	Authority string `mapstructure:"authority"`

	// TokenURL defaults to {authority}/{tenant_id}/oauth2/v2.0/token.
	TokenURL string `mapstructure:"token_url"`

	// Scope defaults to {graph.endpoint}/.default.
	Scope string `mapstructure:"scope"`

	// Issuers are the issuers that validation tokens may have.
	// They default to the v1 and v2 issuer of this tenant in this cloud, whatever the authority.
	Issuers []string `mapstructure:"issuers"`

	// Audiences are the audiences that validation tokens may have. They default to the client id alone.
	Audiences []string `mapstructure:"audiences"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// AuthStyle is how client id and secret are sent to the token endpoint.
type AuthStyle string

// ClientCertificateConfig is a certificate of the app registration with its private key, both PEM.
// Both files are read for each token request, so a new certificate needs no restart.
type ClientCertificateConfig struct {
	// CertFile is the certificate that was uploaded to the app registration.
	CertFile string `mapstructure:"cert_file"`

	// KeyFile is its RSA private key.
	KeyFile string `mapstructure:"key_file"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// SubscriptionConfig is what Graph is asked to send, and where.
type SubscriptionConfig struct {
	// NotificationURL is the public HTTPS URL at which Graph reaches the webhook, for lifecycle events too. Required.
	NotificationURL string `mapstructure:"notification_url"`

	// Users are Entra object ids; each gets a subscription of its own. Empty means the whole tenant, in one subscription.
	Users []string `mapstructure:"users"`

	// ChangeTypes are the changes to be told of: created, updated, deleted. All three by default.
	ChangeTypes []string `mapstructure:"change_types"`

	// Lifetime is asked for at each creation and renewal, 72h at most. Default 71h.
	Lifetime time.Duration `mapstructure:"lifetime"`

	// CheckInterval is how often the subscription is verified and, when due, renewed. Default 5m.
	CheckInterval time.Duration `mapstructure:"check_interval"`

	// ReplaceForeign takes the place of a subscription of the same app registration that sends elsewhere.
	ReplaceForeign bool `mapstructure:"replace_foreign"`

	// DeleteOnShutdown deletes the subscription when the collector stops.
	// What happens until the next start is then not sent by Graph.
	DeleteOnShutdown bool `mapstructure:"delete_on_shutdown"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// WebhookConfig is the HTTP server that Graph sends to.
type WebhookConfig struct {
	// ServerConfig is the Collector's HTTP server. Defaults: endpoint localhost:8443, read_timeout 10s,
	// read_header_timeout 5s, compression_algorithms [""], max_request_body_size 20971520.
	ServerConfig confighttp.ServerConfig `mapstructure:",squash"`

	// Path is the path of the requests. It defaults to the path of subscription.notification_url;
	// set it where an ingress rewrites paths.
	Path string `mapstructure:"path"`

	// TLSTerminatedUpstream says that something in front of the webhook ends TLS.
	// Without tls, an endpoint that is not loopback needs it.
	TLSTerminatedUpstream bool `mapstructure:"tls_terminated_upstream"`

	// AckTimeout is the time within which Graph gets its answer, whatever the pipeline does.
	// Graph's own patience is 3s. Default 2500ms.
	AckTimeout time.Duration `mapstructure:"ack_timeout"`

	// MaxInFlightBytes bounds the bytes of all requests under way; beyond it the answer is 503 at once. Default 67108864.
	MaxInFlightBytes int64 `mapstructure:"max_in_flight_bytes"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// EncryptionConfig holds the keys that notifications are encrypted for.
type EncryptionConfig struct {
	// Certificates are RSA certificates of 2048 to 4096 bits with their keys; self-signed ones will do.
	// New subscriptions use the first; every one can decrypt. None: the receiver makes a key pair of its own at start.
	Certificates []CertificateConfig `mapstructure:"certificates"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// CertificateConfig is one encryption certificate with its private key, both PEM.
type CertificateConfig struct {
	// ID is a name of your choice, such as 2026-11. It is sent to Graph, followed by a digest of the public key. Default key.
	ID string `mapstructure:"id"`

	// CertFile is the certificate.
	CertFile string `mapstructure:"cert_file"`

	// KeyFile is its RSA private key.
	KeyFile string `mapstructure:"key_file"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// ContentConfig says how much of a conversation leaves the receiver.
type ContentConfig struct {
	// Capture is none (default), or text: the text of prompts and answers becomes the body of the log records.
	Capture Capture `mapstructure:"capture"`

	// References adds names and URLs of files, meetings and links.
	References bool `mapstructure:"references"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// Capture is what of a conversation's text leaves the receiver.
type Capture string

// MetricsConfig is about the metrics pipeline.
type MetricsConfig struct {
	// Interval is how often the metrics pipeline gets the current values. Default 60s.
	Interval time.Duration `mapstructure:"interval"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// The values that the enumerations of Config take.
const (
	CloudGlobal   Cloud = "global"
	CloudUSGov    Cloud = "us_gov"
	CloudUSGovDoD Cloud = "us_gov_dod"
	CloudChina    Cloud = "china"

	AuthStyleHeader AuthStyle = "header"
	AuthStyleBody   AuthStyle = "body"

	CaptureNone Capture = "none"
	CaptureText Capture = "text"
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
	server.CompressionAlgorithms = []string{""}
	server.MaxRequestBodySize = 20 << 20

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
		Content: ContentConfig{Capture: CaptureNone},
		Metrics: MetricsConfig{Interval: time.Minute},
	}
}
