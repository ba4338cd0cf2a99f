// SPDX-License-Identifier: Apache-2.0

package m365copilotreceiver

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configauth"
	"go.opentelemetry.io/collector/config/confignet"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/config/configtls"
	"go.opentelemetry.io/collector/confmap"

	"github.com/otelcopilot/m365copilotreceiver/internal/privacy"
)

// invalidConfig is a change to a valid configuration that makes it invalid, with what the error contains.
type invalidConfig struct {
	change func(*Config)
	want   []string
}

func invalidConfigs() map[string]invalidConfig {
	return map[string]invalidConfig{
		"a tenant id is required":             {func(c *Config) { c.TenantID = "" }, []string{"tenant_id: ", "GUID"}},
		"a tenant id is a GUID, not a domain": {func(c *Config) { c.TenantID = "contoso.com" }, []string{"tenant_id: ", "GUID", "contoso.com"}},
		"there are four clouds":               {func(c *Config) { c.Cloud = "mars" }, []string{"cloud: ", "global, us_gov, us_gov_dod, china", "mars"}},
		"a client id is required":             {func(c *Config) { c.Auth.ClientID = "" }, []string{"auth.client_id: ", "app registration"}},
		"a credential is required":            {func(c *Config) { c.Auth.ClientSecret = "" }, []string{"auth: ", "client_secret_file", "graph.auth"}},
		"two credentials exclude each other":  {func(c *Config) { c.Auth.ClientSecretFile = "/f" }, []string{"auth.client_secret and auth.client_secret_file", "keep one"}},
		"an authenticator excludes a secret":  {func(c *Config) { c.Graph.Auth = authenticator() }, []string{"auth.client_secret and graph.auth", "keep one"}},
		"a client certificate needs both": {func(c *Config) {
			c.Auth.ClientSecret, c.Auth.ClientCertificate = "", configoptional.Some(ClientCertificateConfig{})
		}, []string{"auth.client_certificate.cert_file: ", "auth.client_certificate.key_file: "}},
		"an auth style is header or body":      {func(c *Config) { c.Auth.AuthStyle = "cookie" }, []string{"auth.auth_style: ", "header, body"}},
		"an authority is https":                {func(c *Config) { c.Auth.Authority = "http://login.example.com" }, []string{"auth.authority: ", "https"}},
		"a token URL is https":                 {func(c *Config) { c.Auth.TokenURL = "http://10.0.0.1/token" }, []string{"auth.token_url: ", "https"}},
		"a token URL is a full URL":            {func(c *Config) { c.Auth.TokenURL = "login.example.com" }, []string{"auth.token_url: ", "full https URL"}},
		"an empty issuer matches nothing":      {func(c *Config) { c.Auth.Issuers = []string{""} }, []string{"auth.issuers: ", "empty entry"}},
		"an empty audience matches nothing":    {func(c *Config) { c.Auth.Audiences = []string{"a", ""} }, []string{"auth.audiences: ", "empty entry"}},
		"the Graph endpoint is https":          {func(c *Config) { c.Graph.Endpoint = "http://graph.microsoft.com" }, []string{"graph.endpoint: ", "https"}},
		"a proxy is a URL":                     {func(c *Config) { c.Graph.ProxyURL = "proxy.example.com:3128" }, []string{"graph.proxy_url: ", "http://proxy"}},
		"a proxy has a host":                   {func(c *Config) { c.Graph.ProxyURL = "http://:3128" }, []string{"graph.proxy_url: "}},
		"Graph calls have a timeout":           {func(c *Config) { c.Graph.Timeout = 0 }, []string{"graph.timeout: "}},
		"a notification URL is required":       {func(c *Config) { c.Subscription.NotificationURL = "" }, []string{"subscription.notification_url: ", "https://"}},
		"a notification URL is https":          {func(c *Config) { c.Subscription.NotificationURL = "http://copilot.example.com/n" }, []string{"subscription.notification_url: ", "https"}},
		"a notification URL has no user":       {func(c *Config) { c.Subscription.NotificationURL = "https://me@copilot.example.com/n" }, []string{"subscription.notification_url: ", "user name"}},
		"a user is named by object id":         {func(c *Config) { c.Subscription.Users = []string{"jo@contoso.com"} }, []string{"subscription.users[0]: ", "object id"}},
		"a user of the history too":            {func(c *Config) { c.History.Users = []string{anna, "jo@contoso.com"} }, []string{"history.users[1]: ", "object id"}},
		"the default body must fit":            {func(c *Config) { c.Webhook.MaxInFlightBytes, c.Webhook.ServerConfig.MaxRequestBodySize = 1<<20, -1 }, []string{"webhook.max_in_flight_bytes: ", "23967452"}},
		"a user is a GUID":                     {func(c *Config) { c.Subscription.Users = []string{"jo"} }, []string{"subscription.users[0]: ", "GUID"}},
		"a user is not a path":                 {func(c *Config) { c.Subscription.Users = []string{"x/../evil?q=1#f"} }, []string{"subscription.users[0]: "}},
		"a user of the history is listed once": {func(c *Config) { c.History.Users = []string{anna, strings.ToUpper(anna)} }, []string{"history.users[1]: ", "twice"}},
		"compressed bodies are refused":        {func(c *Config) { c.Webhook.ServerConfig.CompressionAlgorithms = []string{"", "gzip"} }, []string{"webhook.compression_algorithms: "}},
		"an empty user is a mistake":           {func(c *Config) { c.Subscription.Users = []string{""} }, []string{"subscription.users[0]: ", "object id"}},
		"a user is listed once":                {func(c *Config) { c.Subscription.Users = []string{ben, strings.ToUpper(ben)} }, []string{"subscription.users[1]: ", "twice"}},
		"some change type is needed":           {func(c *Config) { c.Subscription.ChangeTypes = nil }, []string{"subscription.change_types: ", "at least one"}},
		"there are three change types":         {func(c *Config) { c.Subscription.ChangeTypes = []string{"created", "read"} }, []string{"subscription.change_types: ", "read"}},
		"a change type is listed once":         {func(c *Config) { c.Subscription.ChangeTypes = []string{"created", "created"} }, []string{"subscription.change_types: ", "at most once"}},
		"a lifetime is at most 72h":            {func(c *Config) { c.Subscription.Lifetime = 73 * time.Hour }, []string{"subscription.lifetime: ", "72h"}},
		"a lifetime is positive":               {func(c *Config) { c.Subscription.Lifetime = -time.Hour }, []string{"subscription.lifetime: "}},
		"a check interval is at least 1s":      {func(c *Config) { c.Subscription.CheckInterval = time.Millisecond }, []string{"subscription.check_interval: ", "from 1s to 1h"}},
		"a check interval is at most 1h":       {func(c *Config) { c.Subscription.CheckInterval = time.Hour + 1 }, []string{"subscription.check_interval: ", "from 1s to 1h"}},
		"a webhook endpoint has a port":        {func(c *Config) { c.Webhook.ServerConfig.NetAddr.Endpoint = "localhost" }, []string{"webhook.endpoint: ", "host:port"}},
		"a public webhook needs TLS":           {func(c *Config) { c.Webhook.ServerConfig.NetAddr.Endpoint = "0.0.0.0:8443" }, []string{"webhook.endpoint: ", "webhook.tls", "tls_terminated_upstream: true"}},
		"all interfaces are not loopback":      {func(c *Config) { c.Webhook.ServerConfig.NetAddr.Endpoint = ":8443" }, []string{"webhook.endpoint: ", "tls_terminated_upstream: true"}},
		"a path begins with a slash":           {func(c *Config) { c.Webhook.Path = "graph" }, []string{"webhook.path: ", "begins with /"}},
		"an answer is given within 3s":         {func(c *Config) { c.Webhook.AckTimeout = 3 * time.Second }, []string{"webhook.ack_timeout: ", "to 2.999s", "Graph waits 3s"}},
		"an answer takes some time":            {func(c *Config) { c.Webhook.AckTimeout = 0 }, []string{"webhook.ack_timeout: "}},
		"some bytes must be allowed":           {func(c *Config) { c.Webhook.MaxInFlightBytes = 0 }, []string{"webhook.max_in_flight_bytes: ", "at least 23967452"}},
		"the smallest body must fit": {func(c *Config) {
			c.Webhook.MaxInFlightBytes, c.Webhook.ServerConfig.MaxRequestBodySize = 4000, 3000
		}, []string{"webhook.max_in_flight_bytes: ", "7096"}},
		"a webhook listens at a known port":    {func(c *Config) { c.Webhook.ServerConfig.NetAddr.Endpoint = "localhost:" }, []string{"webhook.endpoint: ", "localhost:8443"}},
		"requests per second are a number":     {func(c *Config) { c.History.RequestsPerSecond = math.NaN() }, []string{"history.requests_per_second: "}},
		"the largest body must fit":            {func(c *Config) { c.Webhook.MaxInFlightBytes = 1 << 20 }, []string{"webhook.max_in_flight_bytes: ", "webhook.max_request_body_size"}},
		"an encryption certificate needs both": {func(c *Config) { c.Encryption.Certificates = []CertificateConfig{{}} }, []string{"encryption.certificates[0].cert_file: ", "encryption.certificates[0].key_file: "}},
		"an encryption certificate's id is short": {func(c *Config) {
			c.Encryption.Certificates = []CertificateConfig{{ID: strings.Repeat("x", 112), CertFile: "c", KeyFile: "k"}}
		}, []string{"encryption.certificates[0].id: ", "111"}},
		"an encryption certificate is listed once": {func(c *Config) {
			c.Encryption.Certificates = []CertificateConfig{{CertFile: "c", KeyFile: "k"}, {CertFile: "c", KeyFile: "k"}}
		}, []string{"encryption.certificates[1].cert_file: ", "twice"}},
		"history is read backwards":               {func(c *Config) { c.History.Lookback = -time.Hour }, []string{"history.lookback", "0s"}},
		"history is polled at least every second": {func(c *Config) { c.History.PollInterval = time.Millisecond }, []string{"history.poll_interval", "1s"}},
		"an import needs storage":                 {func(c *Config) { c.History.Lookback = time.Hour }, []string{"history.lookback", "storage", "file_storage"}},
		"polling needs storage":                   {func(c *Config) { c.History.PollInterval = time.Minute }, []string{"history.poll_interval", "storage"}},
		"polling needs history": {func(c *Config) {
			c.History.PollInterval, c.History.Enabled, c.Storage = time.Minute, false, new(component.MustNewID("file_storage"))
		}, []string{"history.enabled: "}},
		"a poll beside a subscription is refused": {func(c *Config) {
			c.History.PollInterval, c.Storage = time.Minute, new(component.MustNewID("file_storage"))
		}, []string{"history.poll_interval: ", "history.reconcile.interval"}},
		"a poll is required without a subscription": {func(c *Config) { c.Subscription.NotificationURL = "" }, []string{"history.poll_interval", "5m"}},
		"reconciliations are at least 1s apart":     {func(c *Config) { c.History.Reconcile.Interval = new(time.Millisecond) }, []string{"history.reconcile.interval: ", "1s", "0s"}},
		"a reconciliation interval is not negative": {func(c *Config) { c.History.Reconcile.Interval = new(-time.Hour) }, []string{"history.reconcile.interval: ", "0s"}},
		"a reconciliation delay is at least 1s":     {func(c *Config) { c.History.Reconcile.Delay = 0 }, []string{"history.reconcile.delay: ", "1s"}},
		"a reconciliation needs a subscription":     {func(c *Config) { c.History.Reconcile.Interval, c.Subscription.NotificationURL = new(time.Hour), "" }, []string{"history.reconcile.interval: remove this key, or write 0s", "needs subscription.notification_url"}},
		"a reconciliation needs the history":        {func(c *Config) { c.History.Reconcile.Interval, c.History.Enabled = new(time.Hour), false }, []string{"history.reconcile.interval: remove this key, or write 0s", "history.enabled"}},
		"a replay needs storage":                    {replays(ReplayConfig{From: noon(), To: noon().Add(1)}), []string{"history.replay: ", "storage", "file_storage"}},
		"a replay needs history": {func(c *Config) {
			replays(ReplayConfig{From: noon(), To: noon().Add(1)})(c)
			c.History.Enabled, c.Storage = false, new(component.MustNewID("file_storage"))
		}, []string{"history.replay: ", "history.enabled: true"}},
		"a replay begins and ends":                  {replays(ReplayConfig{From: noon(), To: noon().Add(1)}, ReplayConfig{}), []string{"history.replay[1].from: write a time such as 2026-", "history.replay[1].to: write a time such as 2026-"}},
		"a replay ends after it begins":             {replays(ReplayConfig{From: noon(), To: noon()}), []string{"history.replay[0].to: ", "after from"}},
		"a replay names users by object id":         {replays(ReplayConfig{From: noon(), To: noon().Add(1), Users: []string{"jo@contoso.com"}}), []string{"history.replay[0].users[0]: ", "object id"}},
		"a maximum gap is positive":                 {func(c *Config) { c.History.MaxGap = 0 }, []string{"history.max_gap: "}},
		"an empty user of the history is a mistake": {func(c *Config) { c.History.Users = []string{""} }, []string{"history.users[0]: "}},
		"some requests must be allowed":             {func(c *Config) { c.History.RequestsPerSecond = 0 }, []string{"history.requests_per_second: ", "25"}},
		"a concurrency is at least 1":               {func(c *Config) { c.History.Concurrency = 0 }, []string{"history.concurrency: ", "4"}},
		"a dedupe window is positive":               {func(c *Config) { c.Dedupe.Window = 0 }, []string{"dedupe.window: "}},
		"dedupe entries have a maximum":             {func(c *Config) { c.Dedupe.MaxEntries = 1 << 30 }, []string{"dedupe.max_entries: ", "10000000"}},
		"some dedupe entry is allowed":              {func(c *Config) { c.Dedupe.MaxEntries = 0 }, []string{"dedupe.max_entries: ", "1000000"}},
		"content is captured as none or text":       {func(c *Config) { c.Content.Capture = "all" }, []string{"content.capture: ", "none, text"}},
		"a directory property is one of Graph's": {func(c *Config) { c.Identity.DirectoryProperties = []string{"department", "mail"} }, []string{
			"identity.directory_properties[1]: ", "userPrincipalName, displayName, department", "onPremisesDomainName, not \"mail\"",
		}},
		"a directory property has Graph's spelling": {func(c *Config) { c.Identity.DirectoryProperties = []string{"JobTitle"} }, []string{"identity.directory_properties[0]: ", "jobTitle", "\"JobTitle\""}},
		"a directory property is listed once": {func(c *Config) { c.Identity.DirectoryProperties = []string{"country", "jobTitle", "country"} }, []string{
			"identity.directory_properties[2]: ", "\"country\" is listed twice",
		}},
		"an inventory takes a second at least": {func(c *Config) { c.Identity.Inventory = 24 }, []string{"identity.inventory: ", "0s for none, or a duration of at least 1s", "24ns"}},
		"a directory is not read all the time": {func(c *Config) { c.Identity.CacheTTL = 0 }, []string{"identity.cache_ttl: ", "1s"}},
		"some user of the directory is kept":   {func(c *Config) { c.Identity.CacheSize = 0 }, []string{"identity.cache_size: ", "100000"}},
		"a metrics interval is at least 1s":    {func(c *Config) { c.Metrics.Interval = 0 }, []string{"metrics.interval: ", "1s"}},
		"the Collector's own rules count too":  {func(c *Config) { c.Webhook.ServerConfig.TLS = configoptional.Some(configtls.NewDefaultServerConfig()) }, []string{"webhook", "tls"}},
	}
}

