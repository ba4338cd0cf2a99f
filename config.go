// SPDX-License-Identifier: Apache-2.0

package m365copilotreceiver

import (
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/config/configoptional"

	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

// Config is the configuration of the receiver: what a user writes under m365_copilot in the collector's YAML.
type Config struct {
	// TenantID is the directory (tenant) id in Entra, a GUID. Required.
	TenantID string `mapstructure:"tenant_id"`

	// Cloud is the Microsoft cloud of the tenant: global (default; GCC too), us_gov, us_gov_dod or china.
	// It sets the defaults of graph.endpoint, auth.authority, auth.scope and auth.issuers.
	Cloud Cloud `mapstructure:"cloud"`

	// Graph is the HTTP client for Microsoft Graph.
	// Its endpoint, with or without /v1.0 at its end, defaults to that of the cloud, its timeout to 30s.
	// With auth.authenticator an extension authenticates the calls to Graph, in place of the secrets under auth.
	Graph confighttp.ClientConfig `mapstructure:"graph"`

	// The other sections are described at their types.

	Auth         AuthConfig         `mapstructure:"auth"`
	Subscription SubscriptionConfig `mapstructure:"subscription"`
	Webhook      WebhookConfig      `mapstructure:"webhook"`
	Encryption   EncryptionConfig   `mapstructure:"encryption"`
	History      HistoryConfig      `mapstructure:"history"`
	Content      ContentConfig      `mapstructure:"content"`
	Identity     IdentityConfig     `mapstructure:"identity"`
	Dedupe       DedupeConfig       `mapstructure:"dedupe"`
	Metrics      MetricsConfig      `mapstructure:"metrics"`

	// Storage is the id of a storage extension, such as file_storage. It keeps what must survive a restart: a generated
	// encryption key with its private half, the checkpoint, the known gaps, the cache of delivered interactions, whose answer
	// is still to come, and who was active.
	Storage *component.ID `mapstructure:"storage"`
}

// Cloud is one of the Microsoft clouds, see https://learn.microsoft.com/graph/deployments.
type Cloud string

// The clouds.
const (
	CloudGlobal   Cloud = "global"
	CloudUSGov    Cloud = "us_gov"
	CloudUSGovDoD Cloud = "us_gov_dod"
	CloudChina    Cloud = "china"
)

// AuthConfig is the app registration in Entra and its credential: exactly one of client_secret, client_secret_file,
// client_certificate and federated_token_file, or the extension in graph.auth.
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

	// Authority is the base URL of the login service, with or without the tenant at its end.
	// It defaults to that of the cloud.
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
}

// AuthStyle is how client id and secret are sent to the token endpoint.
type AuthStyle string

// The ways to send client id and secret.
const (
	AuthStyleHeader AuthStyle = "header"
	AuthStyleBody   AuthStyle = "body"
)

// ClientCertificateConfig is a certificate of the app registration with its private key, both PEM.
// Both files are read for each token request, so a new certificate needs no restart.
type ClientCertificateConfig struct {
	// CertFile is the certificate that was uploaded to the app registration.
	CertFile string `mapstructure:"cert_file"`

	// KeyFile is its RSA private key.
	KeyFile string `mapstructure:"key_file"`
}

// SubscriptionConfig configures what Graph sends, and where to.
type SubscriptionConfig struct {
	// NotificationURL is the public HTTPS URL at which Graph reaches the webhook, for lifecycle events too.
	// Without it there is neither subscription nor webhook, and the history is read every history.poll_interval.
	NotificationURL string `mapstructure:"notification_url"`

	// Users are Entra object ids; each gets a subscription of its own. Empty means the whole tenant, in one subscription.
	Users []string `mapstructure:"users"`

	// ChangeTypes are the changes to be notified of: created, updated, deleted. All three by default.
	ChangeTypes []string `mapstructure:"change_types"`

	// Lifetime is requested at each creation and renewal, 72h at most. Default 71h.
	Lifetime time.Duration `mapstructure:"lifetime"`

	// CheckInterval is how often the subscription is verified and, when due, renewed. Default 5m.
	CheckInterval time.Duration `mapstructure:"check_interval"`

	// ReplaceForeign replaces a subscription of the same app registration that has another notification URL.
	ReplaceForeign bool `mapstructure:"replace_foreign"`

	// DeleteOnShutdown deletes the subscription when the collector stops.
	// Graph then does not send what happens until the next start.
	DeleteOnShutdown bool `mapstructure:"delete_on_shutdown"`
}

