// SPDX-License-Identifier: Apache-2.0

// Package graphtest is an emulator of Microsoft Graph and Entra ID for tests and demonstrations: tokens, subscriptions to Microsoft 365
// Copilot interactions, their encrypted and signed notifications, and the history of interactions.
//
// It follows the documented rules exactly, and where Graph's behavior varies it takes the strictest variant. It shares no code with
// the receiver, so what it encrypts and signs is an independent check of what the receiver decrypts and verifies.
//
//	emulator := graphtest.New(graphtest.Settings{TenantID: tenant, ClientID: client, ClientSecret: secret, RootCAs: roots})
//	defer emulator.Close()
//	url, err := emulator.Start("")                      // both the Graph endpoint and the authority, plain HTTP on loopback
//	...
//	sub, err := emulator.WaitSubscribed(ctx)            // until the client under test has created its subscription
//	n, err := emulator.Publish(ctx, graphtest.Created(prompt, response)...)
//	err = emulator.WaitDelivered(ctx, n)                // until n items in total were answered with 2xx
//
// # Time
//
// The zero Settings has Graph's times: a subscription lasts 45 to 4,320 minutes, the first delivery attempt waits 3 s for an answer,
// later ones 10 s, and retries end after 4 h. Each is a field, so that a test can shorten it to milliseconds: MinLifetime, MaxLifetime,
// FirstTimeout, RetryTimeout, RetryDelay, RetryFor, AccessTokenLifetime, AuthorizationLifetime. GET /subscriptions is limited to 25
// requests in 20 s; a test that lists more often sets NoListLimit. The history is limited to 30 requests per second; a test that needs
// more sets HistoryLimit. The directory is limited likewise by DirectoryLimit.
//
// # History and directory
//
// Every published interaction is in the history of its user, delivered or not, deleted or not; Lost returns those that are only
// there. AddHistory adds interactions without notifying. The directory requires RoleUsersReadAll and holds the people passed to
// SetDirectory, such as a Company, or licensed users without properties, passed to SetUsers; Join and Leave change it. Until one
// of these is called, every user with an interaction is a licensed user of the directory. SetProducts sets what the tenant has bought,
// which requires RoleLicensesReadAll, and SetSecretEnd when the secret of the app registration expires, which RoleApplicationsReadAll
// shows.
//
// # Observing
//
// Stats, Requests, HistoryRequests, UserRequests, Acknowledgements, Lost, Violations and Subscriptions return what happened so far; Wait,
// WaitSubscribed, WaitDelivered, WaitIdle and WaitRequests block until it has happened.
//
// # Faults
//
//	emulator.Fail(graphtest.OpCreate, graphtest.Fault{Status: 429, RetryAfter: "2", Times: 3})
//	emulator.Fail(graphtest.AnyGraph, graphtest.Fault{Reset: true})     // until emulator.Heal()
//	emulator.SetDeliveryFaults(graphtest.DeliveryFaults{Duplicate: 0.2, Reorder: 0.5})
//	emulator.BreakIngress()                                             // until emulator.RestoreIngress()
//	emulator.SendLifecycle(ctx, graphtest.ReauthorizationRequired)
//	emulator.RemoveSubscription(ctx, id, false)
//	emulator.ExpireSubscription(id, time.Now())
//	emulator.ExpireAuthorization(id)                                    // pauses delivery until PATCH or reauthorize
//	emulator.SetClock(3 * time.Hour)                                    // as after a suspension of the collector's host
//	emulator.SetUnlicensed(user)                                        // see also Settings.HistoryLimit and HistoryLag
//	emulator.Leave(user); emulator.Join(person)                         // see also Settings.DirectoryLimit
//	emulator.SetRoles(); emulator.RevokeTokens(); emulator.RotateKeys(); emulator.SendNullTokens(true)
//	emulator.SetClientSecrets(); emulator.SetClientCertificates(); emulator.SetFederatedAssertions()
//
// # Forged notifications
//
// Collection returns an authentic notification that a test can modify before Post sends it; Token returns a signed validation token
// with modified claims; SignWith signs with any key and method; Seal encrypts for any certificate; PostRaw and PostTo send any bytes.
//
//	c, err := emulator.Collection(graphtest.Created(prompt)...)
//	c.Value[0].ClientState = "guessed"
//	c.ValidationTokens = []string{emulator.Token(func(claims map[string]any) { claims["aud"] = "another application" })}
//	status, err := emulator.Post(ctx, c)
//
// # Test data
//
// Turns generates a stream of prompts and answers of many apps and users; the same seed gives the same stream. Workforce does so for a
// Company whose people have habits and working hours, and makes their history too.
// ServerCertificate makes a certificate for a notification endpoint on loopback.
package graphtest

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// ErrClosed is returned for work that starts after Close.
var ErrClosed = errors.New("the emulator is closed")

