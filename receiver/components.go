package receiver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configauth"
	"go.opentelemetry.io/collector/config/configmiddleware"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/extension/extensionmiddleware"
	"go.opentelemetry.io/collector/extension/xextension/storage"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/directory"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap/gapstore"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/jwks"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadata"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

// components are the parts of a started receiver, connected with each other.
type components struct {
	store       *statestore.Store
	clients     clients
	signingKeys *jwks.KeySet
	cache       *dedupe.Cache
	gaps        *gapstore.Store
	undelivered *gapstore.Undelivered
	directory   *directory.Directory
	backfiller  *backfill.Backfiller

	// What follows is nil without a subscription: the history is polled instead.
	keys    *keys
	manager *subscription.Manager
	server  *webhook.Server
}

// newComponents creates the components that need no state of earlier runs. If it fails, it closes what it opened.
func (r *Receiver) newComponents(ctx context.Context, host component.Host) (*components, error) {
	client, err := openStorage(ctx, host, r.settings.Storage, r.set.ID, r.settings.TenantID)
	if err != nil {
		return nil, err
	}
	c := &components{store: statestore.New(client)}
	if c.clients, err = r.clients(ctx, host); err != nil {
		return nil, errors.Join(err, c.store.Close(ctx))
	}
	cache := dedupe.Settings{
		Window: r.settings.Window, MaxEntries: r.settings.MaxEntries, Logger: r.set.Logger, Telemetry: r.telemetry,
	}
	if r.settings.Storage != nil {
		cache.Store = c.store
	}
	c.cache = dedupe.New(cache)
	c.signingKeys = jwks.New(jwks.Settings{URL: r.settings.JWKSURL, HTTP: c.clients.plain})
	c.gaps = gapstore.New(gapstore.Settings{
		Rules: r.settings.History.Rules, Store: c.store, Now: c.clients.graph.Now, Logger: r.set.Logger, Telemetry: r.telemetry,
	})
	c.undelivered = gapstore.NewUndelivered(c.gaps)
	h := r.settings.History
	throttle := graph.NewThrottle(graph.ThrottleSettings{
		Graph: c.clients.graph, RequestsPerSecond: h.RequestsPerSecond, Logger: r.set.Logger, Status: r.status.Part("history"),
	})
	c.directory = directory.New(directory.Settings{Graph: throttle, Store: c.store, Logger: r.set.Logger})
	c.backfiller = backfill.New(backfill.Settings{
		TenantID: r.settings.TenantID, Gaps: c.gaps, Users: h.Users, Directory: c.directory, Concurrency: h.Concurrency,
		Graph: throttle, Deliver: r.pipeline.Backfill, Permanent: webhook.Permanent, Cache: c.cache,
		Logger: r.set.Logger, Telemetry: r.telemetry,
	})
	r.pipeline.cache, r.pipeline.gaps, r.pipeline.undelivered, r.pipeline.seen = c.cache, c.gaps, c.undelivered, c.directory.Seen
	return c, nil
}

// load reads the keys and the state of earlier runs, and creates the components that need them.
func (r *Receiver) load(ctx context.Context, c *components) error {
	subscribe, damaged := len(r.settings.Resources) > 0, false
	if subscribe {
		var err error
		c.keys = newKeys(r.settings.Certificates, c.store, r.settings.Storage == nil, r.set.Logger, r.status.Part)
		if damaged, err = c.keys.load(ctx); err != nil {
			return r.unreadable(err)
		}
	}
	if err := c.load(ctx); err != nil {
		return r.unreadable(err)
	}
	if !subscribe {
		return nil
	}
	ring, err := c.keys.first()
	if err != nil {
		return err
	}
	if damaged || c.keys.missing(ring) {
		c.removedKey(ctx)
	}
	c.keys.accept(ctx, ring)
	return r.newSubscription(ctx, c, ring)
}

// unreadable explains why the receiver does not start without the state of earlier runs.
func (r *Receiver) unreadable(err error) error {
	return fmt.Errorf("storage: %q can't be read, and without it the receiver does not know what earlier runs left to do: check that extension and what it stores in, then start again; nothing was written to it: %w",
		r.settings.Storage, err)
}

