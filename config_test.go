// SPDX-License-Identifier: Apache-2.0

package m365copilotreceiver

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/confmaptest"

	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/directory"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadata"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
	"github.com/otelcopilot/m365copilotreceiver/receiver"
)

// Object ids of users, the larger one first.
const (
	anna = "b2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f00"
	ben  = "0d9c8b7a-6f5e-4d3c-8b2a-190807060504"
)

func loadConfig(t *testing.T, file string) *Config {
	t.Helper()
	all, err := confmaptest.LoadConf(filepath.Join("testdata", "config", file))
	require.NoError(t, err)
	sub, err := all.Sub(component.NewID(metadata.Type).String())
	require.NoError(t, err)
	cfg := createDefaultConfig()
	require.NoError(t, sub.Unmarshal(cfg))
	config, ok := cfg.(*Config)
	require.True(t, ok)
	return config
}

func TestSettings_TakeEveryKey(t *testing.T) {
	t.Parallel()
	c := loadConfig(t, "every_key.yaml")
	require.NoError(t, confmap.Validate(c))
	got := c.Settings()

	assert.Equal(t, 12*time.Second, got.Graph.Timeout)
	assert.Equal(t, "http://proxy.example.com:3128", got.Graph.ProxyURL)
	assert.Equal(t, "https://graph.example.com", got.Graph.Endpoint)
	assert.Equal(t, "0.0.0.0:8443", got.Webhook.Config.NetAddr.Endpoint)
	assert.Equal(t, "/etc/copilot/tls.crt", got.Webhook.Config.TLS.Get().CertFile)
	assert.Equal(t, 11*time.Second, got.Webhook.Config.ReadTimeout)
	assert.Equal(t, 6*time.Second, got.Webhook.Config.ReadHeaderTimeout)
	assert.EqualValues(t, 1<<20, got.Webhook.Config.MaxRequestBodySize)

	storage := new(component.MustNewIDWithName("file_storage", "copilot"))
	got.Graph, got.Webhook.Config = createDefaultConfig().(*Config).Graph, createDefaultConfig().(*Config).Webhook.ServerConfig
	assert.Equal(t, receiver.Settings{
		TenantID:  "6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10",
		ClientID:  "1a2b3c4d-5e6f-4a0b-8c1d-2e3f4a5b6c7d",
		Issuers:   []string{"https://sts.example.com/"},
		Audiences: []string{"an-audience"},
		JWKSURL:   "https://login.example.com/common/discovery/v2.0/keys",
		Graph:     got.Graph,
		Credential: &graph.CredentialSettings{
			TokenURL:  "https://login.example.com/token",
			ClientID:  "1A2b3c4d-5e6f-4a0b-8c1d-2e3f4a5b6c7d",
			Scope:     "https://graph.example.com/.default",
			CertFile:  "/etc/copilot/app.crt",
			KeyFile:   "/etc/copilot/app.key",
			AuthStyle: string(AuthStyleBody),
		},
		Subscription: subscription.Settings{
			Resources:       []string{"copilot/users/b2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f00/interactionHistory/getAllEnterpriseInteractions"},
			ChangeTypes:     []string{"created"},
			NotificationURL: "https://copilot.example.com/graph/notifications?replica=1",
			WebhookPath:     "/behind/the/ingress",
			WebhookAddress:  "0.0.0.0:8443",
			Lifetime:        70 * time.Hour,
			CheckInterval:   time.Second,
			ReplaceForeign:  true,
		},
		DeleteOnShutdown: true,
		Webhook: webhook.Settings{
			Config: got.Webhook.Config, Path: "/behind/the/ingress", AckTimeout: 2 * time.Second, MaxInFlightBytes: 32 << 20,
		},
		Certificates: []receiver.Certificate{
			{ID: "2026-12", CertFile: "/etc/copilot/new.crt", KeyFile: "/etc/copilot/new.key"},
			{ID: "2026-11", CertFile: "/etc/copilot/old.crt", KeyFile: "/etc/copilot/old.key"},
		},
		Storage: storage,
		Cache:   dedupe.Settings{Window: 12 * time.Hour, MaxEntries: 5000},
		History: receiver.History{
			Rules: gap.Rules{
				Subscribed: true, CheckInterval: time.Second, Lookback: 48 * time.Hour, MaxGap: 72 * time.Hour,
				ReconcileInterval: 12 * time.Hour, ReconcileDelay: 6 * time.Hour,
				Replays: []gap.Interval{{
					From:  time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC),
					To:    time.Date(2026, 11, 2, 10, 0, 0, 0, time.UTC),
					Users: users(t, "0d9c8b7a-6f5e-4d3c-8b2a-190807060504"),
				}},
			},
			Users: users(t, "0d9c8b7a-6f5e-4d3c-8b2a-190807060504"), RequestsPerSecond: 12.5, Concurrency: 2,
		},
		CaptureText: true,
		References:  true,
		Directory: directory.Settings{
			Lookup: true, ListLicensed: true, CacheTTL: 6 * time.Hour, CacheSize: 2000,
			Properties: []string{"department", "onPremisesSamAccountName", "onPremisesSecurityIdentifier", "onPremisesDomainName"},
		},
		Inventory:       24 * time.Hour,
		ReceivedUsers:   users(t, anna),
		MetricsInterval: 30 * time.Second,
	}, got)
}

