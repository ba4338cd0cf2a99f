package m365copilotreceiver

import (
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

	"go.opentelemetry.io/collector/config/confignet"

	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

var (
	guid = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)
	// objectID accepts more than GUIDs, but nothing that is special in a path or names a person.
	objectID = regexp.MustCompile(`^[0-9a-z-]+$`)

	changeTypes = []string{"created", "updated", "deleted"}
)

const (
	// Graph grants 4,320 minutes at most: https://learn.microsoft.com/graph/api/resources/subscription
	maxLifetime = 72 * time.Hour
	// encryptionCertificateId holds 128 characters, of which the receiver uses 17 for a digest of the key.
	maxCertificateID = 128 - 17
	// The persisted form of the dedupe cache is limited to this many entries.
	maxDedupeEntries = dedupe.MaxEntries
)

// Validate reports every problem at once, each with its YAML path and what to write instead.
func (c *Config) Validate() error {
	return errors.Join(
		c.validateTenant(),
		c.Auth.validate(c.Graph.Auth.HasValue()),
		baseURL("auth.authority", withoutTenant(c.Auth.Authority, c.TenantID), "the tenant_id"),
		baseURL("graph.endpoint", withoutVersion(c.Graph.Endpoint), "the version, v1.0"),
		positive("graph.timeout", c.Graph.Timeout, 0),
		c.Subscription.validate(),
		c.Webhook.validate(c.Subscription.NotificationURL != ""),
		c.Encryption.validate(),
		c.validateHistory(),
		positive("dedupe.window", c.Dedupe.Window, time.Second),
		oneOf("content.capture", c.Content.Capture),
		positive("metrics.interval", c.Metrics.Interval, time.Second),
	)
}

func (c *Config) validateTenant() error {
	var errs []error
	if !guid.MatchString(c.TenantID) {
		errs = append(errs, fmt.Errorf("tenant_id: write the directory (tenant) id, a GUID as on the Overview page of Entra, not %q", c.TenantID))
	}
	return errors.Join(append(errs, oneOf("cloud", c.Cloud))...)
}

func (c *Config) validateHistory() error {
	h := &c.History
	errs := []error{
		objectIDs("history.users", h.Users),
		positive("history.max_gap", h.MaxGap, time.Second),
		zeroOrPositive("history.lookback", h.Lookback),
		zeroOrPositive("history.poll_interval", h.PollInterval),
		c.validateStoredHistory("history.lookback", h.Lookback > 0),
		c.validateStoredHistory("history.poll_interval", h.PollInterval > 0),
		c.validateStoredHistory("history.replay", len(h.Replay) > 0),
		c.validateReconcile(),
	}
	for i := range h.Replay {
		errs = append(errs, h.Replay[i].validate(fmt.Sprintf("history.replay[%d]", i)))
	}
	if !(h.RequestsPerSecond > 0) { // also true for NaN
		errs = append(errs, errors.New("history.requests_per_second: write a number above 0, such as 25; Graph allows 30"))
	}
	if h.Concurrency < 1 {
		errs = append(errs, errors.New("history.concurrency: write a number of at least 1, such as 4"))
	}
	if c.Dedupe.MaxEntries < 1 || c.Dedupe.MaxEntries > maxDedupeEntries {
		errs = append(errs, fmt.Errorf("dedupe.max_entries: write a number from 1 to %d, such as 1000000; each takes up to 190 bytes of memory", maxDedupeEntries))
	}
	switch subscribes := c.Subscription.NotificationURL != ""; {
	case !subscribes && h.PollInterval == 0:
		errs = append(errs, errors.New("subscription.notification_url: write the public https URL at which Graph reaches the webhook, such as https://copilot.example.com/graph/notifications; without one write history.poll_interval, such as 5m"))
	case subscribes && h.PollInterval != 0:
		errs = append(errs, errors.New("history.poll_interval: remove this key: with subscription.notification_url the history is compared every history.reconcile.interval"))
	}
	return errors.Join(errs...)
}

// validateStoredHistory validates a key that reads the history and must remember, across a restart, what it has read.
func (c *Config) validateStoredHistory(path string, set bool) error {
	switch {
	case set && c.Storage == nil:
		return fmt.Errorf("%s: this requires storage: name a storage extension, such as file_storage", path)
	case set && !c.History.Enabled:
		return fmt.Errorf("%s: write history.enabled: true, or remove this key", path)
	default:
		return nil
	}
}

