// SPDX-License-Identifier: Apache-2.0

package m365copilotreceiver

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/confignet"

	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/privacy"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

const (
	// Graph grants 4,320 minutes at most: https://learn.microsoft.com/graph/api/resources/subscription
	maxLifetime = 72 * time.Hour
	// Graph waits 3 s for an answer: https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
	maxAckTimeout = 3*time.Second - time.Millisecond
	// encryptionCertificateId holds 128 characters, of which the receiver uses 17 for a digest of the key.
	maxCertificateID = 128 - 17
	// handshakeParameter is what Graph adds to the notification URL to validate it, see the same page.
	handshakeParameter = "validationToken"
)

var (
	guid = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)

	changeTypes = []string{"created", "updated", "deleted"}

	// enumerations lists the values of each type that has few. Transports are those that HTTP is served over.
	enumerations = map[reflect.Type][]string{
		reflect.TypeFor[Cloud]():                   {string(CloudGlobal), string(CloudUSGov), string(CloudUSGovDoD), string(CloudChina)},
		reflect.TypeFor[AuthStyle]():               {string(AuthStyleHeader), string(AuthStyleBody)},
		reflect.TypeFor[Capture]():                 {string(CaptureNone), string(CaptureText)},
		reflect.TypeFor[confignet.TransportType](): {"tcp", "tcp4", "tcp6"},
	}
)

// Validate reports every problem at once, each with its YAML path and what to write instead.
func (c *Config) Validate() error {
	p := &problems{}
	p.require(guid.MatchString(c.TenantID), "tenant_id",
		"write the directory (tenant) id, a GUID as on the Overview page of Entra, not %q", c.TenantID)
	requireOneOf(p, "cloud", c.Cloud)
	p.requireBaseURL("graph.endpoint", withoutVersion(c.Graph.Endpoint), "the version, v1.0")
	p.require(isProxy(c.Graph.ProxyURL), "graph.proxy_url", "write the URL of a proxy, such as http://proxy.example.com:3128") // not quoted: it may have a password
	requireOneOf(p, "content.capture", c.Content.Capture)
	p.require(c.Dedupe.MaxEntries >= 1 && c.Dedupe.MaxEntries <= dedupe.MaxEntries, "dedupe.max_entries",
		"write a number from 1 to %d, such as 1000000; each takes up to 190 bytes of memory", dedupe.MaxEntries)
	c.validateAuth(p)
	c.validateSubscription(p)
	c.validateWebhook(p)
	c.validateEncryption(p)
	c.validateHistory(p)
	c.validateIdentity(p)
	for _, rule := range c.durationRules() {
		rule.validate(p)
	}
	return errors.Join(*p...)
}

func (c *Config) validateAuth(p *problems) {
	a := &c.Auth
	p.require(a.ClientID != "", "auth.client_id",
		"write the application (client) id of the app registration; notifications must carry it as their audience")
	var credentials []string
	given := func(path string, set bool) {
		if set {
			credentials = append(credentials, path)
		}
	}
	given("auth.client_secret", a.ClientSecret != "")
	given("auth.client_secret_file", a.ClientSecretFile != "")
	given("auth.client_certificate", a.ClientCertificate.HasValue())
	given("auth.federated_token_file", a.FederatedTokenFile != "")
	given("graph.auth", c.Graph.Auth.HasValue())
	p.require(len(credentials) > 0, "auth",
		"write exactly one of client_secret, client_secret_file, client_certificate and federated_token_file, "+
			"or name an authenticator extension in graph.auth; an empty environment variable counts as none")
	p.require(len(credentials) < 2, "auth", "%s exclude each other: keep one", strings.Join(credentials, " and "))
	if certificate := a.ClientCertificate.Get(); certificate != nil {
		p.requirePair("auth.client_certificate", certificate.CertFile, certificate.KeyFile)
	}
	requireOneOf(p, "auth.auth_style", a.AuthStyle)
	p.requireBaseURL("auth.authority", withoutTenant(a.Authority, c.TenantID), "the tenant_id")
	p.requireURL("auth.token_url", a.TokenURL, true)
	p.require(!slices.Contains(a.Issuers, ""), "auth.issuers", "remove the empty entry")
	p.require(!slices.Contains(a.Audiences, ""), "auth.audiences", "remove the empty entry")
}