// Emulator emulates Microsoft Graph and Entra ID for one tenant with one registered application.
// It is an http.Handler; Start serves it on an address of its own. All methods are safe for concurrent use.
type Emulator struct {
	settings  Settings
	keys      *keyRing
	access    *accessTokens
	subs      *registry
	recorder  *recorder
	faults    *faultSet
	history   *historyStore
	users     *turnUsers
	directory *directory
	tenant    *tenantState
	client    *http.Client
	ingress   *ingress
	// credentials are those that the token endpoint accepts.
	credentials *credentials
	// clockOffset is what SetClock has set, in nanoseconds.
	clockOffset atomic.Int64
	// historyLimit enforces Settings.HistoryLimit, directoryLimit Settings.DirectoryLimit.
	historyLimit, directoryLimit *rate.Limiter

	// ctx is canceled by Close, which ends all deliveries.
	ctx    context.Context
	cancel context.CancelFunc
	// slots holds one value for each notification being posted, pending one for each not yet delivered.
	slots, pending chan struct{}

	mu     sync.Mutex // guards what follows
	closed bool
	server *http.Server
	work   sync.WaitGroup
}

// New returns an emulator that does not listen yet. It panics without TenantID or ClientID: that is a mistake in the test.
func New(settings Settings) *Emulator {
	if settings.TenantID == "" || settings.ClientID == "" {
		panic("graphtest: Settings need a TenantID and a ClientID")
	}
	settings = settings.withDefaults()
	ctx, cancel := context.WithCancel(context.Background())
	recorder := newRecorder(settings.RecordSize)
	client, ingress := newClient(settings.RootCAs)
	return &Emulator{
		settings:       settings,
		keys:           newKeyRing(settings),
		credentials:    newCredentials(settings),
		access:         &accessTokens{key: randomBytes(32), roles: settings.Roles},
		subs:           newRegistry(recorder),
		recorder:       recorder,
		faults:         newFaultSet(settings.Seed),
		history:        newHistoryStore(settings),
		directory:      newDirectory(settings.HistorySize),
		tenant:         newTenantState(time.Now()),
		historyLimit:   newLimiter(settings.HistoryLimit),
		directoryLimit: newLimiter(settings.DirectoryLimit),
		users:          &turnUsers{limit: settings.HistorySize, users: map[[2]string]string{}},
		client:         client,
		ingress:        ingress,
		ctx:            ctx,
		cancel:         cancel,
		slots:          make(chan struct{}, settings.Concurrency),
		pending:        make(chan struct{}, settings.MaxPending),
	}
}

// Start listens on address (127.0.0.1:0 if empty) and serves plain HTTP there until Close. It returns the base URL,
// which is both the Graph endpoint and the authority.
func (e *Emulator) Start(address string) (string, error) {
	if address == "" {
		address = "127.0.0.1:0"
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return "", ErrClosed
	}
	if e.server != nil {
		return "", errors.New("the emulator is already listening")
	}
	listener, err := (&net.ListenConfig{}).Listen(e.ctx, "tcp", address)
	if err != nil {
		return "", fmt.Errorf("listen on %s: %w", address, err)
	}
	e.server = &http.Server{Handler: e, ReadHeaderTimeout: 10 * time.Second}
	e.work.Go(func() { _ = e.server.Serve(listener) })
	return "http://" + listener.Addr().String(), nil
}

// shutdownTimeout is how long requests in flight may still take after StopListening.
const shutdownTimeout = 200 * time.Millisecond

// StopListening closes the listener immediately and all connections to it after at most 200 ms. Deliveries continue until Close.
func (e *Emulator) StopListening() {
	e.mu.Lock()
	server := e.server
	e.mu.Unlock()
	if server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.ctx), shutdownTimeout)
	defer cancel()
	_ = server.Shutdown(ctx) // Close ends the requests that outlast it
	_ = server.Close()
}

// Close stops listening and delivering and waits until both have ended. Notifications in flight are not delivered.
func (e *Emulator) Close() {
	e.mu.Lock()
	e.closed = true
	server := e.server
	e.mu.Unlock()
	e.cancel()
	if server != nil {
		_ = server.Close()
	}
	e.work.Wait()
	e.client.CloseIdleConnections()
}