// validateReconcile accepts an interval of 0s also where reconciliation is off anyway.
func (c *Config) validateReconcile() error {
	const path = "history.reconcile.interval"
	errs := []error{positive("history.reconcile.delay", c.History.Reconcile.Delay, time.Second)}
	if interval := c.History.Reconcile.Interval; interval != nil && *interval != 0 {
		errs = append(errs, zeroOrPositive(path, *interval))
		if reason := c.cannotReconcile(); reason != "" {
			errs = append(errs, fmt.Errorf("%s: remove this key, or write 0s: %s", path, reason))
		}
	}
	return errors.Join(errs...)
}

func (r *ReplayConfig) validate(path string) error {
	errs := []error{objectIDs(path+".users", r.Users)}
	for _, bound := range []struct {
		key string
		at  time.Time
	}{{"from", r.From}, {"to", r.To}} {
		if bound.at.IsZero() {
			errs = append(errs, fmt.Errorf("%s.%s: write %s", path, bound.key, exampleTime))
		}
	}
	if !r.From.IsZero() && !r.To.IsZero() && !r.From.Before(r.To) {
		errs = append(errs, fmt.Errorf("%s.to: write a time after from", path))
	}
	return errors.Join(errs...)
}

func (a *AuthConfig) validate(byExtension bool) error {
	var errs []error
	if a.ClientID == "" {
		errs = append(errs, errors.New("auth.client_id: write the application (client) id of the app registration; notifications must carry it as their audience"))
	}
	errs = append(errs,
		a.validateCredential(byExtension),
		oneOf("auth.auth_style", a.AuthStyle),
		httpsOrLoopback("auth.token_url", a.TokenURL),
		noneEmpty("auth.issuers", a.Issuers),
		noneEmpty("auth.audiences", a.Audiences),
	)
	return errors.Join(errs...)
}

func (a *AuthConfig) validateCredential(byExtension bool) error {
	var given []string
	for _, credential := range []struct {
		path string
		set  bool
	}{
		{"auth.client_secret", a.ClientSecret != ""},
		{"auth.client_secret_file", a.ClientSecretFile != ""},
		{"auth.client_certificate", a.ClientCertificate.HasValue()},
		{"auth.federated_token_file", a.FederatedTokenFile != ""},
		{"graph.auth", byExtension},
	} {
		if credential.set {
			given = append(given, credential.path)
		}
	}
	var errs []error
	switch len(given) {
	case 0:
		errs = append(errs, errors.New("auth: write exactly one of client_secret, client_secret_file, client_certificate and federated_token_file, or name an authenticator extension in graph.auth; an empty environment variable counts as none"))
	case 1:
	default:
		errs = append(errs, fmt.Errorf("auth: %s exclude each other: keep one", strings.Join(given, " and ")))
	}
	if certificate := a.ClientCertificate.Get(); certificate != nil {
		errs = append(errs, validatePair("auth.client_certificate", certificate.CertFile, certificate.KeyFile))
	}
	return errors.Join(errs...)
}

func (s *SubscriptionConfig) validate() error {
	errs := []error{
		validateNotificationURL(s.NotificationURL),
		objectIDs("subscription.users", s.Users),
		positive("subscription.lifetime", s.Lifetime, time.Second),
		positive("subscription.check_interval", s.CheckInterval, time.Second),
	}
	if s.Lifetime > maxLifetime {
		errs = append(errs, fmt.Errorf("subscription.lifetime: Graph grants 72h at most: write 72h or less, not %s", s.Lifetime))
	}
	if len(s.ChangeTypes) == 0 {
		errs = append(errs, errors.New("subscription.change_types: write at least one of created, updated, deleted"))
	}
	for i, change := range s.ChangeTypes {
		if !slices.Contains(changeTypes, change) || slices.Contains(s.ChangeTypes[:i], change) {
			errs = append(errs, fmt.Errorf("subscription.change_types: write created, updated, deleted, each at most once, not %q", change))
		}
	}
	return errors.Join(errs...)
}

func (e *EncryptionConfig) validate() error {
	var errs []error
	seen := map[string]bool{}
	for i, certificate := range e.Certificates {
		path := fmt.Sprintf("encryption.certificates[%d]", i)
		errs = append(errs, validatePair(path, certificate.CertFile, certificate.KeyFile))
		if len(certificate.ID) > maxCertificateID {
			errs = append(errs, fmt.Errorf("%s.id: Graph accepts at most %d characters here: write fewer", path, maxCertificateID))
		}
		if file := certificate.CertFile; file != "" && seen[file] {
			errs = append(errs, fmt.Errorf("%s.cert_file: %q is listed twice: keep one", path, file))
		}
		seen[certificate.CertFile] = true
	}
	return errors.Join(errs...)
}

