// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/confighttp"

	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/directory"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
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

	// Subscription and Webhook configure those components, but for what connects them with others. Without resources there is
	// neither.
	Subscription     subscription.Settings
	DeleteOnShutdown bool
	Webhook          webhook.Settings

	// Certificates are the encryption keys, the first for new subscriptions. If empty, the receiver generates a key pair.
	Certificates []Certificate

	// Storage is the storage extension, nil for none.
	Storage *component.ID
	// Cache configures the dedupe cache, but for what connects it with other components.
	Cache   dedupe.Settings
	History History

	CaptureText bool
	References  bool
	// Directory configures the directory, but for Graph, Store, Logger and Telemetry. With Lookup its Properties are added to records.
	Directory directory.Settings

	// Inventory is how often each licensed user is emitted as a record, 0 for never. Only those of ReceivedUsers are.
	Inventory time.Duration
	// ReceivedUsers are those whose interactions are received, in order. Empty means all.
	ReceivedUsers   []gap.User
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