func TestValidate_ErrorNamesPathAndFix(t *testing.T) {
	t.Parallel()
	for name, test := range invalidConfigs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := loadConfig(t, "smallest.yaml")
			test.change(c)
			err := confmap.Validate(c)
			require.Error(t, err)
			for _, want := range test.want {
				require.ErrorContains(t, err, want)
			}
			assert.NotContains(t, err.Error(), "not-a-secret")
		})
	}
}

func noon() time.Time { return time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC) }

func replays(entries ...ReplayConfig) func(*Config) {
	return func(c *Config) { c.History.Replay = entries }
}

func authenticator() configoptional.Optional[configauth.Config] {
	return configoptional.Some(configauth.Config{AuthenticatorID: component.MustNewID("oauth2client")})
}

func TestValidate_ReportsEveryProblem(t *testing.T) {
	t.Parallel()
	c := loadConfig(t, "smallest.yaml")
	c.TenantID, c.Auth.ClientID, c.Auth.ClientSecret, c.Subscription.NotificationURL, c.Content.Capture = "", "", "", "", "?"
	err := confmap.Validate(c)
	for _, want := range []string{"tenant_id", "auth.client_id", "auth: ", "subscription.notification_url", "content.capture"} {
		assert.ErrorContains(t, err, want)
	}
}