func (c *Config) validateSubscription(p *problems) {
	const path = "subscription.notification_url"
	s := &c.Subscription
	p.require(s.NotificationURL != "" || c.History.PollInterval != 0, path,
		"write the public https URL at which Graph reaches the webhook, such as https://copilot.example.com/graph/notifications; "+
			"without one write history.poll_interval, such as 5m")
	if u := p.requireURL(path, s.NotificationURL, false); u != nil {
		query, err := url.ParseQuery(u.RawQuery)
		p.require(err == nil, path, "its query can't be decoded, so Graph's validation of the URL would fail: "+
			"write & between parameters, and %%25 for a percent sign, %%3B for a semicolon")
		p.require(!query.Has(handshakeParameter), path,
			"leave out %s: Graph adds it, and a request that has it is answered as a handshake", handshakeParameter)
	}
	p.requireUsers("subscription.users", s.Users)
	p.require(len(s.ChangeTypes) > 0, "subscription.change_types", "write at least one of created, updated, deleted")
	for i, change := range s.ChangeTypes {
		p.require(slices.Contains(changeTypes, change) && !slices.Contains(s.ChangeTypes[:i], change), "subscription.change_types",
			"write created, updated, deleted, each at most once, not %q", change)
	}
}

// validateWebhook ignores the endpoint if nothing listens.
func (c *Config) validateWebhook(p *problems) {
	w, server := &c.Webhook, &c.Webhook.ServerConfig
	requireOneOf(p, "webhook.transport", server.NetAddr.Transport)
	if c.Subscription.NotificationURL != "" {
		host, port, err := net.SplitHostPort(server.NetAddr.Endpoint)
		if _, lookup := net.LookupPort("tcp", port); err != nil || port == "" || lookup != nil {
			p.require(false, "webhook.endpoint",
				"write host:port with a port up to 65535, such as localhost:8443, not %q", server.NetAddr.Endpoint)
		} else {
			p.require(server.TLS.HasValue() || w.TLSTerminatedUpstream || isLoopback(host), "webhook.endpoint",
				"%q would receive conversations without TLS: write webhook.tls, or webhook.tls_terminated_upstream: true if an ingress "+
					"terminates TLS", server.NetAddr.Endpoint)
		}
	}
	p.require(!slices.ContainsFunc(server.CompressionAlgorithms, func(algorithm string) bool { return algorithm != "" }),
		"webhook.compression_algorithms", "Graph does not compress, and compressed bodies are refused: remove this key")

	longest := server.MaxRequestBodySize
	if longest <= 0 { // as confighttp reads it
		longest = defaultMaxRequestBodySize
	}
	least := webhook.MinInFlightBytes(longest)
	p.require(w.MaxInFlightBytes >= least, "webhook.max_in_flight_bytes",
		"%d is too little for a body of webhook.max_request_body_size: write at least %d", w.MaxInFlightBytes, least)

	p.require(w.Path == "" || strings.HasPrefix(w.Path, "/") && !strings.ContainsAny(w.Path, "?#"), "webhook.path",
		"write a path that begins with /, without query, such as /graph/notifications, not %q", w.Path)
	decoded, err := url.PathUnescape(w.Path)
	p.require(err != nil || decoded == w.Path, "webhook.path",
		"it is compared with the decoded path of a request: write %q, not %q", decoded, w.Path)
}

func (c *Config) validateEncryption(p *problems) {
	seen := map[string]bool{}
	for i, certificate := range c.Encryption.Certificates {
		path := fmt.Sprintf("encryption.certificates[%d]", i)
		p.requirePair(path, certificate.CertFile, certificate.KeyFile)
		p.require(len(certificate.ID) <= maxCertificateID, path+".id",
			"Graph accepts at most %d characters here: write fewer", maxCertificateID)
		p.require(certificate.CertFile == "" || !seen[certificate.CertFile], path+".cert_file",
			"%q is listed twice: keep one", certificate.CertFile)
		seen[certificate.CertFile] = true
	}
}