func validatePair(path, certFile, keyFile string) error {
	var errs []error
	if certFile == "" {
		errs = append(errs, fmt.Errorf("%s.cert_file: write the path of the certificate, a PEM file", path))
	}
	if keyFile == "" {
		errs = append(errs, fmt.Errorf("%s.key_file: write the path of the certificate's private key, a PEM file", path))
	}
	return errors.Join(errs...)
}

func positive(path string, d, least time.Duration) error {
	if d <= 0 || d < least {
		return fmt.Errorf("%s: write a duration of at least %s, such as 30s, not %s", path, max(least, time.Millisecond), d)
	}
	return nil
}

// zeroOrPositive accepts 0 for none.
func zeroOrPositive(path string, d time.Duration) error {
	if d != 0 && d < time.Second {
		return fmt.Errorf("%s: write 0s for none, else a duration of at least 1s, not %s", path, d)
	}
	return nil
}

func oneOf[T ~string](path string, value T) error {
	if allowed := enumerations[reflect.TypeFor[T]()]; !slices.Contains(allowed, string(value)) {
		return fmt.Errorf("%s: write one of %s, not %q", path, strings.Join(allowed, ", "), value)
	}
	return nil
}

func noneEmpty(path string, values []string) error {
	if slices.Contains(values, "") {
		return fmt.Errorf("%s: remove the empty entry", path)
	}
	return nil
}

// objectIDs accepts only Entra object ids, so that no name of a person is sent or stored. Unlike a name, an object id
// never changes.
func objectIDs(path string, users []string) error {
	var errs []error
	seen := map[string]bool{}
	for i, user := range users {
		switch user = strings.ToLower(user); {
		case user == "":
			errs = append(errs, fmt.Errorf("%s: remove the empty entry", path))
		case !objectID.MatchString(user):
			errs = append(errs, fmt.Errorf("%s[%d]: write the Entra object id of the user, a GUID, not the user principal name or a path", path, i))
		case seen[user]:
			errs = append(errs, fmt.Errorf("%s: %q is listed twice: keep one", path, user))
		}
		seen[user] = true
	}
	return errors.Join(errs...)
}

// handshakeParameter is what Graph adds to the notification URL to validate it:
// https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
const handshakeParameter = "validationToken"

func validateNotificationURL(raw string) error {
	const path = "subscription.notification_url"
	if raw == "" { // the history is polled instead
		return nil
	}
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.Scheme != "https" {
		return errors.New(path + ": Graph sends to https URLs only: write a full URL such as https://copilot.example.com/graph/notifications")
	}
	var errs []error
	if u.User != nil || u.Fragment != "" {
		errs = append(errs, errors.New(path+": leave out user name, password and fragment"))
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		errs = append(errs, errors.New(path+": its query can't be decoded, so Graph's validation of the URL would fail: write & between parameters, and %25 for a percent sign, %3B for a semicolon"))
	}
	if query.Has(handshakeParameter) {
		errs = append(errs, errors.New(path+": leave out "+handshakeParameter+": Graph adds it, and a request that has it is answered as a handshake"))
	}
	return errors.Join(append(errs, validatePort(path, u))...)
}

// httpsOrLoopback rejects a URL to which secrets and tokens would be sent in plain text; an empty URL stands for its default.
func httpsOrLoopback(path, raw string) error {
	if raw == "" {
		return nil
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Hostname() == "" || (u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname()))):
		return fmt.Errorf("%s: write a full https URL; http is allowed for loopback addresses only", path)
	case u.User != nil || u.Fragment != "":
		return fmt.Errorf("%s: leave out user name, password and fragment", path)
	default:
		return validatePort(path, u)
	}
}

