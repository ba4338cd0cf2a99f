package receiver

import (
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/confighttp"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// Settings is what a Receiver works with: a validated configuration with every default filled in.
type Settings struct {
	// TenantID and ClientID are in lower case.
	TenantID string
	ClientID string
	// Issuers and Audiences are those that validation tokens may have.
	Issuers   []string
	Audiences []string
	// JWKSURL is where the authority publishes the keys that sign validation tokens.
	JWKSURL string

	// Graph is the HTTP client for Graph, with its endpoint.
	Graph confighttp.ClientConfig
	// Credential configures the tokens for Graph; HTTP and Telemetry are unset. Nil if an extension authenticates the client.
	Credential *graph.CredentialSettings

	// Resources are the resources to subscribe to, without leading slash: the tenant-wide one, or one for each user. If empty,
	// there is neither subscription nor webhook.
	Resources        []string
	ChangeTypes      []string
	NotificationURL  string
	Lifetime         time.Duration
	CheckInterval    time.Duration
	ReplaceForeign   bool
	DeleteOnShutdown bool

	Webhook          confighttp.ServerConfig
	WebhookPath      string
	AckTimeout       time.Duration
	MaxInFlightBytes int64

	// Certificates are the encryption keys, the first for new subscriptions. If empty, the receiver generates a key pair.
	Certificates []Certificate

	// Storage is the storage extension, nil for none.
	Storage *component.ID
	// Window and MaxEntries bound the dedupe cache.
	Window     time.Duration
	MaxEntries int
	History    History

	CaptureText bool
	References  bool

	MetricsInterval time.Duration
}

// History configures how gaps are read.
type History struct {
	Rules gap.Rules
	// Users are those whose history is read, in order. Empty means the licensed users of the directory and the users already seen.
	Users             []gap.User
	RequestsPerSecond float64
	Concurrency       int
}

// Certificate names the PEM files of an encryption certificate and its key.
type Certificate struct {
	ID       string
	CertFile string
	KeyFile  string
}