func (c *Config) validateHistory(p *problems) {
	h := &c.History
	// These read the history, and must remember across a restart what they have read.
	stored := func(path string, set bool) {
		p.require(!set || c.Storage != nil, path, "this requires storage: name a storage extension, such as file_storage")
		p.require(!set || h.Enabled, path, "write history.enabled: true, or remove this key")
	}
	stored("history.lookback", h.Lookback > 0)
	stored("history.poll_interval", h.PollInterval > 0)
	stored("history.replay", len(h.Replay) > 0)
	p.require(h.PollInterval == 0 || c.Subscription.NotificationURL == "", "history.poll_interval",
		"remove this key: with subscription.notification_url the history is compared every history.reconcile.interval")
	// 0s is accepted also where reconciliation is off anyway.
	p.require(h.Reconcile.Interval == nil || *h.Reconcile.Interval == 0 || c.canReconcile(), "history.reconcile.interval",
		"remove this key, or write 0s: the comparison needs subscription.notification_url and history.enabled: true")
	p.requireUsers("history.users", h.Users)
	for i, replay := range h.Replay {
		path := fmt.Sprintf("history.replay[%d]", i)
		p.require(!replay.From.IsZero(), path+".from", "write %s", exampleTime)
		p.require(!replay.To.IsZero(), path+".to", "write %s", exampleTime)
		p.require(replay.To.IsZero() || replay.From.Before(replay.To), path+".to", "write a time after from")
		p.requireUsers(path+".users", replay.Users)
	}
	p.require(h.RequestsPerSecond > 0, "history.requests_per_second", // false for NaN
		"write a number above 0, such as 25; Graph allows 30")
	p.require(h.Concurrency >= 1, "history.concurrency", "write a number of at least 1, such as 4")
}

func (c *Config) validateIdentity(p *problems) {
	i := &c.Identity
	allowed := privacy.PropertyNames()
	for n, property := range i.DirectoryProperties {
		at := fmt.Sprintf("identity.directory_properties[%d]", n)
		p.require(slices.Contains(allowed, property), at, "write one of %s, not %q", strings.Join(allowed, ", "), property)
		p.require(!slices.Contains(i.DirectoryProperties[:n], property), at, "%q is listed twice: keep one", property)
	}
	p.require(i.CacheSize >= 1, "identity.cache_size",
		"write a number of at least 1, such as 100000; each takes about 0.6 KiB of memory")
}

// durationRule is the range of a duration. A number without a unit, which confmap reads as nanoseconds, is below every range.
type durationRule struct {
	path        string
	value       time.Duration
	least, most time.Duration // most is 0 for no limit
	orZero      bool          // 0s stands for none
	reason      string
}

func (c *Config) durationRules() []durationRule {
	const ms = time.Millisecond
	h, s, w, server := &c.History, &c.Subscription, &c.Webhook, &c.Webhook.ServerConfig
	keepalive := cmp.Or(server.Keepalive.Get(), &confighttp.KeepaliveServerConfig{})
	reconcile := cmp.Or(h.Reconcile.Interval, new(time.Duration))
	return []durationRule{
		{path: "graph.timeout", value: c.Graph.Timeout, least: ms},
		{path: "subscription.lifetime", value: s.Lifetime, least: time.Second, most: maxLifetime, reason: ": Graph grants 72h at most"},
		{path: "subscription.check_interval", value: s.CheckInterval, least: time.Second, most: time.Hour},
		{path: "webhook.ack_timeout", value: w.AckTimeout, least: ms, most: maxAckTimeout, reason: ": Graph waits 3s for an answer"},
		{path: "webhook.read_timeout", value: server.ReadTimeout, least: ms, orZero: true},
		{path: "webhook.read_header_timeout", value: server.ReadHeaderTimeout, least: ms, orZero: true},
		{
			path: "webhook.write_timeout", value: server.WriteTimeout, least: w.AckTimeout + ms, orZero: true,
			reason: ": an answer may take webhook.ack_timeout",
		},
		{
			path: "webhook.keepalive.idle_timeout", value: keepalive.IdleTimeout, least: ms, most: webhook.MaxIdleTimeout, orZero: true,
			reason: ": idle connections occupy slots that Graph may need",
		},
		{path: "history.lookback", value: h.Lookback, least: time.Second, orZero: true},
		{path: "history.max_gap", value: h.MaxGap, least: time.Second},
		{path: "history.poll_interval", value: h.PollInterval, least: time.Second, orZero: true},
		{path: "history.reconcile.interval", value: *reconcile, least: time.Second, orZero: true},
		{path: "history.reconcile.delay", value: h.Reconcile.Delay, least: time.Second},
		{path: "identity.inventory", value: c.Identity.Inventory, least: time.Second, orZero: true},
		{path: "identity.cache_ttl", value: c.Identity.CacheTTL, least: time.Second},
		{path: "dedupe.window", value: c.Dedupe.Window, least: time.Second},
		{path: "metrics.interval", value: c.Metrics.Interval, least: time.Second},
	}
}