// baseURL validates a URL to which the receiver adds a path. On a Microsoft host only the root works; a gateway may serve
// below a path. adds names what the receiver adds.
func baseURL(path, raw, adds string) error {
	if err := httpsOrLoopback(path, raw); err != nil || raw == "" {
		return err
	}
	u, err := url.Parse(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	extra := strings.Trim(u.Path, "/")
	switch {
	case u.RawQuery != "" || u.ForceQuery:
		return fmt.Errorf("%s: leave out the query", path)
	case extra != "" && isMicrosoft(u.Host):
		return fmt.Errorf("%s: write %s://%s, without %q: the receiver adds %s", path, u.Scheme, u.Host, extra, adds)
	default:
		return nil
	}
}

func isMicrosoft(host string) bool {
	return slices.ContainsFunc(graph.Clouds(), func(cloud graph.Cloud) bool {
		return strings.EqualFold(cloud.Endpoint, "https://"+host) || strings.EqualFold(cloud.Authority, "https://"+host)
	})
}

// validatePort accepts a URL without a port.
func validatePort(path string, u *url.URL) error {
	if u.Port() == "" {
		return nil
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || port == 0 {
		return fmt.Errorf("%s: write a port from 1 to 65535, not %s", path, u.Port())
	}
	return nil
}

func isLoopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// graphAnswerTimeout is how long Graph waits for an answer: https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
const graphAnswerTimeout = 3 * time.Second

// transports are those that HTTP is served over.
var transports = []confignet.TransportType{confignet.TransportTypeTCP, confignet.TransportTypeTCP4, confignet.TransportTypeTCP6}

// validate ignores the endpoint if nothing listens.
func (w *WebhookConfig) validate(listens bool) error {
	errs := []error{
		positive("webhook.ack_timeout", w.AckTimeout, time.Millisecond),
	}
	if w.AckTimeout >= graphAnswerTimeout {
		errs = append(errs, fmt.Errorf("webhook.ack_timeout: Graph waits 3s for an answer: write less, such as 2500ms, not %s", w.AckTimeout))
	}
	longest := w.ServerConfig.MaxRequestBodySize
	if longest <= 0 { // as confighttp reads it
		longest = defaultMaxRequestBodySize
	}
	least := webhook.MinInFlightBytes(longest)
	if w.MaxInFlightBytes <= 0 {
		errs = append(errs, errors.New("webhook.max_in_flight_bytes: write a number of bytes above 0, such as 67108864"))
	} else if w.MaxInFlightBytes < least {
		errs = append(errs, fmt.Errorf("webhook.max_in_flight_bytes: %d is too little for a body of webhook.max_request_body_size: write at least %d", w.MaxInFlightBytes, least))
	}
	if slices.ContainsFunc(w.ServerConfig.CompressionAlgorithms, func(algorithm string) bool { return algorithm != "" }) {
		errs = append(errs, errors.New(`webhook.compression_algorithms: Graph does not compress, and compressed bodies are refused: remove this key`))
	}
	if w.Path != "" && (!strings.HasPrefix(w.Path, "/") || strings.ContainsAny(w.Path, "?#")) {
		errs = append(errs, fmt.Errorf("webhook.path: write a path that begins with /, without query, such as /graph/notifications, not %q", w.Path))
	}
	// The handler compares it with the path of the request, which net/http has decoded.
	if decoded, err := url.PathUnescape(w.Path); err == nil && decoded != w.Path {
		errs = append(errs, fmt.Errorf("webhook.path: it is compared with the decoded path of a request: write %q, not %q", decoded, w.Path))
	}
	if limit := w.ServerConfig.WriteTimeout; limit > 0 && limit <= w.AckTimeout {
		errs = append(errs, fmt.Errorf("webhook.write_timeout: an answer may take webhook.ack_timeout, %s: write more, such as 30s, or 0s for no limit, not %s", w.AckTimeout, limit))
	}
	if keepalive := w.ServerConfig.Keepalive.Get(); keepalive != nil && keepalive.IdleTimeout > webhook.MaxIdleTimeout {
		errs = append(errs, fmt.Errorf("webhook.keepalive.idle_timeout: idle connections occupy slots that Graph may need: write %s or less, not %s", webhook.MaxIdleTimeout, keepalive.IdleTimeout))
	}
	if !slices.Contains(transports, w.ServerConfig.NetAddr.Transport) {
		errs = append(errs, fmt.Errorf("webhook.transport: write tcp, tcp4 or tcp6, or remove this key, not %q", w.ServerConfig.NetAddr.Transport))
	}
	if listens {
		errs = append(errs, w.validateEndpoint())
	}
	return errors.Join(errs...)
}

func (w *WebhookConfig) validateEndpoint() error {
	endpoint := w.ServerConfig.NetAddr.Endpoint
	host, port, err := net.SplitHostPort(endpoint)
	switch {
	case err != nil || port == "":
		return fmt.Errorf("webhook.endpoint: write host:port, such as localhost:8443, not %q", endpoint)
	case !w.ServerConfig.TLS.HasValue() && !w.TLSTerminatedUpstream && !isLoopback(host):
		return fmt.Errorf("webhook.endpoint: %q would receive conversations without TLS: write webhook.tls, or webhook.tls_terminated_upstream: true if an ingress terminates TLS", endpoint)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return fmt.Errorf("webhook.endpoint: write a port up to 65535, such as localhost:8443, not %q", port)
	}
	return nil
}