// validConfigs are changes to a valid configuration after which it is valid as well.
func validConfigs() map[string]func(*Config) {
	return map[string]func(*Config){
		"a secret in a file":           func(c *Config) { c.Auth.ClientSecret, c.Auth.ClientSecretFile = "", "/run/secrets/graph" },
		"a federated token":            func(c *Config) { c.Auth.ClientSecret, c.Auth.FederatedTokenFile = "", "/var/run/token" },
		"an authenticator extension":   func(c *Config) { c.Auth.ClientSecret, c.Graph.Auth = "", authenticator() },
		"loopback without TLS":         func(c *Config) { c.Webhook.ServerConfig.NetAddr.Endpoint = "127.0.0.1:8443" },
		"loopback of IPv6 without TLS": func(c *Config) { c.Webhook.ServerConfig.NetAddr.Endpoint = "[::1]:8443" },
		"TLS that is terminated upstream": func(c *Config) {
			c.Webhook.ServerConfig.NetAddr.Endpoint, c.Webhook.TLSTerminatedUpstream = "0.0.0.0:8443", true
		},
		"Microsoft's services on loopback": func(c *Config) {
			c.Graph.Endpoint, c.Auth.Authority, c.Auth.TokenURL = "http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1/token"
		},
		"a second for every interval":                func(c *Config) { c.Subscription.CheckInterval, c.Metrics.Interval = time.Second, time.Second },
		"a second for each time of a reconciliation": func(c *Config) { c.History.Reconcile = ReconcileConfig{Interval: new(time.Second), Delay: time.Second} },
		"every property of the directory": func(c *Config) {
			c.Identity.Directory, c.Identity.DirectoryProperties = true, privacy.PropertyNames()
		},
		"no property of the directory":          func(c *Config) { c.Identity.Directory, c.Identity.DirectoryProperties = true, []string{} },
		"a second for each time of identity":    func(c *Config) { c.Identity.Inventory, c.Identity.CacheTTL = time.Second, time.Second },
		"an inventory without other properties": func(c *Config) { c.Identity.Inventory = 24 * time.Hour },
		"an inventory of a pilot group": func(c *Config) {
			c.Identity.Inventory, c.Subscription.Users = 24*time.Hour, []string{anna}
		},
		"replays with storage": func(c *Config) {
			replays(ReplayConfig{From: noon(), To: noon().Add(time.Second)}, ReplayConfig{From: noon(), To: noon().Add(time.Second), Users: []string{anna}})(c)
			c.Storage = new(component.MustNewID("file_storage"))
		},
	}
}