func (r *durationRule) validate(p *problems) {
	allowed := fmt.Sprintf("a duration of at least %s", r.least)
	if r.most != 0 {
		allowed = fmt.Sprintf("a duration from %s to %s", r.least, r.most)
	}
	if r.orZero {
		allowed = "0s for none, or " + allowed
	}
	inRange := r.value >= r.least && (r.most == 0 || r.value <= r.most)
	p.require(inRange || r.orZero && r.value == 0, r.path, "write %s, not %s%s", allowed, r.value, r.reason)
}

// problems are the errors of a configuration.
type problems []error

// require adds an error for the setting at a YAML path, unless ok. The message says what to write.
func (p *problems) require(ok bool, path, message string, args ...any) {
	if !ok {
		*p = append(*p, fmt.Errorf("%s: %s", path, fmt.Sprintf(message, args...)))
	}
}

func requireOneOf[T ~string](p *problems, path string, value T) {
	allowed := enumerations[reflect.TypeFor[T]()]
	p.require(slices.Contains(allowed, string(value)), path, "write one of %s, not %q", strings.Join(allowed, ", "), value)
}

// requireUsers accepts only Entra object ids, so that no name of a person is sent or stored. Unlike a name, an object id
// never changes.
func (p *problems) requireUsers(path string, users []string) {
	seen := map[string]bool{}
	for i, user := range users {
		at, id := fmt.Sprintf("%s[%d]", path, i), strings.ToLower(user)
		p.require(guid.MatchString(id), at, "write the Entra object id of the user, a GUID, not the user principal name or a path")
		p.require(!seen[id], at, "this user is listed twice: keep one")
		seen[id] = true
	}
}

func (p *problems) requirePair(path, certFile, keyFile string) {
	p.require(certFile != "", path+".cert_file", "write the path of the certificate, a PEM file")
	p.require(keyFile != "", path+".key_file", "write the path of the certificate's private key, a PEM file")
}

// requireURL rejects a URL to which secrets or conversations would be sent in plain text. It returns nil for one that is no full
// URL, and for the empty one, which stands for a default.
func (p *problems) requireURL(path, raw string, httpOnLoopback bool) *url.URL {
	if raw == "" {
		return nil
	}
	form := "a full https URL, such as https://copilot.example.com/graph/notifications"
	if httpOnLoopback {
		form = "a full https URL; http is allowed for loopback addresses only"
	}
	u, err := url.Parse(raw)
	full := err == nil && u.Hostname() != ""
	if !full || u.Scheme != "https" && (!httpOnLoopback || u.Scheme != "http" || !isLoopback(u.Hostname())) {
		p.require(false, path, "write %s", form)
		return nil
	}
	p.require(u.User == nil && u.Fragment == "", path, "leave out user name, password and fragment")
	if u.Port() != "" {
		port, err := strconv.ParseUint(u.Port(), 10, 16)
		p.require(err == nil && port > 0, path, "write a port from 1 to 65535, not %s", u.Port())
	}
	return u
}

// requireBaseURL validates a URL to which the receiver adds a path. On a Microsoft host only the root works; a gateway may serve
// below a path. adds names what the receiver adds.
func (p *problems) requireBaseURL(path, raw, adds string) {
	u := p.requireURL(path, raw, true)
	if u == nil {
		return
	}
	p.require(u.RawQuery == "" && !u.ForceQuery, path, "leave out the query")
	extra := strings.Trim(u.Path, "/")
	microsoft := slices.ContainsFunc(graph.Clouds(), func(cloud graph.Cloud) bool {
		return strings.EqualFold(cloud.Endpoint, "https://"+u.Host) || strings.EqualFold(cloud.Authority, "https://"+u.Host)
	})
	p.require(extra == "" || !microsoft, path, "write %s://%s, without %q: the receiver adds %s", u.Scheme, u.Host, extra, adds)
}

// isProxy accepts the proxies of net/http, and the empty URL, which stands for that of the environment.
func isProxy(raw string) bool {
	u, err := url.ParseRequestURI(raw)
	return raw == "" || err == nil && u.Hostname() != "" && slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme)
}

func isLoopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}
