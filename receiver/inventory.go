// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/directory"
	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/privacy"
	"github.com/otelcopilot/m365copilotreceiver/internal/record"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
	"github.com/otelcopilot/m365copilotreceiver/internal/translate"
)

const (
	maxInventoryBatch = 1000
	maxInventoryTick  = time.Minute
)

// inventory emits each licensed user whose prompts are received once in each interval, whether or not there are interactions.
type inventory struct {
	tenantID  string
	interval  time.Duration
	received  []gap.User
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
	if s.Storage == nil {
		logger.Warn("the inventory knows only prompts since this start", failure.New(failure.ActivityInMemory).Fields()...)
	}
	return &inventory{
		tenantID: s.TenantID, interval: s.Inventory, received: s.ReceivedUsers, pipeline: p, directory: users,
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

// Run emits the users who became due, ten times in each interval and at least each minute, until ctx ends.
func (i *inventory) Run(ctx context.Context) {
	i.save(ctx) // so that a first run is known to have begun
	every(ctx, min(i.interval/10, maxInventoryTick), func() { i.emit(ctx) })
}

// emit emits the users who became due, and stores the position after each batch, so that a crash repeats at most one. A batch that is
// refused is due again at the next tick. While the licensed users are unknown, which the directory reports, it emits none, and those of
// up to an interval follow.
func (i *inventory) emit(ctx context.Context) {
	licensed, known := i.directory.Licensed()
	if !known {
		return
	}
	now := time.Now()
	for batch := range slices.Chunk(directory.DueUsers(i.ofReceived(licensed), i.interval, i.done, now), maxInventoryBatch) {
		if ctx.Err() != nil || !i.deliver(ctx, batch) {
			return
		}
		i.done = batch[len(batch)-1].At
		i.position.Changed()
		i.save(ctx)
	}
	i.done = now
}

// ofReceived returns those of users whose prompts are received: of the others it is not known whether they prompt.
func (i *inventory) ofReceived(users []gap.User) []gap.User {
	if len(i.received) == 0 {
		return users
	}
	return slices.DeleteFunc(slices.Clone(i.received), func(user gap.User) bool {
		_, licensed := slices.BinarySearchFunc(users, user, gap.User.Compare)
		return !licensed
	})
}

// deliver sends users to the logs pipeline, and reports whether they are done: taken, or refused for good.
func (i *inventory) deliver(ctx context.Context, due []directory.Due) bool {
	err := i.pipeline.consumeLogs(ctx, translate.Users(i.pipeline.scope, i.entries(due)))
	if err == nil {
		return true
	}
	if ctx.Err() != nil {
		return false
	}
	err = withFailure(err, failure.LogsPipelineRefusing)
	i.pipeline.warn("inventory", "the logs pipeline did not take licensed users", err, zap.Int("users", len(due)))
	return failure.Permanent(err)
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