// WebhookConfig is the HTTP server that Graph sends to.
type WebhookConfig struct {
	// ServerConfig is the Collector's HTTP server. Defaults: endpoint localhost:8443, read_timeout 10s,
	// read_header_timeout 5s, keepalive.idle_timeout 10s, compression_algorithms [""], max_request_body_size 20971520.
	ServerConfig confighttp.ServerConfig `mapstructure:",squash"`

	// Path is the path of the requests, decoded: /graph api, not /graph%20api.
	// It defaults to the path of subscription.notification_url; set it where an ingress rewrites paths.
	Path string `mapstructure:"path"`

	// TLSTerminatedUpstream states that a proxy in front of the webhook terminates TLS.
	// Required when tls is unset and the endpoint is not loopback.
	TLSTerminatedUpstream bool `mapstructure:"tls_terminated_upstream"`

	// AckTimeout is the time within which Graph gets its answer, whatever the pipeline does.
	// Graph itself waits 3s. Default 2500ms.
	AckTimeout time.Duration `mapstructure:"ack_timeout"`

	// MaxInFlightBytes bounds the bytes of all requests in flight, with what decoding them takes; requests beyond it get 503
	// immediately. It must exceed max_request_body_size by a seventh, at least. Default 67108864.
	MaxInFlightBytes int64 `mapstructure:"max_in_flight_bytes"`
}

// EncryptionConfig holds the keys that notifications are encrypted for.
type EncryptionConfig struct {
	// Certificates are RSA certificates of 2048 to 4096 bits with their keys; they may be self-signed.
	// New subscriptions use the first; every one can decrypt. The files are read again when they change.
	// Without any, the receiver generates a key pair and keeps it in storage, or in memory if there is no storage.
	Certificates []CertificateConfig `mapstructure:"certificates"`
}

// CertificateConfig is one encryption certificate with its private key, both PEM.
type CertificateConfig struct {
	// ID is a name of your choice, such as 2026-11. It is sent to Graph, followed by a digest of the public key. Default key.
	ID string `mapstructure:"id"`

	// CertFile is the certificate.
	CertFile string `mapstructure:"cert_file"`

	// KeyFile is its RSA private key.
	KeyFile string `mapstructure:"key_file"`
}

// ContentConfig configures how much of a conversation leaves the receiver: by default neither text nor references.
type ContentConfig struct {
	// Capture is none (default), or text: the text of prompts and answers becomes the body of the log records.
	Capture Capture `mapstructure:"capture"`

	// References adds names and URLs of files, meetings and links.
	References bool `mapstructure:"references"`
}

// Capture states whether the text of a conversation leaves the receiver.
type Capture string

// The values of Capture.
const (
	CaptureNone Capture = "none"
	CaptureText Capture = "text"
)

// IdentityConfig configures what leaves of the users: by default their Entra object id alone. Both directory and inventory need
// the application permission User.Read.All.
type IdentityConfig struct {
	// Directory adds to each record what the directory of the tenant says about its user: DirectoryProperties, and whether the
	// user has a Copilot license. A record whose user is not known yet goes out without. Default false.
	Directory bool `mapstructure:"directory"`

	// DirectoryProperties are the properties to add, named as in Graph: userPrincipalName, displayName, department,
	// officeLocation, country, jobTitle and companyName by default. Those of users that are synchronized from Active Directory
	// are onPremisesSamAccountName, onPremisesSecurityIdentifier and onPremisesDomainName. Empty: only the license.
	// Without identity.directory they have no effect. See https://learn.microsoft.com/graph/api/resources/user
	DirectoryProperties []string `mapstructure:"directory_properties"`

	// Inventory is how often each licensed user is emitted as a log record with the time of the last prompt, so that those who
	// never prompt are seen too; 24h is usual. Where only the prompts of some users are received, with subscription.users, or
	// history.users without a notification_url, it is of those alone. Without storage each restart forgets who prompted.
	// Default 0s: never.
	Inventory time.Duration `mapstructure:"inventory"`

	// CacheTTL is how long what the directory said about a user is valid. Default 12h.
	CacheTTL time.Duration `mapstructure:"cache_ttl"`

	// CacheSize is of how many users it is kept. Default 100000.
	CacheSize int `mapstructure:"cache_size"`
}