// newSubscription creates the components that maintain the subscription and receive its notifications.
func (r *Receiver) newSubscription(ctx context.Context, c *components, ring notification.Ring) error {
	decrypter := notification.NewDecrypter(notification.Settings{
		TenantID:  r.settings.TenantID,
		ClientID:  r.settings.ClientID,
		Audiences: r.settings.Audiences,
		Issuers:   r.settings.Issuers,
		Resources: r.settings.Resources,
		Ring:      ring,
		Keys:      c.signingKeys,
		Seen:      r.pipeline,
		Telemetry: r.telemetry,
	})
	r.pipeline.decrypter = decrypter
	observer := newSubscriptionGaps(c.gaps, c.store, r.set.Logger)
	known, _, err := observer.known.Load(ctx)
	if err != nil {
		return r.unreadable(err)
	}
	recent := false
	c.gaps.View(func(state *gap.State, now time.Time) { recent = state.Recent(c.gaps.Rules(), now) })
	c.manager = subscription.New(subscription.Settings{
		Resources:       r.settings.Resources,
		ChangeTypes:     r.settings.ChangeTypes,
		NotificationURL: r.settings.NotificationURL,
		Webhook:         subscription.Webhook{Path: r.settings.WebhookPath, Address: r.settings.Webhook.NetAddr.Endpoint},
		Lifetime:        r.settings.Lifetime,
		CheckInterval:   r.settings.CheckInterval,
		ReplaceForeign:  r.settings.ReplaceForeign,
		Keys:            r.subscriptionKeys(ring),
		Known:           known,
		RenewOnAdopt:    !recent,
		Graph:           c.clients.graph,
		Observer:        observer,
		Telemetry:       r.telemetry,
		Logger:          r.set.Logger,
		Status:          r.status.Part("subscription"),
	})
	c.server = r.newServer(c)
	return nil
}

func (r *Receiver) newServer(c *components) *webhook.Server {
	return webhook.New(webhook.Settings{
		Config:           r.settings.Webhook,
		Path:             r.settings.WebhookPath,
		AckTimeout:       r.settings.AckTimeout,
		MaxInFlightBytes: r.settings.MaxInFlightBytes,
		ClientStates:     r.pipeline.decrypter.ClientStates,
		Decrypt:          r.pipeline.Decrypt,
		Wake: func(event notification.Lifecycle) {
			c.manager.Wake(subscription.Event{SubscriptionID: event.SubscriptionID, Kind: event.Event})
		},
		Reject:    r.pipeline.Reject,
		Deliver:   r.pipeline.Take,
		Telemetry: r.telemetry,
		Fatal:     r.status.Fatal,
		Logger:    r.set.Logger,
	})
}

// load reads the state of earlier runs. Its error is one of the storage.
func (r *components) load(ctx context.Context) error {
	rules := r.gaps.Rules()
	// The gaps decide how much must stay known, and they need the cache to begin this run.
	r.cache.RetainFrom(time.Now().Add(-rules.MaxGap - backfill.Overlap))
	if err := r.cache.Load(ctx); err != nil {
		return err
	}
	if err := r.gaps.Load(ctx, r.cache.NewestCreation()); err != nil {
		return err
	}
	r.undelivered.Load()
	return r.directory.Load(ctx)
}

// retain keeps the deliveries known that are going to be compared with the history.
func (r *components) retain() {
	var from time.Time
	r.gaps.View(func(state *gap.State, now time.Time) { from = state.NeededFrom(r.gaps.Rules(), now) })
	r.cache.RetainFrom(from.Add(-backfill.Overlap))
}

// removedKey opens the gap of a key that is no longer accepted, and stores it.
func (r *components) removedKey(ctx context.Context) {
	r.gaps.Update(ctx, (*gap.State).KeyRemoved)
	flush(ctx, r.gaps)
}

// timeLeft returns the time until the first subscription ends; false until every resource has had one.
func (r *components) timeLeft(now time.Time) (time.Duration, bool) {
	if r.manager == nil {
		return 0, false
	}
	return r.manager.TimeLeft(now)
}

