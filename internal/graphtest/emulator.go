package graphtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
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
	records   *recorder
	faults    *faultBoard
	history   *archive
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
	records := newRecorder(settings.RecordSize)
	return &Emulator{
		settings:     settings,
		keys:         newKeyRing(settings),
		access:       &accessTokens{key: randomBytes(32), roles: settings.Roles},
		subs:         newRegistry(records),
		records:      records,
		faults:       newFaultBoard(settings.Seed),
		history:      newArchive(settings),
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

// answerTime is how long requests under way may still take once the emulator stops listening.
const answerTime = 200 * time.Millisecond

// StopListening lets go of the address at once, and soon of all connections to it. Deliveries go on until Close.
func (e *Emulator) StopListening() {
	e.mu.Lock()
	server := e.server
	e.mu.Unlock()
	if server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.ctx), answerTime)
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