func TestConfig_HasDefaults(t *testing.T) {
	t.Parallel()
	c := loadConfig(t, "smallest.yaml")
	require.NoError(t, confmap.Validate(c))
	got := c.Settings()

	assert.Equal(t, "https://graph.microsoft.com", got.Graph.Endpoint)
	assert.Equal(t, 30*time.Second, got.Graph.Timeout)
	assert.Equal(t, "https://login.microsoftonline.com/6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10/oauth2/v2.0/token", got.Credential.TokenURL)
	assert.Equal(t, "https://graph.microsoft.com/.default", got.Credential.Scope)
	assert.Equal(t, "not-a-secret", got.Credential.Secret)
	assert.Equal(t, "https://login.microsoftonline.com/common/discovery/v2.0/keys", got.JWKSURL)
	assert.Equal(t, []string{
		"https://sts.windows.net/6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10/",
		"https://login.microsoftonline.com/6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10/v2.0",
	}, got.Issuers)
	assert.Equal(t, []string{"1a2b3c4d-5e6f-4a0b-8c1d-2e3f4a5b6c7d"}, got.Audiences)
	assert.Equal(t, []string{"copilot/interactionHistory/getAllEnterpriseInteractions"}, got.Subscription.Resources)
	assert.Equal(t, []string{"created", "updated", "deleted"}, got.Subscription.ChangeTypes)
	assert.Equal(t, 71*time.Hour, got.Subscription.Lifetime)
	assert.Equal(t, 5*time.Minute, got.Subscription.CheckInterval)
	assert.False(t, got.Subscription.ReplaceForeign)
	assert.False(t, got.DeleteOnShutdown)
	assert.Equal(t, "localhost:8443", got.Webhook.Config.NetAddr.Endpoint)
	assert.Equal(t, 10*time.Second, got.Webhook.Config.ReadTimeout)
	assert.Equal(t, 5*time.Second, got.Webhook.Config.ReadHeaderTimeout)
	assert.Equal(t, []string{""}, got.Webhook.Config.CompressionAlgorithms)
	assert.EqualValues(t, 20971520, got.Webhook.Config.MaxRequestBodySize)
	assert.Equal(t, "/graph/notifications", got.Webhook.Path)
	assert.Equal(t, 2500*time.Millisecond, got.Webhook.AckTimeout)
	assert.EqualValues(t, 67108864, got.Webhook.MaxInFlightBytes)
	assert.Empty(t, got.Certificates)
	assert.Nil(t, got.Storage, "nothing is written to a disk unless configured")
	assert.Equal(t, 26*time.Hour, got.Cache.Window)
	assert.Equal(t, 1_000_000, got.Cache.MaxEntries)
	assert.Equal(t, receiver.History{
		Rules: gap.Rules{
			Subscribed: true, CheckInterval: 5 * time.Minute, MaxGap: 168 * time.Hour,
			ReconcileInterval: 24 * time.Hour, ReconcileDelay: 330 * time.Minute,
		},
		RequestsPerSecond: 25, Concurrency: 4,
	}, got.History)
	assert.False(t, got.CaptureText, "no text leaves the receiver unless configured")
	assert.False(t, got.References, "no file name or URL leaves the receiver unless configured")
	assert.Equal(t, directory.Settings{CacheTTL: 12 * time.Hour, CacheSize: 100_000}, got.Directory,
		"nothing of a user but the id leaves the receiver unless configured")
	assert.Zero(t, got.Inventory)
	assert.Equal(t, time.Minute, got.MetricsInterval)
}

