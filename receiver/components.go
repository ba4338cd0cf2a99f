// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/component"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/directory"
	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap/gapstore"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/jwks"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
	"github.com/otelcopilot/m365copilotreceiver/internal/turn"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

// maxOpen is the number of prompts whose users are remembered: those of a day in a large organization, in about 30 MiB.
const maxOpen = 100_000

// components are the parts of a started receiver, connected with each other.
type components struct {
	store       *statestore.Store
	clients     *graph.Clients
	signingKeys *jwks.KeySet
	cache       *dedupe.Cache
	attribution *turn.Attribution
	gaps        *gapstore.Store
	undelivered *gapstore.Undelivered
	directory   *directory.Directory
	activity    *directory.Activity
	backfiller  *backfill.Backfiller
	expiry      *expiry
	// inventory is nil unless it is wanted.
	inventory *inventory

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
	c := &components{store: statestore.New(client), expiry: &expiry{logger: r.set.Logger}}
	c.clients, err = graph.NewClients(
		ctx, r.settings.Graph, r.settings.Credential, host.GetExtensions(), r.httpTelemetry(), r.telemetry)
	if err != nil {
		return nil, errors.Join(failure.WithDefault(err, failure.SettingWrong), c.store.Close(ctx))
	}
	cache := r.settings.Cache
	cache.RetainFrom, cache.Logger, cache.Telemetry = c.retainFrom, r.set.Logger, r.telemetry
	attribution := turn.Settings{MaxOpen: maxOpen, Logger: r.set.Logger, Telemetry: r.telemetry}
	if r.settings.Storage != nil {
		cache.Store, attribution.Store = c.store, c.store
		cache.Status = r.status.Part("storage")
	}
	c.cache, c.attribution = dedupe.New(cache), turn.New(attribution)
	c.signingKeys = jwks.New(r.settings.JWKSURL, c.clients.Plain)
	c.gaps = gapstore.New(gapstore.Settings{
		Rules: r.settings.History.Rules, Store: c.store, Now: c.clients.Graph.Now, Logger: r.set.Logger, Telemetry: r.telemetry,
		Status: r.status.Part("stored gaps"),
	})
	h := r.settings.History
	throttle := graph.NewThrottle(graph.ThrottleSettings{
		Graph: c.clients.Graph, RequestsPerSecond: h.RequestsPerSecond, Logger: r.set.Logger, Status: r.status.Part("history"),
	})
	users := r.settings.Directory
	users.Graph, users.Store, users.Logger, users.Telemetry = c.clients.Graph, c.store, r.set.Logger, r.telemetry
	c.directory = directory.New(users)
	c.activity = directory.NewActivity(c.store, r.set.Logger)
	r.pipeline.cache, r.pipeline.gaps, r.pipeline.directory, r.pipeline.activity = c.cache, c.gaps, c.directory, c.activity
	r.pipeline.attribution = c.attribution
	if r.settings.Inventory > 0 {
		c.inventory = newInventory(r.settings, r.pipeline, c.directory, c.store, r.set.Logger)
	}
	c.backfiller = backfill.New(backfill.Settings{
		TenantID: r.settings.TenantID, Gaps: c.gaps, Users: h.Users, Directory: c.directory, Concurrency: h.Concurrency,
		Graph: throttle, Learn: c.attribution.Learn, Deliver: r.pipeline.Backfill, Cache: c.cache,
		Logger: r.set.Logger, Telemetry: r.telemetry,
	})
	if len(r.settings.Subscription.Resources) > 0 {
		c.keys = newKeys(r.settings.Certificates, c.store, r.settings.Storage == nil, r.set.Logger, r.status.Part)
	}
	return c, nil
}

// load reads the state of earlier runs, before anything is written, and creates the components that need the keys.
func (r *Receiver) load(ctx context.Context, c *components) error {
	if err := c.load(ctx); err != nil {
		return r.unreadable(err)
	}
	r.pipeline.undelivered = c.undelivered
	if c.keys == nil {
		return nil
	}
	ring, err := c.keys.read()
	if err != nil {
		return err
	}
	c.acceptKeys(ctx, ring)
	r.newSubscription(c, ring)
	return r.unreadable(c.manager.Load(ctx))
}

// unreadable explains why the receiver does not start without the state of earlier runs. It returns nil for nil.
func (r *Receiver) unreadable(err error) error {
	if err == nil {
		return nil
	}
	return failure.With(fmt.Errorf("storage: %q can't be read, and without it the receiver does not know what earlier runs left to do: %w",
		r.settings.Storage, err), failure.New(failure.StorageUnreadable))
}

