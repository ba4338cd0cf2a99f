package receiver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/xextension/storage"

	"github.com/otelcopilot/m365copilotreceiver/internal/history"
	"github.com/otelcopilot/m365copilotreceiver/internal/intake"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

// rooms are the parts of a receiver that was started, introduced to each other.
type rooms struct {
	store       storage.Client
	maxGap      time.Duration
	keys        *keys
	ring        notification.Ring
	clients     clients
	signingKeys *notification.KeySet
	intake      *intake.Intake
	filler      *history.Filler
	refused     *refused
	silence     *silence
	continuity  *continuity
	gate        *gate
	// server is nil where the history alone is read.
	server *webhook.Server
}

// furnish makes the rooms and starts nothing. What it opened is closed again if it fails.
func (r *Receiver) furnish(ctx context.Context, host component.Host) (*rooms, error) {
	store, err := openStorage(ctx, host, r.settings.Storage, r.set.ID, r.settings.TenantID)
	if err != nil {
		return nil, err
	}
	rooms := &rooms{store: store, maxGap: r.settings.History.MaxGap, keys: &keys{certificates: r.settings.Certificates, store: store, logger: r.set.Logger}}
	if rooms.ring, err = rooms.keys.configured(); err != nil {
		return nil, errors.Join(err, store.Close(ctx))
	}
	if rooms.clients, err = r.clients(ctx, host); err != nil {
		return nil, errors.Join(err, store.Close(ctx))
	}
	rooms.intake, err = intake.New(intake.Settings{
		Outlet: r.outlet, MaxOpen: maxOpen, Window: r.settings.Window, MaxEntries: r.settings.MaxEntries, Needed: rooms.needed,
		Store: store, Logger: r.set.Logger, Telemetry: r.telemetry,
	})
	if err != nil {
		return nil, errors.Join(err, store.Close(ctx))
	}
	rooms.signingKeys = notification.NewKeySet(notification.KeySetSettings{JWKSURL: r.settings.JWKSURL, HTTP: rooms.clients.plain})
	h := r.settings.History
	rooms.filler = history.New(history.Settings{
		TenantID: r.settings.TenantID, MaxGap: h.MaxGap, Disabled: !h.Enabled, PollInterval: h.PollInterval, Users: h.Users,
		RequestsPerSecond: h.RequestsPerSecond, Concurrency: h.Concurrency,
		Graph: rooms.clients.graph, Intake: rooms.intake, Store: store, Logger: r.set.Logger, Telemetry: r.telemetry,
		Status: r.status.part("history"), Permanent: webhook.Permanent,
	})
	r.outlet.seen = rooms.filler.Seen
	rooms.refused = newRefused(store, r.set.Logger, givenUp, rooms.filler)
	rooms.silence = &silence{records: records{store}, logger: r.set.Logger, gaps: rooms.filler}
	rooms.continuity = &continuity{
		records: records{store}, logger: r.set.Logger, gaps: rooms.filler, explain: rooms.silence.explain, lookback: h.Lookback,
		// What was delivered longer ago than the window knows would come out twice.
		doubt: min(h.MaxGap, r.settings.Window), resources: r.settings.Resources,
		down: map[string]debt{}, watched: map[string]bool{},
	}
	rooms.gate = newGate(r.set.Logger, rooms.refused, rooms.silence.reached)
	rooms.silence.owed = rooms.continuity.outage
	if len(r.settings.Resources) > 0 {
		rooms.continuity.patience = 2*r.settings.CheckInterval + staleMark
		rooms.server = r.newServer(rooms)
	}
	return rooms, nil
}

func (r *Receiver) newServer(rooms *rooms) *webhook.Server {
	return webhook.NewServer(webhook.ServerSettings{
		Config: r.settings.Webhook,
		Handler: webhook.NewHandler(webhook.Settings{
			Path:             r.settings.WebhookPath,
			AckTimeout:       r.settings.AckTimeout,
			MaxInFlightBytes: r.settings.MaxInFlightBytes,
			MaxBodySize:      r.settings.Webhook.MaxRequestBodySize,
			Opener:           rooms.gate,
			Intake:           &attempts{intake: rooms.intake, refused: rooms.refused, silence: rooms.silence},
			Lifecycle:        rooms.gate,
			Rejections: &rejections{
				logger: r.set.Logger, telemetry: r.telemetry, repeats: newRepeats(), refused: rooms.refused, gaps: rooms.filler,
			},
			Telemetry:  r.telemetry,
			Overloaded: rooms.refused.overloaded,
			Logger:     r.set.Logger,
		}),
		Fatal:  r.status.fatal,
		Logger: r.set.Logger,
	})
}

// load reads what earlier runs kept.
func (r *rooms) load(ctx context.Context) error {
	r.refused.load(ctx)
	r.silence.load(ctx)
	r.continuity.load(ctx, time.Now())
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
func (r *rooms) needed() time.Time {
	now := time.Now()
	from := r.filler.Needed()
	_, owed := r.continuity.missing(now)
	for _, since := range []time.Time{owed, r.refused.needed(), r.silence.needed(now)} {
		if since.IsZero() {
			continue
		}
		if since = since.Add(-history.Overlap); from.IsZero() || since.Before(from) {
			from = since
		}
	}
	if oldest := now.Add(-r.maxGap - lateness); !from.IsZero() && from.Before(oldest) {
		from = oldest
	}
	return from
}

// missing is for how much time interactions are known to be missing, by reason.
func (r *rooms) missing(now time.Time) map[history.Reason]time.Duration {
	all := r.filler.Missing(now)
	if reason, since := r.continuity.missing(now); !since.IsZero() {
		all[reason] += now.Sub(since)
	}
	return all
}

// save keeps everything for the next run. It is for after the end of the loops.
func (r *rooms) save(ctx context.Context) error {
	now := time.Now()
	r.refused.sweep(ctx, now)
	r.silence.save(ctx)
	if err := errors.Join(r.intake.Save(ctx), r.filler.Save(ctx)); err != nil {
		return fmt.Errorf("keep what is known for the next run: %w", err)
	}
	left, known := r.gate.timeLeft(now)
	r.continuity.end(ctx, now, known && left > 0)
	return nil
}

func (r *rooms) close(ctx context.Context) error {
	r.signingKeys.Close()
	r.clients.transports.close()
	if err := r.store.Close(ctx); err != nil {
		return fmt.Errorf("close storage: %w", err)
	}
	return nil
}
