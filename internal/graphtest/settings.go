package graphtest

import (
	"cmp"
	"crypto/x509"
	"time"
)

// The application permissions that operations ask for.
const (
	// RoleReadAll is for subscriptions to Copilot interactions and for the history.
	RoleReadAll = "AiEnterpriseInteraction.Read.All"
	// RoleUsersReadAll is for the directory. It is not granted unless Settings.Roles or SetRoles says so.
	RoleUsersReadAll = "User.Read.All"
)

// Settings say what the emulated tenant holds and how it behaves. TenantID and ClientID are required;
// everything else is what Microsoft documents unless a test sets it otherwise.
type Settings struct {
	// TenantID is the one tenant that exists, a GUID.
	TenantID string
	// ClientID is the one application that is registered in it.
	ClientID string
	// ClientSecret is accepted in the body and as HTTP Basic; empty: no secret is accepted.
	ClientSecret string
	// ClientCertificates are the certificates that may sign client assertions.
	ClientCertificates []*x509.Certificate
	// FederatedAssertion is the one assertion of a federated credential that is accepted; empty: none is.
	FederatedAssertion string
	// Roles are granted to the application; nil: RoleReadAll. SetRoles changes them later.
	Roles []string

	// URL is the base URL under which clients reach the emulator; empty: what each request says in its Host.
	URL string
	// RootCAs are trusted when notifications are sent; nil: those of the system.
	RootCAs *x509.CertPool

	// AccessTokenLifetime is 1 h by default, whole seconds; a negative one issues tokens that are over.
	AccessTokenLifetime time.Duration
	// ValidationTokenLifetime is 24 h by default. A token is sent again and again until a tenth of it is left.
	ValidationTokenLifetime time.Duration
	// ValidationTokenVersion is 1 or 2; 0: 2.
	ValidationTokenVersion int
	// IssuerV1 and IssuerV2 are the issuers of validation tokens; empty: those of the global cloud.
	IssuerV1, IssuerV2 string

	// MinLifetime of a subscription is 45 min by default: less is raised to it.
	MinLifetime time.Duration
	// MaxLifetime of a subscription is 4,320 min by default: more is refused.
	MaxLifetime time.Duration
	// MaxLifetimeWithoutLifecycle is 60 min by default: more needs a lifecycleNotificationUrl.
	MaxLifetimeWithoutLifecycle time.Duration
	// HandshakeTimeout is how long the validation of an endpoint may take, 10 s by default.
	HandshakeTimeout time.Duration
	// AuthorizationLifetime is how long a subscription delivers after it was created, renewed or reauthorized; later it
	// pauses until it is reauthorized. 0: for ever.
	AuthorizationLifetime time.Duration

	// FirstTimeout is how long the first attempt to deliver waits for an answer, 3 s by default.
	FirstTimeout time.Duration
	// RetryTimeout is how long every later attempt waits, 10 s by default.
	RetryTimeout time.Duration
	// RetryDelay is the pause before the second attempt, 10 s by default; it doubles up to MaxRetryDelay, 10 min.
	RetryDelay, MaxRetryDelay time.Duration
	// RetryFor is when an item is given up and lost, 4 h by default.
	RetryFor time.Duration
	// BatchSize is the most items of one notification, 10 by default.
	BatchSize int
	// Concurrency is the most notifications sent at once, 16 by default.
	Concurrency int

	// ListPageSize splits the list of subscriptions into pages; 0: one page.
	ListPageSize int
	// HideCertificateIDs leaves encryptionCertificateId out of every GET.
	HideCertificateIDs bool
	// ReauthorizeGap is how far apart a PATCH and a reauthorize must be, 10 min by default. See Violations.
	ReauthorizeGap time.Duration
	// NoListLimit lifts the limit of 25 lists in 20 s.
	NoListLimit bool

	// MaxPending bounds the notifications on their way, 10,000 by default; Publish blocks beyond it.
	MaxPending int
	// HistorySize bounds the interactions kept for the history API, and the users known from them, 100,000 by default; the oldest
	// interactions go first.
	HistorySize int
	// HistoryLimit is the most requests a second to the history of all users, 30 by default as documented
	// (https://learn.microsoft.com/graph/throttling-limits); more get 429. Negative: no limit.
	HistoryLimit int
	// HistoryLag is how long after it happened an interaction, or a change of it, appears in the history.
	HistoryLag time.Duration
	// RecordSize bounds each list that the emulator keeps for tests, 10,000 by default; the oldest go first.
	RecordSize int
	// Seed makes faults that strike by chance repeatable.
	Seed uint64
}

func (s Settings) withDefaults() Settings {
	if s.Roles == nil {
		s.Roles = []string{RoleReadAll}
	}
	s.AccessTokenLifetime = cmp.Or(s.AccessTokenLifetime, time.Hour)
	s.ValidationTokenLifetime = cmp.Or(s.ValidationTokenLifetime, 24*time.Hour)
	s.ValidationTokenVersion = cmp.Or(s.ValidationTokenVersion, 2)
	s.IssuerV1 = cmp.Or(s.IssuerV1, "https://sts.windows.net/"+s.TenantID+"/")
	s.IssuerV2 = cmp.Or(s.IssuerV2, "https://login.microsoftonline.com/"+s.TenantID+"/v2.0")
	s.MinLifetime = cmp.Or(s.MinLifetime, 45*time.Minute)
	s.MaxLifetime = cmp.Or(s.MaxLifetime, 4320*time.Minute)
	s.MaxLifetimeWithoutLifecycle = cmp.Or(s.MaxLifetimeWithoutLifecycle, time.Hour)
	s.HandshakeTimeout = cmp.Or(s.HandshakeTimeout, 10*time.Second)
	s.FirstTimeout = cmp.Or(s.FirstTimeout, 3*time.Second)
	s.RetryTimeout = cmp.Or(s.RetryTimeout, 10*time.Second)
	s.RetryDelay = cmp.Or(s.RetryDelay, 10*time.Second)
	s.MaxRetryDelay = cmp.Or(s.MaxRetryDelay, 10*time.Minute)
	s.RetryFor = cmp.Or(s.RetryFor, 4*time.Hour)
	s.BatchSize = cmp.Or(s.BatchSize, 10)
	s.Concurrency = cmp.Or(s.Concurrency, 16)
	s.ReauthorizeGap = cmp.Or(s.ReauthorizeGap, 10*time.Minute)
	s.MaxPending = cmp.Or(s.MaxPending, 10_000)
	s.HistorySize = cmp.Or(s.HistorySize, 100_000)
	s.HistoryLimit = cmp.Or(s.HistoryLimit, 30)
	s.RecordSize = cmp.Or(s.RecordSize, 10_000)
	return s
}