// newSubscription creates the components that maintain the subscription and receive its notifications.
func (r *Receiver) newSubscription(c *components, ring notification.Ring) {
	r.pipeline.decrypter = notification.NewDecrypter(notification.Settings{
		TenantID:  r.settings.TenantID,
		ClientID:  r.settings.ClientID,
		Audiences: r.settings.Audiences,
		Issuers:   r.settings.Issuers,
		Resources: r.settings.Subscription.Resources,
		Ring:      ring,
		Keys:      c.signingKeys,
		Delivered: r.pipeline.Known,
		Decrypted: r.telemetry.decrypted,
	})
	recent := false
	c.gaps.View(func(state *gap.State, now time.Time) { recent = state.Recent(c.gaps.Rules(), now) && !state.Lasting() })
	settings := r.settings.Subscription
	settings.Store, settings.Keys, settings.RenewOnAdopt = c.store, r.subscriptionKeys(ring), !recent
	settings.Graph, settings.Observer, settings.Telemetry = c.clients.Graph, subscriptionGaps{c.gaps}, r.telemetry
	settings.Logger, settings.Status = r.set.Logger, r.status.Part("subscription")
	c.manager = subscription.New(settings)
	c.server = r.newServer(c)
}

func (r *Receiver) newServer(c *components) *webhook.Server {
	settings, p := r.settings.Webhook, r.pipeline
	settings.OwnClientState, settings.Decrypt, settings.Reject, settings.Deliver = p.decrypter.OwnClientState, p.Decrypt, p.Reject, p.Take
	settings.Wake = func(event notification.Lifecycle) {
		c.manager.Wake(subscription.Event{SubscriptionID: event.SubscriptionID, Kind: event.Event})
	}
	settings.Telemetry, settings.Fatal, settings.Logger = r.telemetry, r.status.Fatal, r.set.Logger
	return webhook.New(settings)
}

// load reads the state of earlier runs. Its error is one of the storage.
func (c *components) load(ctx context.Context) error {
	if err := c.cache.Load(ctx); err != nil {
		return err
	}
	if err := c.gaps.Load(ctx, c.cache.NewestCreation()); err != nil {
		return err
	}
	c.undelivered = gapstore.NewUndelivered(c.gaps)
	loads := []func(context.Context) error{c.attribution.Load, c.directory.Load, c.activity.Load}
	if c.inventory != nil {
		loads = append(loads, c.inventory.load)
	}
	if c.keys != nil {
		loads = append(loads, c.keys.load)
	}
	for _, load := range loads {
		if err := load(ctx); err != nil {
			return err
		}
	}
	return nil
}

// retainFrom returns since when deliveries must stay known, since the history of that time is going to be read.
func (c *components) retainFrom() (from time.Time) {
	c.gaps.View(func(state *gap.State, now time.Time) { from = state.NeededFrom(c.gaps.Rules(), now) })
	return from.Add(-backfill.Overlap)
}

// acceptKeys notes which keys are in use from now on. The gap of a key that is no longer accepted is stored first.
func (c *components) acceptKeys(ctx context.Context, ring notification.Ring) {
	if c.keys.missing(ring) {
		c.gaps.Record(ctx, (*gap.State).KeyRemoved)
	}
	c.keys.accept(ctx, ring)
}

// timeLeft returns the time until the first subscription ends; false until every resource has had one.
func (c *components) timeLeft(now time.Time) (time.Duration, bool) {
	if c.manager == nil {
		return 0, false
	}
	return c.manager.TimeLeft(now)
}

// save stores the state for the next run. It must be called after the background goroutines have ended.
func (c *components) save(ctx context.Context) error {
	if c.keys != nil {
		c.keys.save(ctx)
	}
	c.undelivered.Save(ctx)
	if left, known := c.timeLeft(time.Now()); known && left > 0 {
		c.gaps.Update(ctx, func(state *gap.State, now time.Time) { state.Stopped(c.gaps.Rules(), now) })
	}
	if c.inventory != nil {
		c.inventory.save(ctx)
	}
	return errors.Join(c.cache.Save(ctx), c.attribution.Save(ctx), c.directory.Save(ctx), c.activity.Save(ctx), c.gaps.Flush(ctx))
}

func (c *components) close(ctx context.Context) error {
	c.signingKeys.Close()
	c.clients.Close()
	return c.store.Close(ctx)
}
