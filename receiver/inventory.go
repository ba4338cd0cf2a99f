package receiver

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/directory"
	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/privacy"
	"github.com/otelcopilot/m365copilotreceiver/internal/record"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
	"github.com/otelcopilot/m365copilotreceiver/internal/translate"
)

const (
	maxInventoryBatch   = 1000
	maxInventoryBackoff = 30 * time.Second
	// The users who became due are emitted at each hundredth of the interval, within these bounds.
	minInventoryTick, maxInventoryTick = 100 * time.Millisecond, time.Minute
)

// inventory emits each licensed user once in each interval, whether or not there are interactions.
type inventory struct {
	tenantID  string
	interval  time.Duration
	pipeline  *pipeline
	directory licensedUsers
	position  *statestore.Value[time.Time]
	// done is what position holds: everyone who became due until then was emitted.
	done time.Time
}

// licensedUsers is directory.Directory but for tests.
type licensedUsers interface {
	Licensed() (users []gap.User, known bool)
	Person(user gap.User) *interaction.Person
}

func newInventory(s Settings, p *pipeline, users licensedUsers, store *statestore.Store, logger *zap.Logger) *inventory {
	return &inventory{
		tenantID: s.TenantID, interval: s.Inventory, pipeline: p, directory: users,
		position: statestore.NewValue[time.Time](statestore.ValueSettings{
			Store: store, Key: "inventory", Version: 1, Name: "positions of the inventory", Logger: logger,
		}),
	}
}

// load reads how far earlier runs came. The first run begins now.
func (i *inventory) load(ctx context.Context) (err error) {
	if i.done, _, err = i.position.Load(ctx); err == nil && i.done.IsZero() {
		i.done = time.Now()
		i.position.Changed()
	}
	return err
}

// save stores the position unless storage has it. A failure is logged there.
func (i *inventory) save(ctx context.Context) {
	done := i.done
	_ = i.position.Save(ctx, func() time.Time { return done })
}

// Run emits the users who became due until ctx ends.
func (i *inventory) Run(ctx context.Context) {
	i.save(ctx) // so that a first run is known to have begun
	every(ctx, min(max(i.interval/100, minInventoryTick), maxInventoryTick), func() { i.emit(ctx) })
}

// emit emits the users who became due, and stores the position after each batch, so that a crash repeats at most one. While the
// licensed users are unknown, which the directory reports, it emits none, and those of up to an interval follow.
func (i *inventory) emit(ctx context.Context) {
	users, known := i.directory.Licensed()
	for now := time.Now(); known && ctx.Err() == nil; {
		due, done := directory.DueUsers(users, i.interval, i.done, now, maxInventoryBatch)
		if i.deliver(ctx, i.entries(due)) != nil {
			return
		}
		i.done = done
		if len(due) == 0 {
			return
		}
		i.position.Changed()
		i.save(ctx)
	}
}

// entries returns what may leave of users.
func (i *inventory) entries(due []directory.Due) []record.User {
	entries, now := make([]record.User, 0, len(due)), time.Now()
	for _, one := range due {
		id := one.User.String()
		user := privacy.LicensedUser{
			TenantID: i.tenantID, UserID: id, Person: i.directory.Person(one.User), At: now, Interval: one.Interval,
		}
		user.LastActive, user.DaysActive = i.pipeline.activity.Of(i.pipeline.privacy.Subject(i.tenantID, id), now)
		entries = append(entries, i.pipeline.privacy.User(user))
	}
	return entries
}

// deliver sends entries to the logs pipeline until it takes them or refuses them for good. The error is the context's.
func (i *inventory) deliver(ctx context.Context, entries []record.User) error {
	delays := graph.NewBackOff(maxInventoryBackoff)
	for len(entries) > 0 {
		err := i.pipeline.consumeLogs(ctx, translate.Users(i.pipeline.scope, entries))
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		err = withFailure(err, failure.LogsPipelineRefusing)
		i.pipeline.warn("inventory", "the logs pipeline did not take licensed users", err, zap.Int("users", len(entries)))
		if failure.Permanent(err) {
			return nil
		}
		if err := graph.Sleep(ctx, delays.NextBackOff()); err != nil {
			return err
		}
	}
	return nil
}