func TestValidate_AcceptsValidConfig(t *testing.T) {
	t.Parallel()
	for name, change := range validConfigs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := loadConfig(t, "smallest.yaml")
			change(c)
			assert.NoError(t, confmap.Validate(c))
		})
	}
}

func TestUnmarshal_RejectsUnknownKeys(t *testing.T) {
	t.Parallel()
	for _, section := range []string{"", "auth", "graph", "subscription", "webhook", "encryption", "history", "history.reconcile", "dedupe", "content", "identity", "metrics"} {
		raw := map[string]any{"surprise": 1}
		if section != "" {
			raw = nested(section, raw)
		}
		err := confmap.NewFromStringMap(raw).Unmarshal(createDefaultConfig())
		assert.ErrorContains(t, err, "surprise", "in section %q", section)
	}
}

func TestConfig_RedactsSecrets(t *testing.T) {
	t.Parallel()
	c := loadConfig(t, "smallest.yaml")
	c.Auth.ClientSecret = configopaque.String("very-secret")
	conf := confmap.New()
	require.NoError(t, conf.Marshal(c))
	printed := conf.ToStringMap()
	assert.NotContains(t, printed["auth"], "very-secret")
	auth, ok := printed["auth"].(map[string]any)
	require.True(t, ok)
	assert.Equal(t, "[REDACTED]", auth["client_secret"])
}