func TestSettings_EndpointsFollowCloud(t *testing.T) {
	t.Parallel()
	const tenant = "6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10"
	for cloud, want := range map[Cloud]struct {
		endpoint, authority string
		issuers             []string
	}{
		CloudGlobal: {
			"https://graph.microsoft.com", "https://login.microsoftonline.com",
			[]string{"https://sts.windows.net/" + tenant + "/", "https://login.microsoftonline.com/" + tenant + "/v2.0"},
		},
		CloudUSGov: {
			"https://graph.microsoft.us", "https://login.microsoftonline.us",
			[]string{"https://sts.windows.net/" + tenant + "/", "https://login.microsoftonline.us/" + tenant + "/v2.0"},
		},
		CloudUSGovDoD: {
			"https://dod-graph.microsoft.us", "https://login.microsoftonline.us",
			[]string{"https://sts.windows.net/" + tenant + "/", "https://login.microsoftonline.us/" + tenant + "/v2.0"},
		},
		CloudChina: {
			"https://microsoftgraph.chinacloudapi.cn", "https://login.chinacloudapi.cn",
			[]string{"https://sts.chinacloudapi.cn/" + tenant + "/", "https://login.chinacloudapi.cn/" + tenant + "/v2.0", "https://login.partner.microsoftonline.cn/" + tenant + "/v2.0"},
		},
	} {
		t.Run(string(cloud), func(t *testing.T) {
			t.Parallel()
			c := loadConfig(t, "smallest.yaml")
			c.Cloud = cloud
			got := c.Settings()
			assert.Equal(t, want.endpoint, got.Graph.Endpoint)
			assert.Equal(t, want.endpoint+"/.default", got.Credential.Scope)
			assert.Equal(t, want.authority+"/"+tenant+"/oauth2/v2.0/token", got.Credential.TokenURL)
			assert.Equal(t, want.authority+"/common/discovery/v2.0/keys", got.JWKSURL)
			assert.Equal(t, want.issuers, got.Issuers)
		})
	}
}

func TestSettings_CustomAuthorityKeepsIssuers(t *testing.T) {
	t.Parallel()
	c := loadConfig(t, "smallest.yaml")
	c.Auth.Authority = "https://login.example.com/"
	got := c.Settings()
	assert.Equal(t, "https://login.example.com/common/discovery/v2.0/keys", got.JWKSURL)
	assert.Equal(t, "https://sts.windows.net/6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10/", got.Issuers[0])
}

func TestSettings_PollsWithoutNotificationURL(t *testing.T) {
	t.Parallel()
	c := loadConfig(t, "history_only.yaml")
	require.NoError(t, confmap.Validate(c))
	got := c.Settings()
	assert.Empty(t, got.Subscription.Resources)
	assert.Equal(t, 5*time.Minute, got.History.Rules.PollInterval)
	assert.False(t, got.History.Rules.Subscribed)
	assert.Zero(t, got.History.Rules.ReconcileInterval, "there is nothing to compare the history with")
}

func TestSettings_ReconcileIntervalDependsOnOtherKeys(t *testing.T) {
	t.Parallel()
	const unset = -1
	for name, test := range map[string]struct {
		interval time.Duration
		change   func(*Config)
		want     time.Duration
	}{
		"unset, with a subscription and history":   {unset, func(*Config) {}, 24 * time.Hour},
		"unset, where the history is not read":     {unset, func(c *Config) { c.History.Enabled = false }, 0},
		"0s turns it off":                          {0, func(*Config) {}, 0},
		"0s is accepted where it is off anyway":    {0, func(c *Config) { c.History.Enabled = false }, 0},
		"an interval of its own":                   {time.Second, func(*Config) {}, time.Second},
		"it needs no storage":                      {time.Hour, func(c *Config) { c.Storage = nil }, time.Hour},
		"users of their own change nothing":        {unset, func(c *Config) { c.Subscription.Users = []string{anna} }, 24 * time.Hour},
		"an interval that is longer than the rest": {1000 * time.Hour, func(*Config) {}, 1000 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := loadConfig(t, "smallest.yaml")
			if test.interval != unset {
				c.History.Reconcile.Interval = &test.interval
			}
			test.change(c)
			require.NoError(t, confmap.Validate(c))
			got := c.Settings()
			assert.Equal(t, test.want, got.History.Rules.ReconcileInterval)
		})
	}
}