// HistoryConfig configures how missed interactions are fetched from the history API.
type HistoryConfig struct {
	// Enabled is true by default. If it is false, known gaps are reported but not filled.
	Enabled bool `mapstructure:"enabled"`

	// Lookback is how much history is imported on the very first start. Default 0s: none. Needs storage.
	Lookback time.Duration `mapstructure:"lookback"`

	// MaxGap is how far back a gap is filled; the rest of a longer one is reported. Default 168h.
	MaxGap time.Duration `mapstructure:"max_gap"`

	// PollInterval is how often the history is read where there is no subscription.notification_url, and it is the only source.
	// Required there, with storage, and refused with a notification_url, where history.reconcile finds what was missed.
	PollInterval time.Duration `mapstructure:"poll_interval"`

	// Reconcile compares the history with what was delivered.
	Reconcile ReconcileConfig `mapstructure:"reconcile"`

	// Replay is history to deliver once more, although it was delivered before. Each entry is done once, and known by its
	// values. Needs storage.
	Replay []ReplayConfig `mapstructure:"replay"`

	// Users are the Entra object ids whose history is read. Empty: subscription.users, else the licensed users of the
	// directory and the users already seen.
	Users []string `mapstructure:"users"`

	// RequestsPerSecond bounds the requests to the history API. Default 25, of the 30 that Graph allows.
	RequestsPerSecond float64 `mapstructure:"requests_per_second"`

	// Concurrency is how many users are read at once. Default 4.
	Concurrency int `mapstructure:"concurrency"`
}

// ReconcileConfig configures the reconciliation: the history of every user is compared with what was delivered, and what only
// the history has is delivered.
type ReconcileConfig struct {
	// Interval is the time between two reconciliations; 0s turns them off. By default 24h with subscription.notification_url
	// and history.enabled, else off: without these a reconciliation is impossible, and an interval is refused.
	Interval *time.Duration `mapstructure:"interval"`

	// Delay is how old an interaction must be to be compared. Default 5h30m: Graph may notify of it 1 h late, and retries a
	// notification for 4 h: https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
	Delay time.Duration `mapstructure:"delay"`
}

// ReplayConfig is history to deliver once more. The records have the same log.record.uid as before.
type ReplayConfig struct {
	// From is the time of creation of the earliest interactions, in the form of RFC 3339, such as 2026-11-01T00:00:00Z. Required.
	From time.Time `mapstructure:"from"`

	// To is the time before which they were created, in the same form. Required.
	To time.Time `mapstructure:"to"`

	// Users are Entra object ids. Empty means all users whose history is read.
	Users []string `mapstructure:"users"`
}

// DedupeConfig bounds the cache of delivered interactions, which ensures that each is delivered once.
type DedupeConfig struct {
	// Window is how long a delivered interaction is remembered. Default 26h. What a known gap or the next reconciliation may
	// read again is remembered longer.
	Window time.Duration `mapstructure:"window"`

	// MaxEntries is how many are remembered; the oldest are forgotten first, and are not reconciled. Default 1000000.
	MaxEntries int `mapstructure:"max_entries"`
}

// MetricsConfig configures what the metrics pipeline gets.
type MetricsConfig struct {
	// Interval is how often the metrics pipeline gets the current values. Default 60s.
	Interval time.Duration `mapstructure:"interval"`
}

const (
	// defaultMaxRequestBodySize is confighttp's own default, in bytes.
	defaultMaxRequestBodySize = 20 << 20
	// defaultReconcileInterval is the default where the history can be compared.
	defaultReconcileInterval = 24 * time.Hour
)

// createDefaultConfig sets every default that depends on no other key. Config.Settings sets the others.
func createDefaultConfig() component.Config {
	client := confighttp.NewDefaultClientConfig()
	client.Timeout = 30 * time.Second

	server := confighttp.NewDefaultServerConfig()
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
			Reconcile:         ReconcileConfig{Delay: 330 * time.Minute},
			RequestsPerSecond: 25,
			Concurrency:       4,
		},
		Content: ContentConfig{Capture: CaptureNone},
		Identity: IdentityConfig{
			DirectoryProperties: []string{
				"userPrincipalName", "displayName", "department", "officeLocation", "country", "jobTitle", "companyName",
			},
			CacheTTL:  12 * time.Hour,
			CacheSize: 100_000,
		},
		Dedupe:  DedupeConfig{Window: 26 * time.Hour, MaxEntries: 1_000_000},
		Metrics: MetricsConfig{Interval: time.Minute},
	}
}