// unworkableConfigs has settings that are well-formed but with which nothing would arrive.
func unworkableConfigs() map[string]invalidConfig {
	notification := func(url string) func(*Config) {
		return func(c *Config) { c.Subscription.NotificationURL = url }
	}
	endpoint := func(url string) func(*Config) { return func(c *Config) { c.Graph.Endpoint = url } }
	authority := func(url string) func(*Config) { return func(c *Config) { c.Auth.Authority = url } }
	tokens := func(url string) func(*Config) { return func(c *Config) { c.Auth.TokenURL = url } }
	path := func(path string) func(*Config) { return func(c *Config) { c.Webhook.Path = path } }
	transport := func(name confignet.TransportType) func(*Config) {
		return func(c *Config) { c.Webhook.ServerConfig.NetAddr.Transport = name }
	}
	keepalive := func(idle time.Duration) func(*Config) {
		return func(c *Config) { c.Webhook.ServerConfig.Keepalive.Get().IdleTimeout = idle }
	}
	return map[string]invalidConfig{
		"a percent sign in the query is not encoded":    {notification("https://copilot.example.com/n?code=100%"), []string{"subscription.notification_url: ", "%25"}},
		"a semicolon separates two parameters":          {notification("https://copilot.example.com/n?a=1;b=2"), []string{"subscription.notification_url: ", "&"}},
		"the query has the parameter of the handshake":  {notification("https://copilot.example.com/n?validationToken=x"), []string{"subscription.notification_url: ", "leave out validationToken"}},
		"the query has that parameter, encoded":         {notification("https://copilot.example.com/n?a=1&validation%54oken"), []string{"subscription.notification_url: ", "leave out validationToken"}},
		"the notification URL has a fragment":           {notification("https://copilot.example.com/n#here"), []string{"subscription.notification_url: ", "fragment"}},
		"the notification URL has a port over 65535":    {notification("https://copilot.example.com:84430/n"), []string{"subscription.notification_url: ", "65535", "84430"}},
		"the notification URL has port 0":               {notification("https://copilot.example.com:0/n"), []string{"subscription.notification_url: ", "65535"}},
		"the Graph endpoint has a port over 65535":      {endpoint("https://graph.example.com:65536"), []string{"graph.endpoint: ", "65535"}},
		"the authority has a port over 65535":           {authority("https://login.example.com:65536"), []string{"auth.authority: ", "65535"}},
		"the token URL has a port over 65535":           {tokens("http://localhost:65536/token"), []string{"auth.token_url: ", "65535"}},
		"the Graph endpoint has a user":                 {endpoint("https://me:pw@graph.example.com"), []string{"graph.endpoint: ", "user name"}},
		"the authority has a user":                      {authority("https://me@login.example.com"), []string{"auth.authority: ", "user name"}},
		"the token URL has a user":                      {tokens("https://me:pw@login.example.com/token"), []string{"auth.token_url: ", "user name"}},
		"the Graph endpoint has a fragment":             {endpoint("https://graph.example.com#here"), []string{"graph.endpoint: ", "fragment"}},
		"the token URL has a fragment":                  {tokens("https://login.example.com/token#here"), []string{"auth.token_url: ", "fragment"}},
		"the Graph endpoint has a query":                {endpoint("https://graph.example.com/?a=1"), []string{"graph.endpoint: ", "query"}},
		"the authority has a query":                     {authority("https://login.example.com/?a=1"), []string{"auth.authority: ", "query"}},
		"the Graph endpoint names the beta version":     {endpoint("https://graph.microsoft.com/beta/"), []string{"graph.endpoint: ", "https://graph.microsoft.com,", "v1.0"}},
		"the Graph endpoint names a resource":           {endpoint("https://graph.microsoft.us/v1.0/copilot"), []string{"graph.endpoint: ", "https://graph.microsoft.us,"}},
		"the authority ends in common":                  {authority("https://login.microsoftonline.com/common"), []string{"auth.authority: ", "https://login.microsoftonline.com,", "tenant_id"}},
		"the authority ends in another tenant":          {authority("https://login.microsoftonline.us/contoso.com"), []string{"auth.authority: ", "https://login.microsoftonline.us,", "tenant_id"}},
		"the authority is an issuer":                    {authority("https://login.microsoftonline.com/6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10/v2.0"), []string{"auth.authority: ", "https://login.microsoftonline.com,"}},
		"the webhook's port is over 65535":              {func(c *Config) { c.Webhook.ServerConfig.NetAddr.Endpoint = "localhost:65536" }, []string{"webhook.endpoint: ", "65535", "65536"}},
		"the webhook's port is an unknown service name": {func(c *Config) { c.Webhook.ServerConfig.NetAddr.Endpoint = "localhost:no-such-service" }, []string{"webhook.endpoint: ", "65535"}},
		"the path is encoded":                           {path("/graph%20api/n%C3%BC"), []string{"webhook.path: ", `"/graph api/nü"`, `not "/graph%20api/n%C3%BC"`}},
		"the webhook listens on a Unix socket":          {transport(confignet.TransportTypeUnix), []string{"webhook.transport: ", "tcp, tcp4, tcp6", "unix"}},
		"the webhook listens for datagrams":             {transport(confignet.TransportTypeUDP), []string{"webhook.transport: ", "tcp, tcp4, tcp6", "udp"}},
		"answers are cut off before the ack timeout":    {func(c *Config) { c.Webhook.ServerConfig.WriteTimeout = time.Second }, []string{"webhook.write_timeout: ", "webhook.ack_timeout", "0s"}},
		"requests are cut off, for want of a unit":      {func(c *Config) { c.Webhook.ServerConfig.ReadTimeout = 30 }, []string{"webhook.read_timeout: ", "0s for none, or a duration of at least 1ms", "30ns"}},
		"their headers are cut off likewise":            {func(c *Config) { c.Webhook.ServerConfig.ReadHeaderTimeout = 5 }, []string{"webhook.read_header_timeout: ", "5ns"}},
		"connections idle longer than they may":         {keepalive(time.Minute), []string{"webhook.keepalive.idle_timeout: ", "to 10s"}},
		"connections end at once, for want of a unit":   {keepalive(10), []string{"webhook.keepalive.idle_timeout: ", "10ns"}},
		"answers are cut off at the ack timeout":        {func(c *Config) { c.Webhook.ServerConfig.WriteTimeout = 2500 * time.Millisecond }, []string{"webhook.write_timeout: ", "webhook.ack_timeout"}},
	}
}