// spawn runs f in a goroutine with the emulator's own context; Close waits for it.
func (e *Emulator) spawn(f func(context.Context)) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return ErrClosed
	}
	e.work.Go(func() { f(e.ctx) })
	return nil
}

// The application permissions that operations require.
const (
	// RoleReadAll permits subscriptions to Copilot interactions and reading the history.
	RoleReadAll = "AiEnterpriseInteraction.Read.All"
	// RoleUsersReadAll permits reading the directory. It is granted only through Settings.Roles or SetRoles.
	RoleUsersReadAll = "User.Read.All"
	// RoleLicensesReadAll permits reading the products of the tenant, RoleApplicationsReadAll its app registration. They are granted
	// likewise.
	RoleLicensesReadAll     = "LicenseAssignment.Read.All"
	RoleApplicationsReadAll = "Application.Read.All"
)

// Settings describe the emulated tenant and how it behaves. TenantID and ClientID are required; every other default is what
// Microsoft documents.
type Settings struct {
	// TenantID is the only tenant, a GUID.
	TenantID string
	// ClientID is the only application registered in the tenant, a GUID.
	ClientID string
	// ClientSecret is accepted in the body and as HTTP Basic; if empty, no secret is accepted.
	ClientSecret string
	// ClientCertificates are the certificates that may sign client assertions.
	ClientCertificates []*x509.Certificate
	// FederatedAssertion is the only assertion of a federated credential that is accepted; if empty, none is.
	FederatedAssertion string
	// Roles are granted to the application; nil means RoleReadAll. SetRoles changes them later.
	Roles []string

	// URL is the base URL under which clients reach the emulator; if empty, it is derived from each request's Host.
	URL string
	// RootCAs are trusted when notifications are sent; nil means the system's.
	RootCAs *x509.CertPool

	// AccessTokenLifetime is 1 h by default, in whole seconds; if negative, tokens are issued expired.
	AccessTokenLifetime time.Duration
	// ValidationTokenLifetime is 24 h by default. A token is reused until a tenth of its lifetime is left.
	ValidationTokenLifetime time.Duration
	// ValidationTokenVersion is 1 or 2, 2 by default.
	ValidationTokenVersion int
	// IssuerV1 and IssuerV2 are the issuers of validation tokens; by default those of the global cloud.
	IssuerV1, IssuerV2 string

	// MinLifetime of a subscription is 45 min by default; a shorter lifetime is raised to it.
	MinLifetime time.Duration
	// MaxLifetime of a subscription is 4,320 min by default; a longer lifetime is refused.
	MaxLifetime time.Duration
	// MaxLifetimeWithoutLifecycle is 60 min by default; a longer lifetime requires a lifecycleNotificationUrl.
	MaxLifetimeWithoutLifecycle time.Duration
	// HandshakeTimeout bounds the validation of an endpoint, 10 s by default.
	HandshakeTimeout time.Duration
	// AuthorizationLifetime is how long a subscription delivers after it was created, renewed or reauthorized; after that,
	// delivery pauses until it is renewed or reauthorized. 0 means no limit.
	AuthorizationLifetime time.Duration

	// FirstTimeout is how long the first delivery attempt waits for an answer, 3 s by default.
	FirstTimeout time.Duration
	// RetryTimeout is how long every later attempt waits, 10 s by default.
	RetryTimeout time.Duration
	// RetryDelay is the delay before the second attempt, 10 s by default; it doubles up to MaxRetryDelay, 10 min by default.
	RetryDelay, MaxRetryDelay time.Duration
	// RetryFor is how long delivery of an item is retried before it is lost, 4 h by default.
	RetryFor time.Duration
	// BatchSize is the maximum number of items in one notification, 10 by default.
	BatchSize int
	// Concurrency is the maximum number of notifications being posted at once, 16 by default.
	Concurrency int

	// ListPageSize splits the list of subscriptions into pages; 0 means a single page.
	ListPageSize int
	// HideCertificateIDs makes encryptionCertificateId null in every GET.
	HideCertificateIDs bool
	// MinReauthorizeInterval is the minimum time between a PATCH and a reauthorize, 10 min by default. See Violations.
	MinReauthorizeInterval time.Duration
	// NoListLimit removes the limit of 25 lists in 20 s.
	NoListLimit bool

	// MaxPending bounds the notifications not yet delivered, 10,000 by default; Publish blocks when it is reached.
	MaxPending int
	// HistorySize bounds the interactions kept for the history API and the users known from them, 100,000 by default; the oldest
	// interactions are dropped first.
	HistorySize int
	// HistoryLimit is the maximum number of history requests per second over all users, 30 by default as documented
	// (https://learn.microsoft.com/graph/throttling-limits); further requests get 429. A negative value means no limit.
	HistoryLimit int
	// DirectoryLimit is the maximum number of requests per second to the directory, pages and single users, 350 by default: the units
	// of a small tenant, of which a request costs one or two (https://learn.microsoft.com/graph/throttling-limits). Further requests
	// get 429. A negative value means no limit.
	DirectoryLimit int
	// HistoryLag is the delay after which an interaction, or a change of it, appears in the history.
	HistoryLag time.Duration
	// RecordSize bounds each list that the emulator keeps for tests, 10,000 by default; the oldest entries are dropped first.
	RecordSize int
	// Seed makes random faults repeatable.
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
	s.MinReauthorizeInterval = cmp.Or(s.MinReauthorizeInterval, 10*time.Minute)
	s.MaxPending = cmp.Or(s.MaxPending, 10_000)
	s.HistorySize = cmp.Or(s.HistorySize, 100_000)
	s.HistoryLimit = cmp.Or(s.HistoryLimit, 30)
	s.DirectoryLimit = cmp.Or(s.DirectoryLimit, 350)
	s.RecordSize = cmp.Or(s.RecordSize, 10_000)
	return s
}