// save stores the state for the next run. It must be called after the background goroutines have ended.
func (r *components) save(ctx context.Context) error {
	r.undelivered.Save(ctx)
	if left, known := r.timeLeft(time.Now()); known && left > 0 {
		r.gaps.Update(ctx, func(state *gap.State, now time.Time) { state.Stopped(r.gaps.Rules(), now) })
	}
	return errors.Join(r.cache.Save(ctx), r.directory.Save(ctx), r.gaps.Flush(ctx))
}

func (r *components) close(ctx context.Context) error {
	r.signingKeys.Close()
	r.clients.transports.close()
	return r.store.Close(ctx)
}

// clients are the HTTP clients for Microsoft's services.
type clients struct {
	graph *graph.Client
	// plain has the same proxy and TLS settings, but neither credentials nor the headers for Graph.
	plain *http.Client
	// transports are those of both clients.
	transports *transports
}

// transports is an HTTP client middleware that records the transports which confighttp creates. confighttp wraps them for
// headers, credentials and instrumentation, and the wrappers do not forward CloseIdleConnections.
type transports struct {
	component.StartFunc
	component.ShutdownFunc
	all []http.RoundTripper
}

// GetHTTPRoundTripper implements extensionmiddleware.HTTPClient. Its round tripper returns proxy failures as
// errors that name the proxy.
func (t *transports) GetHTTPRoundTripper(context.Context) (extensionmiddleware.WrapHTTPRoundTripperFunc, error) {
	return func(_ context.Context, base http.RoundTripper) (http.RoundTripper, error) {
		t.all = append(t.all, base)
		if transport, ok := base.(*http.Transport); ok {
			return graph.ThroughProxy(transport), nil
		}
		return base, nil
	}, nil
}

// close closes idle connections. Those in use are closed after their request.
func (t *transports) close() {
	for _, transport := range t.all {
		(&http.Client{Transport: transport}).CloseIdleConnections()
	}
}

func (r *Receiver) clients(ctx context.Context, host component.Host) (clients, error) {
	config := r.settings.Graph
	// The id can't clash with an extension of the user, since no extension has the receiver's type.
	stored, id := &transports{}, component.NewIDWithName(metadata.Type, "transport")
	extensions := map[component.ID]component.Component{}
	maps.Copy(extensions, host.GetExtensions())
	extensions[id] = stored
	// The last middleware gets the transport itself.
	config.Middlewares = append(slices.Clone(config.Middlewares), configmiddleware.Config{ID: id})
	authenticated, err := config.ToClient(ctx, extensions, r.set.TelemetrySettings)
	if err != nil {
		return clients{}, fmt.Errorf("graph: %w", err)
	}
	config.Auth = configoptional.None[configauth.Config]()
	config.Headers = nil
	plain, err := config.ToClient(ctx, extensions, r.set.TelemetrySettings)
	if err != nil {
		return clients{}, fmt.Errorf("graph: %w", err)
	}
	settings := graph.Settings{Endpoint: r.settings.Graph.Endpoint, HTTP: authenticated, Telemetry: r.telemetry}
	if r.settings.Credential != nil {
		credential := *r.settings.Credential
		credential.HTTP, credential.Telemetry = plain, r.telemetry
		settings.Tokens = graph.NewTokens(credential)
	}
	return clients{graph: graph.New(settings), plain: plain, transports: stored}, nil
}

// openStorage returns the receiver's client of the storage extension. It is called once for all signals, since a file can
// be open only once. Each tenant has its own storage, because state such as who has no license differs between tenants.
// Without an extension nothing is stored.
func openStorage(ctx context.Context, host component.Host, id *component.ID, receiver component.ID, tenant string) (storage.Client, error) {
	if id == nil {
		return storage.NewNopClient(), nil
	}
	extension, found := host.GetExtensions()[*id]
	if !found {
		return nil, fmt.Errorf("storage: there is no extension %q: add it under extensions and to service.extensions", id)
	}
	provider, ok := extension.(storage.Extension)
	if !ok {
		return nil, fmt.Errorf("storage: %q is not a storage extension: name one, such as file_storage", id)
	}
	client, err := provider.GetClient(ctx, component.KindReceiver, receiver, strings.ToLower(tenant))
	if err != nil {
		return nil, fmt.Errorf("storage: open %q: if its file is damaged, move it away; if it is locked, another collector uses it: %w", id, err)
	}
	return client, nil
}