func TestValidate_RejectsUnworkableURLsAndListeners(t *testing.T) {
	t.Parallel()
	for name, test := range unworkableConfigs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := loadConfig(t, "smallest.yaml")
			test.change(c)
			err := confmap.Validate(c)
			require.Error(t, err)
			for _, want := range test.want {
				require.ErrorContains(t, err, want)
			}
			assert.NotContains(t, err.Error(), "pw")
		})
	}
}

// unusualConfigs have URLs and listeners that are rare, but work.
func unusualConfigs() map[string]func(*Config) {
	return map[string]func(*Config){
		"a query that can be decoded":         func(c *Config) { c.Subscription.NotificationURL = "https://copilot.example.com/n?code=100%25&a=b" },
		"the highest port":                    func(c *Config) { c.Subscription.NotificationURL = "https://copilot.example.com:65535/n" },
		"a port that the system chooses":      func(c *Config) { c.Webhook.ServerConfig.NetAddr.Endpoint = "localhost:0" },
		"a percent sign that encodes nothing": func(c *Config) { c.Webhook.Path = "/100%" },
		"a path as it is after decoding":      func(c *Config) { c.Webhook.Path = "/graph api/nü" },
		"IPv4 alone":                          func(c *Config) { c.Webhook.ServerConfig.NetAddr.Transport = confignet.TransportTypeTCP4 },
		"IPv6 alone":                          func(c *Config) { c.Webhook.ServerConfig.NetAddr.Transport = confignet.TransportTypeTCP6 },
		"no time limit for writing":           func(c *Config) { c.Webhook.ServerConfig.WriteTimeout = 0 },
		"an answer that is written in time":   func(c *Config) { c.Webhook.ServerConfig.WriteTimeout = 2501 * time.Millisecond },
		"a gateway that serves below a path": func(c *Config) {
			c.Graph.Endpoint, c.Auth.Authority = "https://gw.example.com/g", "https://gw.example.com/l"
		},
		"a token URL with a query":             func(c *Config) { c.Auth.TokenURL = "https://login.example.com/token?p=policy" },
		"an authority that ends in the tenant": func(c *Config) { c.Auth.Authority = "https://login.microsoftonline.com/" + c.TenantID },
		"a Graph endpoint with its version":    func(c *Config) { c.Graph.Endpoint = "https://graph.microsoft.com/v1.0" },
	}
}

