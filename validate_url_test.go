package m365copilotreceiver

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/config/confignet"
	"go.opentelemetry.io/collector/confmap"
)

// TestValidate_RejectsUnworkableURLsAndListeners has settings that are well-formed, and with which nothing would arrive.
func TestValidate_RejectsUnworkableURLsAndListeners(t *testing.T) {
	t.Parallel()
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
	for name, test := range map[string]struct {
		change func(*Config)
		want   []string
	}{
		"a percent sign in the query stands alone":       {notification("https://copilot.example.com/n?code=100%"), []string{"subscription.notification_url: ", "%25"}},
		"a semicolon parts two parameters":               {notification("https://copilot.example.com/n?a=1;b=2"), []string{"subscription.notification_url: ", "&"}},
		"the query has the parameter of the handshake":   {notification("https://copilot.example.com/n?validationToken=x"), []string{"subscription.notification_url: ", "leave out validationToken"}},
		"the query has that parameter, encoded":          {notification("https://copilot.example.com/n?a=1&validation%54oken"), []string{"subscription.notification_url: ", "leave out validationToken"}},
		"the notification URL has a fragment":            {notification("https://copilot.example.com/n#here"), []string{"subscription.notification_url: ", "fragment"}},
		"the notification URL has a port over 65535":     {notification("https://copilot.example.com:84430/n"), []string{"subscription.notification_url: ", "65535", "84430"}},
		"the notification URL has port 0":                {notification("https://copilot.example.com:0/n"), []string{"subscription.notification_url: ", "65535"}},
		"the Graph endpoint has a port over 65535":       {endpoint("https://graph.example.com:65536"), []string{"graph.endpoint: ", "65535"}},
		"the authority has a port over 65535":            {authority("https://login.example.com:65536"), []string{"auth.authority: ", "65535"}},
		"the token URL has a port over 65535":            {tokens("http://localhost:65536/token"), []string{"auth.token_url: ", "65535"}},
		"the Graph endpoint has a user":                  {endpoint("https://me:pw@graph.example.com"), []string{"graph.endpoint: ", "user name"}},
		"the authority has a user":                       {authority("https://me@login.example.com"), []string{"auth.authority: ", "user name"}},
		"the token URL has a user":                       {tokens("https://me:pw@login.example.com/token"), []string{"auth.token_url: ", "user name"}},
		"the Graph endpoint has a fragment":              {endpoint("https://graph.example.com#here"), []string{"graph.endpoint: ", "fragment"}},
		"the token URL has a fragment":                   {tokens("https://login.example.com/token#here"), []string{"auth.token_url: ", "fragment"}},
		"the Graph endpoint has a query":                 {endpoint("https://graph.example.com/?a=1"), []string{"graph.endpoint: ", "query"}},
		"the authority has a query":                      {authority("https://login.example.com/?a=1"), []string{"auth.authority: ", "query"}},
		"the Graph endpoint names the beta version":      {endpoint("https://graph.microsoft.com/beta/"), []string{"graph.endpoint: ", "https://graph.microsoft.com,", "v1.0"}},
		"the Graph endpoint names a resource":            {endpoint("https://graph.microsoft.us/v1.0/copilot"), []string{"graph.endpoint: ", "https://graph.microsoft.us,"}},
		"the authority ends in common":                   {authority("https://login.microsoftonline.com/common"), []string{"auth.authority: ", "https://login.microsoftonline.com,", "tenant_id"}},
		"the authority ends in another tenant":           {authority("https://login.microsoftonline.us/contoso.com"), []string{"auth.authority: ", "https://login.microsoftonline.us,", "tenant_id"}},
		"the authority is an issuer":                     {authority("https://login.microsoftonline.com/6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10/v2.0"), []string{"auth.authority: ", "https://login.microsoftonline.com,"}},
		"the webhook's port is over 65535":               {func(c *Config) { c.Webhook.ServerConfig.NetAddr.Endpoint = "localhost:65536" }, []string{"webhook.endpoint: ", "65535", "65536"}},
		"the webhook's port is no service of any name":   {func(c *Config) { c.Webhook.ServerConfig.NetAddr.Endpoint = "localhost:no-such-service" }, []string{"webhook.endpoint: ", "65535"}},
		"the path is encoded":                            {path("/graph%20api/n%C3%BC"), []string{"webhook.path: ", `"/graph api/nü"`, `not "/graph%20api/n%C3%BC"`}},
		"the webhook listens on a socket of Unix":        {transport(confignet.TransportTypeUnix), []string{"webhook.transport: ", "tcp, tcp4 or tcp6", "unix"}},
		"the webhook listens for datagrams":              {transport(confignet.TransportTypeUDP), []string{"webhook.transport: ", "tcp, tcp4 or tcp6", "udp"}},
		"answers are cut off before they can be given":   {func(c *Config) { c.Webhook.ServerConfig.WriteTimeout = time.Second }, []string{"webhook.write_timeout: ", "webhook.ack_timeout", "0s"}},
		"answers are cut off when they have to be given": {func(c *Config) { c.Webhook.ServerConfig.WriteTimeout = 2500 * time.Millisecond }, []string{"webhook.write_timeout: ", "webhook.ack_timeout"}},
	} {
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

func TestValidate_AcceptsUnusualURLsAndListeners(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Config){
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
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := loadConfig(t, "smallest.yaml")
			change(c)
			assert.NoError(t, confmap.Validate(c))
		})
	}
}

// TestSettings_NormalizeMicrosoftURLs is for the forms of these URLs that Microsoft's libraries and documents use.
func TestSettings_NormalizeMicrosoftURLs(t *testing.T) {
	t.Parallel()
	plain, err := settingsOf(loadConfig(t, "smallest.yaml"))
	require.NoError(t, err)
	for _, authority := range []string{
		"https://login.microsoftonline.com/6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10",
		"https://login.microsoftonline.com/6F1D2C3B-0A4E-4D55-9B77-2F8E1C0A9D10/",
	} {
		for _, endpoint := range []string{"https://graph.microsoft.com/v1.0", "https://graph.microsoft.com/v1.0/", "https://graph.microsoft.com/"} {
			c := loadConfig(t, "smallest.yaml")
			c.Auth.Authority, c.Graph.Endpoint = authority, endpoint
			require.NoError(t, confmap.Validate(c))
			got, err := settingsOf(c)
			require.NoError(t, err)
			assert.Equal(t, plain.Graph.Endpoint, got.Graph.Endpoint)
			assert.Equal(t, plain.Credential, got.Credential)
			assert.Equal(t, plain.JWKSURL, got.JWKSURL)
		}
	}
}
