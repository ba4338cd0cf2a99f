package receiver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/xextension/storage"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

// components are the parts of a receiver that was started, introduced to each other.
type components struct {
	store       storage.Client
	maxGap      time.Duration
	keys        *keys
	ring        notification.Ring
	clients     clients
	signingKeys *notification.KeySet
	intake      *dedupe.Deduplicator
	filler      *backfill.Backfiller
	undelivered *undelivered
	silence     *silenceDetector
	gapTracker  *gapTracker
	session     *session
	// server is nil where the history alone is read.
	server *webhook.Server
}

// newComponents makes the rooms and starts nothing. What it opened is closed again if it fails.
func (r *Receiver) newComponents(ctx context.Context, host component.Host) (*components, error) {
	store, err := openStorage(ctx, host, r.settings.Storage, r.set.ID, r.settings.TenantID)
	if err != nil {
		return nil, err
	}
	components := &components{store: store, maxGap: r.settings.History.MaxGap, keys: &keys{certificates: r.settings.Certificates, store: store, logger: r.set.Logger}}
	if components.ring, err = components.keys.configured(); err != nil {
		return nil, errors.Join(err, store.Close(ctx))
	}
	if components.clients, err = r.clients(ctx, host); err != nil {
		return nil, errors.Join(err, store.Close(ctx))
	}
	components.intake, err = dedupe.New(dedupe.Settings{
		Next: r.output, MaxOpen: maxOpen, Window: r.settings.Window, MaxEntries: r.settings.MaxEntries, Needed: components.needed,
		Store: store, Logger: r.set.Logger, Telemetry: r.telemetry,
	})
	if err != nil {
		return nil, errors.Join(err, store.Close(ctx))
	}
	components.signingKeys = notification.NewKeySet(notification.KeySetSettings{JWKSURL: r.settings.JWKSURL, HTTP: components.clients.plain})
	h := r.settings.History
	components.filler = backfill.New(backfill.Settings{
		TenantID: r.settings.TenantID, MaxGap: h.MaxGap, Disabled: !h.Enabled, PollInterval: h.PollInterval, Users: h.Users,
		RequestsPerSecond: h.RequestsPerSecond, Concurrency: h.Concurrency,
		Graph: components.clients.graph, Intake: components.intake, Store: store, Logger: r.set.Logger, Telemetry: r.telemetry,
		Status: r.status.part("history"), Permanent: webhook.Permanent,
	})
	r.output.seen = components.filler.Seen
	components.undelivered = newUndelivered(store, r.set.Logger, retryDeadline, components.filler)
	components.silence = &silenceDetector{records: stateRecords{store}, logger: r.set.Logger, gaps: components.filler}
	components.gapTracker = &gapTracker{
		records: stateRecords{store}, logger: r.set.Logger, gaps: components.filler, explain: components.silence.explain, lookback: h.Lookback,
		// What was delivered longer ago than the window knows would come out twice.
		fallbackLookback: min(h.MaxGap, r.settings.Window), resources: r.settings.Resources,
		down: map[string]pendingGap{}, watchedResources: map[string]bool{},
	}
	components.session = newSession(r.set.Logger, components.undelivered, components.silence.reached)
	components.silence.pendingGapSince = components.gapTracker.outage
	if len(r.settings.Resources) > 0 {
		components.gapTracker.staleAfter = 2*r.settings.CheckInterval + maxCheckpointAge
		components.server = r.newServer(components)
	}
	return components, nil
}

func (r *Receiver) newServer(components *components) *webhook.Server {
	return webhook.NewServer(webhook.ServerSettings{
		Config: r.settings.Webhook,
		Handler: webhook.NewHandler(webhook.Settings{
			Path:             r.settings.WebhookPath,
			AckTimeout:       r.settings.AckTimeout,
			MaxInFlightBytes: r.settings.MaxInFlightBytes,
			MaxBodySize:      r.settings.Webhook.MaxRequestBodySize,
			Decrypter:        components.session,
			Intake:           &trackedIntake{intake: components.intake, undelivered: components.undelivered, silence: components.silence},
			Lifecycle:        components.session,
			Rejections: &rejections{
				logger: r.set.Logger, telemetry: r.telemetry, repeats: newOccasionalLog(), undelivered: components.undelivered, gaps: components.filler,
			},
			Telemetry:  r.telemetry,
			Overloaded: components.undelivered.overloaded,
			Logger:     r.set.Logger,
		}),
		Fatal:  r.status.fatal,
		Logger: r.set.Logger,
	})
}

// load reads what earlier runs kept.
func (r *components) load(ctx context.Context) error {
	r.undelivered.load(ctx)
	r.silence.load(ctx)
	r.gapTracker.load(ctx, time.Now())
	var errs []error
	if err := r.filler.Load(ctx); err != nil {
		errs = append(errs, fmt.Errorf("load the known gaps: %w", err))
	}
	// What is missing says how much of what was delivered is needed.
	if err := r.intake.Load(ctx); err != nil {
		errs = append(errs, fmt.Errorf("load what was delivered: %w", err))
	}
	return errors.Join(errs...)
}

// needed is from when on deliveries must still be known as such, since that time is read, or will be; zero where nothing
// is. Further back than maxGap nothing is read, but for imported history, which is read once.
func (r *components) needed() time.Time {
	now := time.Now()
	from := r.filler.Needed()
	_, owed := r.gapTracker.missing(now)
	for _, since := range []time.Time{owed, r.undelivered.needed(), r.silence.needed(now)} {
		if since.IsZero() {
			continue
		}
		if since = since.Add(-backfill.Overlap); from.IsZero() || since.Before(from) {
			from = since
		}
	}
	if oldest := now.Add(-r.maxGap - maxNotificationDelay); !from.IsZero() && from.Before(oldest) {
		from = oldest
	}
	return from
}

// missing is for how much time interactions are known to be missing, by reason.
func (r *components) missing(now time.Time) map[backfill.Reason]time.Duration {
	all := r.filler.Missing(now)
	if reason, since := r.gapTracker.missing(now); !since.IsZero() {
		all[reason] += now.Sub(since)
	}
	return all
}

// save keeps everything for the next run. It is for after the end of the loops.
func (r *components) save(ctx context.Context) error {
	now := time.Now()
	r.undelivered.openExpired(ctx, now)
	r.silence.save(ctx)
	if err := errors.Join(r.intake.Save(ctx), r.filler.Save(ctx)); err != nil {
		return fmt.Errorf("keep what is known for the next run: %w", err)
	}
	left, known := r.session.timeLeft(now)
	r.gapTracker.saveCheckpoint(ctx, now, known && left > 0)
	return nil
}

func (r *components) close(ctx context.Context) error {
	r.signingKeys.Close()
	r.clients.transports.close()
	if err := r.store.Close(ctx); err != nil {
		return fmt.Errorf("close storage: %w", err)
	}
	return nil
}