func TestValidate_AcceptsUnusualURLsAndListeners(t *testing.T) {
	t.Parallel()
	for name, change := range unusualConfigs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := loadConfig(t, "smallest.yaml")
			change(c)
			assert.NoError(t, confmap.Validate(c))
		})
	}
}

// TestSettings_NormalizeMicrosoftURLs covers the forms of these URLs that Microsoft's libraries and documents use.
func TestSettings_NormalizeMicrosoftURLs(t *testing.T) {
	t.Parallel()
	plain := loadConfig(t, "smallest.yaml").Settings()
	for _, authority := range []string{
		"https://login.microsoftonline.com/6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10",
		"https://login.microsoftonline.com/6F1D2C3B-0A4E-4D55-9B77-2F8E1C0A9D10/",
	} {
		for _, endpoint := range []string{"https://graph.microsoft.com/v1.0", "https://graph.microsoft.com/v1.0/", "https://graph.microsoft.com/"} {
			c := loadConfig(t, "smallest.yaml")
			c.Auth.Authority, c.Graph.Endpoint = authority, endpoint
			require.NoError(t, confmap.Validate(c))
			got := c.Settings()
			assert.Equal(t, plain.Graph.Endpoint, got.Graph.Endpoint)
			assert.Equal(t, plain.Credential, got.Credential)
			assert.Equal(t, plain.JWKSURL, got.JWKSURL)
		}
	}
}