// Stats returns the counts so far.
func (e *Emulator) Stats() Stats {
	e.subs.removeExpired()
	return e.recorder.snapshot()
}

// Requests returns the calls of the named operations, or of all if none is named, in the order in which they ended.
func (e *Emulator) Requests(operations ...Operation) []Request {
	e.recorder.mu.Lock()
	defer e.recorder.mu.Unlock()
	var requests []Request
	for _, r := range e.recorder.requests {
		if len(operations) == 0 || slices.Contains(operations, r.Operation) {
			requests = append(requests, r)
		}
	}
	return requests
}

// Acknowledgements returns the answers to handshakes and notifications in the order in which they arrived.
func (e *Emulator) Acknowledgements() []Acknowledgement {
	e.recorder.mu.Lock()
	defer e.recorder.mu.Unlock()
	return slices.Clone(e.recorder.acks)
}

// Lost returns the ids of the interactions that only the history has: not acknowledged within RetryFor or before their subscription
// was removed (Stats.Lost), or covered by no subscription (Stats.Uncovered).
func (e *Emulator) Lost() []string {
	e.recorder.mu.Lock()
	defer e.recorder.mu.Unlock()
	return slices.Clone(e.recorder.lost)
}

// Violations returns what clients did that Microsoft's documentation warns against although Graph accepts it.
func (e *Emulator) Violations() []string {
	e.recorder.mu.Lock()
	defer e.recorder.mu.Unlock()
	return slices.Clone(e.recorder.violations)
}

// Wait blocks until done returns true for the current counts, or ctx ends.
func (e *Emulator) Wait(ctx context.Context, done func(Stats) bool) error {
	if err := e.recorder.wait(ctx, done); err != nil {
		return fmt.Errorf("wait for the emulator: %w", err)
	}
	return nil
}

// WaitSubscribed blocks until a subscription exists and returns the oldest one.
func (e *Emulator) WaitSubscribed(ctx context.Context) (Subscription, error) {
	var found Subscription
	err := e.Wait(ctx, func(Stats) bool {
		active := e.subs.active()
		if len(active) > 0 {
			found = active[0]
		}
		return len(active) > 0
	})
	return found, err
}

// WaitDelivered blocks until n items in total were acknowledged with 2xx.
func (e *Emulator) WaitDelivered(ctx context.Context, n int) error {
	return e.Wait(ctx, func(s Stats) bool { return s.Acknowledged >= n })
}

// WaitIdle blocks until nothing is pending: every item offered was acknowledged or lost.
func (e *Emulator) WaitIdle(ctx context.Context) error {
	return e.Wait(ctx, func(s Stats) bool {
		return s.Offered == s.Acknowledged+s.Lost && s.LifecycleOffered == s.LifecycleAcknowledged+s.LifecycleLost
	})
}

// WaitRequests blocks until the operation was called n times in total.
func (e *Emulator) WaitRequests(ctx context.Context, op Operation, n int) error {
	return e.Wait(ctx, func(s Stats) bool { return s.Requests[op] >= n })
}

// sleep reports whether it waited for all of d; false means that ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
