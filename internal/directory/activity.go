// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"bytes"
	"context"
	"encoding/gob"
	"maps"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/record"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

const (
	activeFor   = 24 * time.Hour // how long a user counts as active after a prompt
	countDays   = 28             // the days that are counted for each user, the current one included
	maxUserApps = 20             // of a user within activeFor

	// Subjects are hashes, so all shards have about the same number of users: of 100,000 users 3,400 at most.
	shardCount    = 32
	maxShardUsers = 6400 // 204,800 in all

	// The users of a shard are written together, and each of them keeps the next write waiting: 100,000 take 5 minutes, at 27 KB/s.
	activityInterval, waitForEach = time.Second, 3 * time.Millisecond
)

// Activity knows when each user sent prompts. It has room for 6,400 users in each of 32 shards, which are stored one after the other,
// and forgets the one who has been inactive longest for a new one. It is safe for concurrent use.
type Activity struct {
	mu     sync.Mutex // guards the users of the shards; held for one shard, or the records of one call, at most
	shards [shardCount]shard
}

type shard struct {
	users  activeUsers
	stored *statestore.Value[activeUsers]
}

// activeUsers are stored in this form, in gob.
type activeUsers map[record.Subject]activeUser

// activeUser has times in milliseconds since 1970.
type activeUser struct {
	Last int64    // the last prompt
	Days uint32   // bit n is set if there was a prompt n days before the UTC day of Last
	Apps []appUse // those of the 24 hours before the last prompt that was noted; never changed in place
}

type appUse struct {
	Name string
	Last int64 // the last prompt
}

// NewActivity returns an Activity. Load must be called before anything else.
func NewActivity(store *statestore.Store, logger *zap.Logger) *Activity {
	a := &Activity{}
	for n := range a.shards {
		a.shards[n] = shard{users: activeUsers{}, stored: statestore.NewValue[activeUsers](statestore.ValueSettings{
			Store: store, Key: "activity/" + strconv.Itoa(n), Version: 1, Name: "times of activity", Logger: logger,
		})}
	}
	return a
}

func (a *Activity) shard(subject record.Subject) *shard { return &a.shards[subject[0]%shardCount] }

// Add notes the prompts that known users created; other records are ignored. What was noted before changes nothing. A time in the
// future counts as now.
func (a *Activity) Add(records []record.Record) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range records {
		r := &records[i]
		if r.Type != interaction.TypeUserPrompt || r.Change != string(interaction.Created) || r.Subject == (record.Subject{}) {
			continue
		}
		s, at := a.shard(r.Subject), min(r.CreatedAt.UnixMilli(), now.UnixMilli())
		user, known := s.users[r.Subject]
		if !known && len(s.users) >= maxShardUsers {
			s.removeLongestInactive()
		}
		user.prompt(at)
		user.use(r.AppName, at, inactive(now))
		s.users[r.Subject] = user
		s.stored.Changed()
	}
}

// inactive returns the latest time of a last prompt with which a user is not active.
func inactive(now time.Time) int64 { return now.Add(-activeFor).UnixMilli() }

// day returns the number of a day in UTC.
func day(milliseconds int64) int64 { return milliseconds / (24 * time.Hour).Milliseconds() }

func (s *shard) removeLongestInactive() {
	longest, last := record.Subject{}, int64(math.MaxInt64)
	for subject, user := range s.users {
		if user.Last < last {
			longest, last = subject, user.Last
		}
	}
	delete(s.users, longest)
}

func (u *activeUser) prompt(at int64) {
	if at > u.Last {
		u.Days <<= day(at) - day(u.Last)
		u.Last = at
	}
	u.Days |= 1 << (day(u.Last) - day(at))
}

// use notes a prompt in an app, and forgets those of inactive and before. Of more than 20 apps the one used first is forgotten.
func (u *activeUser) use(app string, at, inactive int64) {
	if app == "" || at <= inactive {
		return
	}
	apps := []appUse{{strings.Clone(app), at}} // it may be a part of something large
	for _, other := range u.Apps {
		switch {
		case other.Name == app:
			apps[0].Last = max(other.Last, at)
		case other.Last > inactive && len(apps) < maxUserApps:
			apps = append(apps, other)
		}
	}
	u.Apps = apps
}

// Active returns how many users sent prompts in the last 24 hours, and how many in each app.
func (a *Activity) Active(now time.Time) (users int, apps map[string]int) {
	apps = map[string]int{}
	for n := range a.shards {
		users += a.count(&a.shards[n], inactive(now), apps)
	}
	return users, apps
}

func (a *Activity) count(s *shard, inactive int64, apps map[string]int) (users int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, user := range s.users {
		if user.Last > inactive {
			users++
		}
		for _, use := range user.Apps {
			if use.Last > inactive {
				apps[use.Name]++
			}
		}
	}
	return users
}

// Of returns the time of a user's last prompt in UTC, zero if none is known, and how many of the last 28 days in UTC had one, today
// included.
func (a *Activity) Of(subject record.Subject, now time.Time) (last time.Time, days int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	user, known := a.shard(subject).users[subject]
	if !known {
		return time.Time{}, 0
	}
	ago := max(day(now.UnixMilli())-day(user.Last), 0)
	return time.UnixMilli(user.Last).UTC(), bits.OnesCount32(user.Days << ago & (1<<countDays - 1))
}

// Load reads what earlier runs stored. It fails if the storage can't be read. A damaged shard is logged and replaced: its users count
// again from their next prompt on.
func (a *Activity) Load(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for n := range a.shards {
		users, _, err := a.shards[n].stored.Load(ctx)
		if err != nil {
			return err
		}
		if users != nil {
			a.shards[n].users = users
		}
	}
	return nil
}

// Run stores changes until ctx ends: within a second or two where few users are active, within five minutes where 100,000 are, so that
// the writes stay small.
func (a *Activity) Run(ctx context.Context) {
	for n := 0; ctx.Err() == nil; {
		users, err := a.save(ctx, n)
		wait := time.Duration(users) * waitForEach
		if n++; err != nil {
			n = 0 // the first reports a storage that fails, and not each
		}
		if n %= shardCount; n == 0 {
			wait += activityInterval
		}
		_ = graph.Sleep(ctx, wait) // then the loop ends
	}
}

// Save stores all changes. A failure is logged.
func (a *Activity) Save(ctx context.Context) error {
	for n := range a.shards {
		if _, err := a.save(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// save stores a shard if it has changed, and returns how many users were written.
func (a *Activity) save(ctx context.Context, n int) (int, error) {
	var written atomic.Int64 // the copy may still be made while Save returns, where ctx ends
	err := a.shards[n].stored.Save(ctx, func() activeUsers {
		a.mu.Lock()
		defer a.mu.Unlock()
		written.Store(int64(len(a.shards[n].users)))
		return maps.Clone(a.shards[n].users)
	})
	return int(written.Load()), err
}

// MarshalBinary implements encoding.BinaryMarshaler.
func (u activeUsers) MarshalBinary() ([]byte, error) {
	var value bytes.Buffer
	err := gob.NewEncoder(&value).Encode(map[record.Subject]activeUser(u))
	return value.Bytes(), err
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (u *activeUsers) UnmarshalBinary(payload []byte) error {
	return gob.NewDecoder(bytes.NewReader(payload)).Decode((*map[record.Subject]activeUser)(u))
}
