// Package graphtest is an emulator of Microsoft Graph and Entra ID for tests and demonstrations: tokens, subscriptions to Microsoft 365
// Copilot interactions, their encrypted and signed notifications, and the history of interactions.
//
// It keeps the documented rules to the letter, and where Graph is unpredictable it is the harsher of the two. It shares no code with
// the receiver, so what it seals and signs is an independent check of what the receiver opens and verifies.
//
//	emulator := graphtest.New(graphtest.Settings{TenantID: tenant, ClientID: client, ClientSecret: secret, RootCAs: roots})
//	defer emulator.Close()
//	url, err := emulator.Start("")                      // both the Graph endpoint and the authority, plain HTTP on loopback
//	...
//	sub, err := emulator.WaitSubscribed(ctx)            // until the client under test has created its subscription
//	n, err := emulator.Publish(ctx, graphtest.Created(prompt, response)...)
//	err = emulator.WaitDelivered(ctx, n)                // until 2xx came for n items in all
//
// # Time
//
// The zero Settings has the times of Graph: 45 minutes at least and 4,320 at most for a subscription, 3 s for a first answer, 10 s for
// later ones, retries for 4 h. Each is a field, so that a test can make it milliseconds: MinLifetime, MaxLifetime, FirstTimeout,
// RetryTimeout, RetryDelay, RetryFor, AccessTokenLifetime, AuthorizationLifetime. GET /subscriptions is limited to 25 in 20 s; a test
// with a fast loop sets NoListLimit. The history is limited to 30 requests a second; a test that asks faster sets HistoryLimit.
//
// # History and directory
//
// What was published is in the history of its user, delivered or not, deleted or not: Lost names what is nowhere else. AddHistory
// puts more there. The directory lists the users that SetUsers names, else those who conversed, to holders of RoleUsersReadAll.
//
// # What happened
//
// Stats, Requests, HistoryRequests, Acknowledgements, Lost, Violations and Subscriptions tell; Wait, WaitSubscribed, WaitDelivered,
// WaitIdle and WaitRequests block until it has.
//
// # What goes wrong
//
//	emulator.Fail(graphtest.OpCreate, graphtest.Fault{Status: 429, RetryAfter: "2", Times: 3})
//	emulator.Fail(graphtest.AnyGraph, graphtest.Fault{Reset: true})     // until emulator.Heal()
//	emulator.SetDeliveryFaults(graphtest.DeliveryFaults{Duplicate: 0.2, Reorder: 0.5})
//	emulator.SendLifecycle(ctx, graphtest.ReauthorizationRequired)
//	emulator.RemoveSubscription(ctx, id, false)
//	emulator.ExpireSubscription(id, time.Now())
//	emulator.ExpireAuthorization(id)                                    // pauses until PATCH or reauthorize
//	emulator.SetUnlicensed(user)                                        // HistoryLimit and HistoryLag are Settings
//	emulator.SetRoles(); emulator.RevokeTokens(); emulator.RotateKeys(); emulator.SendNullTokens(true)
//
// # What a forger sends
//
// Collection makes an authentic notification to change before Post sends it; Token changes the claims of a signed validation token;
// SignWith signs with any key and method; Seal encrypts for any certificate; PostRaw and PostTo send any bytes.
//
//	c, err := emulator.Collection(graphtest.Created(prompt)...)
//	c.Value[0].ClientState = "guessed"
//	c.ValidationTokens = []string{emulator.Token(func(claims map[string]any) { claims["aud"] = "another application" })}
//	status, err := emulator.Post(ctx, c)
//
// # What a tenant looks like
//
// Turns invents a stream of prompts and answers of many apps and users, the same for the same seed.
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
	"time"

	"golang.org/x/time/rate"
)

// ErrClosed is returned for work that comes after Close.
var ErrClosed = errors.New("the emulator is closed")

// Emulator stands in for Microsoft Graph and Entra ID of one tenant with one registered application.
// It is an http.Handler; Start serves it on an address of its own. All methods may be called at the same time.
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
	client    *http.Client
	// historyLimit is that of Settings.HistoryLimit.
	historyLimit *rate.Limiter

	// ctx lives until Close; deliveries end with it.
	ctx    context.Context
	cancel context.CancelFunc
	// slots holds one token for each notification being posted, pending one for each not yet delivered.
	slots, pending chan struct{}

	mu     sync.Mutex // guards what follows
	closed bool
	server *http.Server
	work   sync.WaitGroup
}