// TestConfig_ReadsReconcileInterval reads YAML, in which no value is not the same as 0s.
func TestConfig_ReadsReconcileInterval(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]*time.Duration{
		"{}":                                      nil,
		"{history: {reconcile: {delay: 6h}}}":     nil,
		"{history: {reconcile: {interval: }}}":    nil,
		"{history: {reconcile: {interval: 0s}}}":  new(time.Duration(0)),
		"{history: {reconcile: {interval: 0}}}":   new(time.Duration(0)),
		"{history: {reconcile: {interval: 36h}}}": new(36 * time.Hour),
	} {
		retrieved, err := confmap.NewRetrievedFromYAML([]byte(text))
		require.NoError(t, err)
		conf, err := retrieved.AsConf()
		require.NoError(t, err)
		c := createDefaultConfig().(*Config)
		require.NoError(t, conf.Unmarshal(c), text)
		assert.Equal(t, want, c.History.Reconcile.Interval, text)
		printed := confmap.New()
		require.NoError(t, printed.Marshal(c), text)
	}
}

func TestSettings_HistoryUsersDefaultToSubscription(t *testing.T) {
	t.Parallel()
	c := loadConfig(t, "smallest.yaml")
	c.Subscription.Users = []string{anna, ben}
	assert.Equal(t, users(t, ben, anna), c.Settings().History.Users, "in order")
}

func TestSettings_DirectoryProperties(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		identity string
		want     []string
	}{
		"without directory none are read":        {"{directory_properties: [department]}", nil},
		"by default none of Active Directory":    {"{directory: true}", []string{"userPrincipalName", "displayName", "department", "officeLocation", "country", "jobTitle", "companyName"}},
		"a list replaces the default":            {"{directory: true, directory_properties: [country]}", []string{"country"}},
		"an empty list leaves the license alone": {"{directory: true, directory_properties: []}", []string{}},
		"an inventory alone needs none":          {"{inventory: 24h}", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			retrieved, err := confmap.NewRetrievedFromYAML([]byte("{identity: " + test.identity + "}"))
			require.NoError(t, err)
			conf, err := retrieved.AsConf()
			require.NoError(t, err)
			c := loadConfig(t, "smallest.yaml")
			require.NoError(t, conf.Unmarshal(c))
			require.NoError(t, confmap.Validate(c))
			assert.Equal(t, test.want, c.Settings().Directory.Properties)
		})
	}
}

// The inventory is of the users whose prompts are received: of others it would say that they never prompt.
func TestSettings_InventoryIsOfReceivedUsers(t *testing.T) {
	t.Parallel()
	polled := func(c *Config) { c.Subscription.NotificationURL = "" }
	for name, test := range map[string]struct {
		subscribed, history []string
		change              func(*Config)
		want                []gap.User
	}{
		"all users":                             {},
		"those subscribed to":                   {subscribed: []string{ben, anna}, want: users(t, ben, anna)},
		"all users where gaps of some are read": {history: []string{anna}},
		"those subscribed to, not of history":   {subscribed: []string{ben}, history: []string{anna}, want: users(t, ben)},
		"all users that are polled":             {change: polled},
		"those polled":                          {history: []string{anna}, change: polled, want: users(t, anna)},
		"those polled by another setting":       {subscribed: []string{ben}, change: polled, want: users(t, ben)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := loadConfig(t, "smallest.yaml")
			c.Identity.Inventory, c.Subscription.Users, c.History.Users = 24*time.Hour, test.subscribed, test.history
			if test.change != nil {
				test.change(c)
			}
			s := c.Settings()
			assert.Equal(t, 24*time.Hour, s.Inventory)
			assert.Equal(t, test.want, s.ReceivedUsers)
		})
	}
}

func TestSettings_GapRulesFollowConfig(t *testing.T) {
	t.Parallel()
	c := loadConfig(t, "smallest.yaml")
	c.History.Enabled = false
	c.History.Replay = []ReplayConfig{{From: noon(), To: noon().Add(time.Hour)}, {From: noon(), To: noon().Add(time.Hour), Users: []string{anna, ben, anna}}}
	rules := c.Settings().History.Rules
	assert.True(t, rules.Disabled)
	assert.Equal(t, []gap.Interval{
		{From: noon(), To: noon().Add(time.Hour)},
		{From: noon(), To: noon().Add(time.Hour), Users: users(t, ben, anna)},
	}, rules.Replays)
}

func users(t *testing.T, ids ...string) []gap.User {
	t.Helper()
	users := make([]gap.User, len(ids))
	for i, id := range ids {
		var ok bool
		users[i], ok = gap.ParseUser(id)
		require.True(t, ok, id)
	}
	return users
}
