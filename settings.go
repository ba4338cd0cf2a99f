// SPDX-License-Identifier: Apache-2.0

package m365copilotreceiver

import (
	"cmp"
	"fmt"
	"net/url"
	"path"
	"strings"

	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/directory"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
	"github.com/otelcopilot/m365copilotreceiver/receiver"
)

// The resources that a subscription can watch:
// https://learn.microsoft.com/microsoft-365/copilot/extensibility/api/ai-services/change-notifications/aiinteraction-changenotifications
const (
	tenantResource = "copilot/interactionHistory/getAllEnterpriseInteractions"
	userResource   = "copilot/users/%s/interactionHistory/getAllEnterpriseInteractions"
)

// Settings converts a validated configuration, and fills in the defaults that depend on other keys.
func (c *Config) Settings() receiver.Settings {
	cloud, _ := graph.CloudOf(string(c.Cloud))
	public, err := url.Parse(c.Subscription.NotificationURL)
	if err != nil {
		public = &url.URL{}
	}
	webhookPath := cmp.Or(c.Webhook.Path, public.Path, "/")
	tenant := strings.ToLower(c.TenantID)
	client := c.Graph
	client.Endpoint = cmp.Or(withoutVersion(client.Endpoint), cloud.Endpoint)
	authority := cmp.Or(withoutTenant(c.Auth.Authority, tenant), cloud.Authority)
	s := receiver.Settings{
		TenantID:   tenant,
		ClientID:   strings.ToLower(c.Auth.ClientID),
		Issuers:    orDefault(c.Auth.Issuers, cloud.Issuers(tenant)),
		Audiences:  orDefault(c.Auth.Audiences, []string{c.Auth.ClientID}),
		JWKSURL:    graph.KeysURL(authority),
		Graph:      client,
		Credential: c.credential(client.Endpoint, authority),
		Subscription: subscription.Settings{
			Resources:       c.Subscription.resources(),
			ChangeTypes:     c.Subscription.ChangeTypes,
			NotificationURL: c.Subscription.NotificationURL,
			WebhookPath:     webhookPath,
			WebhookAddress:  c.Webhook.ServerConfig.NetAddr.Endpoint,
			Lifetime:        c.Subscription.Lifetime,
			CheckInterval:   c.Subscription.CheckInterval,
			ReplaceForeign:  c.Subscription.ReplaceForeign,
		},
		DeleteOnShutdown: c.Subscription.DeleteOnShutdown,
		Webhook: webhook.Settings{
			Config: c.Webhook.ServerConfig, Path: webhookPath, AckTimeout: c.Webhook.AckTimeout, MaxInFlightBytes: c.Webhook.MaxInFlightBytes,
		},
		Storage: c.Storage,
		Cache:   dedupe.Settings{Window: c.Dedupe.Window, MaxEntries: c.Dedupe.MaxEntries},
		History: receiver.History{
			Rules:             c.gapRules(),
			Users:             gapUsers(orDefault(c.History.Users, c.Subscription.Users)),
			RequestsPerSecond: c.History.RequestsPerSecond,
			Concurrency:       c.History.Concurrency,
		},
		CaptureText: c.Content.Capture == CaptureText,
		References:  c.Content.References,
		Directory: directory.Settings{
			ListLicensed: c.Identity.Inventory > 0, Lookup: c.Identity.Directory,
			CacheTTL: c.Identity.CacheTTL, CacheSize: c.Identity.CacheSize,
		},
		Inventory:       c.Identity.Inventory,
		ReceivedUsers:   gapUsers(c.Subscription.Users),
		MetricsInterval: c.Metrics.Interval,
	}
	if c.Subscription.NotificationURL == "" {
		s.ReceivedUsers = s.History.Users
	}
	if s.Directory.Lookup {
		s.Directory.Properties = c.Identity.DirectoryProperties
	}
	for _, certificate := range c.Encryption.Certificates {
		s.Certificates = append(s.Certificates, receiver.Certificate(certificate))
	}
	return s
}

func (c *Config) gapRules() gap.Rules {
	h := &c.History
	rules := gap.Rules{
		Subscribed: c.Subscription.NotificationURL != "", Disabled: !h.Enabled, CheckInterval: c.Subscription.CheckInterval,
		MaxGap: h.MaxGap, Lookback: h.Lookback, PollInterval: h.PollInterval, ReconcileDelay: h.Reconcile.Delay,
	}
	if c.canReconcile() {
		rules.ReconcileInterval = *cmp.Or(h.Reconcile.Interval, new(defaultReconcileInterval))
	}
	for _, replay := range h.Replay {
		rules.Replays = append(rules.Replays, gap.Interval{From: replay.From.UTC(), To: replay.To.UTC(), Users: gapUsers(replay.Users)})
	}
	return rules
}

// canReconcile reports whether there are notifications that the history can be compared with, and whether it may be read.
func (c *Config) canReconcile() bool {
	return c.Subscription.NotificationURL != "" && c.History.Enabled
}

// gapUsers converts validated object ids, in order.
func gapUsers(ids []string) []gap.User {
	var users []gap.User
	for _, id := range ids {
		if user, ok := gap.ParseUser(id); ok {
			users = append(users, user)
		}
	}
	return gap.SortUsers(users)
}

// credential returns nil if an authenticator extension gets the tokens.
func (c *Config) credential(endpoint, authority string) *graph.CredentialSettings {
	if c.Graph.Auth.HasValue() {
		return nil
	}
	certificate := cmp.Or(c.Auth.ClientCertificate.Get(), &ClientCertificateConfig{})
	return &graph.CredentialSettings{
		TokenURL:           cmp.Or(c.Auth.TokenURL, graph.TokenURL(authority, c.TenantID)),
		ClientID:           c.Auth.ClientID,
		AuthStyle:          string(c.Auth.AuthStyle),
		Scope:              cmp.Or(c.Auth.Scope, graph.DefaultScope(endpoint)),
		Secret:             string(c.Auth.ClientSecret),
		SecretFile:         c.Auth.ClientSecretFile,
		CertFile:           certificate.CertFile,
		KeyFile:            certificate.KeyFile,
		FederatedTokenFile: c.Auth.FederatedTokenFile,
	}
}

// resources returns nil if the history is polled instead.
func (s *SubscriptionConfig) resources() []string {
	if s.NotificationURL == "" {
		return nil
	}
	if len(s.Users) == 0 {
		return []string{tenantResource}
	}
	var resources []string
	for _, user := range s.Users {
		// The client state is derived from the resource, and Graph's subscription is ours in any case of the id.
		resources = append(resources, fmt.Sprintf(userResource, strings.ToLower(user)))
	}
	return resources
}

// withoutTenant removes the tenant from the end of an authority, which Microsoft's authentication libraries expect there:
// https://learn.microsoft.com/entra/identity-platform/msal-client-application-configuration
func withoutTenant(authority, tenant string) string {
	authority = strings.TrimRight(authority, "/")
	if root, last := path.Split(authority); strings.EqualFold(last, tenant) {
		return strings.TrimRight(root, "/")
	}
	return authority
}

// withoutVersion removes the version from the end of a Graph endpoint, as Microsoft's documents often write it.
func withoutVersion(endpoint string) string {
	return strings.TrimRight(strings.TrimSuffix(strings.TrimRight(endpoint, "/"), "/v1.0"), "/")
}

func orDefault(values, fallback []string) []string {
	if len(values) == 0 {
		return fallback
	}
	return values
}