// New makes an emulator. It panics when the tenant or the application has no id, since a test can do nothing about that.
func New(settings Settings) *Emulator {
	if settings.TenantID == "" || settings.ClientID == "" {
		panic("graphtest: Settings need a TenantID and a ClientID")
	}
	settings = settings.withDefaults()
	ctx, cancel := context.WithCancel(context.Background())
	recorder := newRecorder(settings.RecordSize)
	return &Emulator{
		settings:     settings,
		keys:         newKeyRing(settings),
		access:       &accessTokens{key: randomBytes(32), roles: settings.Roles},
		subs:         newRegistry(recorder),
		recorder:     recorder,
		faults:       newFaultSet(settings.Seed),
		history:      newHistoryStore(settings),
		directory:    newDirectory(settings.HistorySize),
		historyLimit: newHistoryLimiter(settings.HistoryLimit),
		users:        &turnUsers{limit: settings.HistorySize, users: map[[2]string]string{}},
		client:       newClient(settings.RootCAs),
		ctx:          ctx,
		cancel:       cancel,
		slots:        make(chan struct{}, settings.Concurrency),
		pending:      make(chan struct{}, settings.MaxPending),
	}
}

// Start listens on address, 127.0.0.1:0 if empty, and serves plain HTTP there until Close. It returns the base URL,
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

// shutdownTimeout is how long requests under way may still take once the emulator stops listening.
const shutdownTimeout = 200 * time.Millisecond

// StopListening lets go of the address at once, and soon of all connections to it. Deliveries go on until Close.
func (e *Emulator) StopListening() {
	e.mu.Lock()
	server := e.server
	e.mu.Unlock()
	if server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.ctx), shutdownTimeout)
	defer cancel()
	_ = server.Shutdown(ctx) // what is left of it is closed now
	_ = server.Close()
}

// Close stops listening and delivering and waits until both ended. What was not delivered stays undelivered.
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

// spawn runs f under the emulator's own context; Close waits for it.
func (e *Emulator) spawn(f func(context.Context)) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return ErrClosed
	}
	e.work.Go(func() { f(e.ctx) })
	return nil
}

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
	// MinReauthorizeInterval is how far apart a PATCH and a reauthorize must be, 10 min by default. See Violations.
	MinReauthorizeInterval time.Duration
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
	s.MinReauthorizeInterval = cmp.Or(s.MinReauthorizeInterval, 10*time.Minute)
	s.MaxPending = cmp.Or(s.MaxPending, 10_000)
	s.HistorySize = cmp.Or(s.HistorySize, 100_000)
	s.HistoryLimit = cmp.Or(s.HistoryLimit, 30)
	s.RecordSize = cmp.Or(s.RecordSize, 10_000)
	return s
}

// Stats returns the counts so far.
func (e *Emulator) Stats() Stats {
	e.subs.removeExpired()
	return e.recorder.snapshot()
}

// Requests returns the calls of clients in the order of their end; of all operations when none is named.
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

// Acknowledgements returns the answers to handshakes and notifications in the order in which they came.
func (e *Emulator) Acknowledgements() []Acknowledgement {
	e.recorder.mu.Lock()
	defer e.recorder.mu.Unlock()
	return slices.Clone(e.recorder.acks)
}

// Lost returns the ids of the interactions that only the history has: not acknowledged within RetryFor, or their subscription
// went (Stats.Lost), or none was there for them (Stats.Unheard).
func (e *Emulator) Lost() []string {
	e.recorder.mu.Lock()
	defer e.recorder.mu.Unlock()
	return slices.Clone(e.recorder.lost)
}

// Violations returns what a client did that Microsoft warns of without refusing it.
func (e *Emulator) Violations() []string {
	e.recorder.mu.Lock()
	defer e.recorder.mu.Unlock()
	return slices.Clone(e.recorder.violations)
}

// Wait blocks until done says so of the counts, or ctx ends.
func (e *Emulator) Wait(ctx context.Context, done func(Stats) bool) error {
	if err := e.recorder.wait(ctx, done); err != nil {
		return fmt.Errorf("wait for the emulator: %w", err)
	}
	return nil
}

// WaitSubscribed blocks until a subscription lives and returns the oldest one.
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

// WaitDelivered blocks until n items in all were acknowledged with 2xx.
func (e *Emulator) WaitDelivered(ctx context.Context, n int) error {
	return e.Wait(ctx, func(s Stats) bool { return s.Acknowledged >= n })
}

// WaitIdle blocks until nothing is on its way: every item offered was acknowledged or lost.
func (e *Emulator) WaitIdle(ctx context.Context) error {
	return e.Wait(ctx, func(s Stats) bool {
		return s.Offered == s.Acknowledged+s.Lost && s.LifecycleOffered == s.LifecycleAcknowledged+s.LifecycleLost
	})
}

// WaitRequests blocks until the operation was called n times in all.
func (e *Emulator) WaitRequests(ctx context.Context, op Operation, n int) error {
	return e.Wait(ctx, func(s Stats) bool { return s.Requests[op] >= n })
}

// sleep waits and tells whether it waited to the end.
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
