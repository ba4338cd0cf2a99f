package m365copilotreceiver

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/receiver"
)

// The resources that a subscription can watch:
// https://learn.microsoft.com/microsoft-365/copilot/extensibility/api/ai-services/change-notifications/aiinteraction-changenotifications
const (
	tenantResource = "copilot/interactionHistory/getAllEnterpriseInteractions"
	userResource   = "copilot/users/%s/interactionHistory/getAllEnterpriseInteractions"
)

// settingsOf converts a validated configuration, and fills in the defaults that depend on other keys.
func settingsOf(c *Config) (receiver.Settings, error) {
	cloud, ok := graph.CloudOf(string(c.Cloud))
	if !ok {
		return receiver.Settings{}, oneOf("cloud", c.Cloud)
	}
	public, err := url.Parse(c.Subscription.NotificationURL)
	if err != nil {
		return receiver.Settings{}, fmt.Errorf("subscription.notification_url: %w", err)
	}
	tenant := strings.ToLower(c.TenantID)
	client := c.Graph
	client.Endpoint = orDefault(withoutVersion(client.Endpoint), cloud.Endpoint)
	authority := orDefault(withoutTenant(c.Auth.Authority, tenant), cloud.Authority)

	return receiver.Settings{
		TenantID:         tenant,
		ClientID:         strings.ToLower(c.Auth.ClientID),
		Issuers:          orDefaults(c.Auth.Issuers, cloud.Issuers(tenant)),
		Audiences:        orDefaults(c.Auth.Audiences, []string{c.Auth.ClientID}),
		JWKSURL:          graph.KeysURL(authority),
		Graph:            client,
		Credential:       c.credential(client.Endpoint, authority),
		Resources:        c.Subscription.resources(),
		ChangeTypes:      slices.Clone(c.Subscription.ChangeTypes),
		NotificationURL:  c.Subscription.NotificationURL,
		Lifetime:         c.Subscription.Lifetime,
		CheckInterval:    c.Subscription.CheckInterval,
		ReplaceForeign:   c.Subscription.ReplaceForeign,
		DeleteOnShutdown: c.Subscription.DeleteOnShutdown,
		Webhook:          c.Webhook.ServerConfig,
		WebhookPath:      orDefault(orDefault(c.Webhook.Path, public.Path), "/"),
		AckTimeout:       c.Webhook.AckTimeout,
		MaxInFlightBytes: c.Webhook.MaxInFlightBytes,
		Certificates:     c.Encryption.certificates(),
		Storage:          c.Storage,
		Window:           c.Dedupe.Window,
		MaxEntries:       c.Dedupe.MaxEntries,
		History:          c.history(),
		CaptureText:      c.Content.Capture == CaptureText,
		References:       c.Content.References,
		MetricsInterval:  c.Metrics.Interval,
	}, nil
}

func (c *Config) history() receiver.History {
	users := c.History.Users
	if len(users) == 0 {
		users = c.Subscription.Users
	}
	return receiver.History{
		Enabled:           c.History.Enabled,
		Lookback:          c.History.Lookback,
		MaxGap:            c.History.MaxGap,
		PollInterval:      c.History.PollInterval,
		ReconcileInterval: c.reconcileInterval(),
		ReconcileDelay:    c.History.Reconcile.Delay,
		Replay:            c.History.replay(),
		Users:             slices.Clone(users),
		RequestsPerSecond: c.History.RequestsPerSecond,
		Concurrency:       c.History.Concurrency,
	}
}

// cannotReconcile returns why the history can't be compared with what was delivered, and "" if it can.
func (c *Config) cannotReconcile() string {
	switch {
	case c.Subscription.NotificationURL == "":
		return "without subscription.notification_url there is nothing to compare the history with"
	case !c.History.Enabled:
		return "history.enabled: false forbids reading the history"
	default:
		return ""
	}
}

// reconcileInterval returns 0 if reconciliation is off.
func (c *Config) reconcileInterval() time.Duration {
	switch interval := c.History.Reconcile.Interval; {
	case c.cannotReconcile() != "":
		return 0
	case interval == nil:
		return defaultReconcileInterval
	default:
		return *interval
	}
}

func (h *HistoryConfig) replay() []receiver.Replay {
	if len(h.Replay) == 0 {
		return nil
	}
	replay := make([]receiver.Replay, len(h.Replay))
	for i, r := range h.Replay {
		replay[i] = receiver.Replay{From: r.From.UTC(), To: r.To.UTC(), Users: slices.Clone(r.Users)}
	}
	return replay
}

// credential returns nil if an authenticator extension gets the tokens.
func (c *Config) credential(endpoint, authority string) *graph.CredentialSettings {
	if c.Graph.Auth.HasValue() {
		return nil
	}
	credential := &graph.CredentialSettings{
		TokenURL:           orDefault(c.Auth.TokenURL, graph.TokenURL(authority, c.TenantID)),
		ClientID:           c.Auth.ClientID,
		AuthStyle:          string(c.Auth.AuthStyle),
		Scope:              orDefault(c.Auth.Scope, graph.DefaultScope(endpoint)),
		Secret:             string(c.Auth.ClientSecret),
		SecretFile:         c.Auth.ClientSecretFile,
		FederatedTokenFile: c.Auth.FederatedTokenFile,
	}
	if certificate := c.Auth.ClientCertificate.Get(); certificate != nil {
		credential.CertFile, credential.KeyFile = certificate.CertFile, certificate.KeyFile
	}
	return credential
}

// withoutTenant removes the tenant from the end of an authority, which Microsoft's authentication libraries expect there:
// https://learn.microsoft.com/entra/identity-platform/msal-client-application-configuration
func withoutTenant(authority, tenant string) string {
	authority = strings.TrimRight(authority, "/")
	if root := len(authority) - len("/"+tenant); tenant != "" && root > 0 && strings.EqualFold(authority[root:], "/"+tenant) {
		return authority[:root]
	}
	return authority
}

// withoutVersion removes the version from the end of a Graph endpoint, as Microsoft's documents often write it.
func withoutVersion(endpoint string) string {
	return strings.TrimRight(strings.TrimSuffix(strings.TrimRight(endpoint, "/"), "/v1.0"), "/")
}

func (s *SubscriptionConfig) resources() []string {
	if s.NotificationURL == "" {
		return nil
	}
	if len(s.Users) == 0 {
		return []string{tenantResource}
	}
	resources := make([]string, len(s.Users))
	for i, user := range s.Users {
		resources[i] = fmt.Sprintf(userResource, url.PathEscape(user))
	}
	return resources
}

func (e *EncryptionConfig) certificates() []receiver.Certificate {
	certificates := make([]receiver.Certificate, len(e.Certificates))
	for i, c := range e.Certificates {
		certificates[i] = receiver.Certificate{ID: c.ID, CertFile: c.CertFile, KeyFile: c.KeyFile}
	}
	return certificates
}

func orDefault(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}

func orDefaults(values, fallback []string) []string {
	if len(values) == 0 {
		return fallback
	}
	return slices.Clone(values)
}
