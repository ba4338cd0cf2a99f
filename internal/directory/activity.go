package directory

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/health"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/record"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

const (
	activeFor = 24 * time.Hour // how long a user counts as active after a prompt
	countDays = 28             // the days that are counted for each user, the current one included

	// Subjects are hashes, so all shards have about the same number of them: of 100,000 users 480 at most.
	shardCount    = 256
	maxShardUsers = 800 // 204,800 in all
	maxUserApps   = 20  // of a user
	maxApps       = 200 // of all users
	otherApp      = "other"

	// All shards are written in less than five minutes, and a change within 10 seconds where few users are active.
	shardInterval, maxShardsWritten = 10 * time.Second, 10
	shardVersion                    = 1
)

// ActivitySettings configures an Activity. All fields are required.
type ActivitySettings struct {
	Store  *statestore.Store
	Logger *zap.Logger
}

// Activity knows when each user sent prompts. It has room for 800 users in each of 256 shards, and forgets the one who has been
// inactive longest for a new one. It is safe for concurrent use.
type Activity struct {
	s      ActivitySettings
	health health.Part

	mu     sync.Mutex // guards what follows; held for one shard, or the records of one call, at most
	shards [shardCount]shard
	apps   map[string]string // the names in appUse
	next   int               // the shard that is examined next for changes
}

// shard has the subjects with the same first byte.
type shard struct {
	users   map[record.Subject]*activeUser
	changed bool
}

// activeUser is stored in this form, in gob. Times are in milliseconds since 1970.
type activeUser struct {
	Last int64    // the last prompt
	Days uint32   // bit n is set if there was a prompt n days before the UTC day of Last
	Apps []appUse // those of the last 24 hours, and earlier ones that were not removed yet
}

type appUse struct {
	Name string
	Last int64 // the last prompt
}

func shardKey(n int) string { return "activity/" + strconv.Itoa(n) }

// NewActivity returns an Activity. Load must be called before anything else.
func NewActivity(s ActivitySettings) *Activity {
	a := &Activity{s: s, apps: map[string]string{}, health: health.Part{
		Logger: s.Logger, Failing: "times of activity can't be stored", Recovered: "times of activity are stored again",
	}}
	for i := range a.shards {
		a.shards[i].users = map[record.Subject]*activeUser{}
	}
	return a
}

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
		s, at := &a.shards[r.Subject[0]], min(r.CreatedAt.UnixMilli(), now.UnixMilli())
		user := s.user(r.Subject, at)
		if user == nil {
			continue
		}
		s.changed = true
		user.prompt(at)
		if r.AppName != "" && at > inactive(now) {
			user.use(a.app(r.AppName), at)
		}
	}
}

// inactive returns the latest time of a last prompt with which a user is not active.
func inactive(now time.Time) int64 { return now.Add(-activeFor).UnixMilli() }

// day returns the number of a day in UTC.
func day(milliseconds int64) int64 { return milliseconds / (24 * time.Hour).Milliseconds() }

// app returns a name for appUse. The first 200 names are kept, since an app class may contain anything.
func (a *Activity) app(name string) string {
	kept, known := a.apps[name]
	if !known {
		if len(a.apps) >= maxApps {
			return otherApp
		}
		kept = strings.Clone(name) // it may be a part of something large
		a.apps[kept] = kept
	}
	return kept
}

// user returns a user, a new one if there is room: nil if all others sent a later prompt.
func (s *shard) user(subject record.Subject, at int64) *activeUser {
	if user, known := s.users[subject]; known {
		return user
	}
	if len(s.users) >= maxShardUsers {
		longest, last := subject, at
		for other, user := range s.users {
			if user.Last < last {
				longest, last = other, user.Last
			}
		}
		if longest == subject {
			return nil
		}
		delete(s.users, longest)
	}
	s.users[subject] = &activeUser{Last: at}
	return s.users[subject]
}

func (u *activeUser) prompt(at int64) {
	if at > u.Last {
		u.Days <<= day(at) - day(u.Last)
		u.Last = at
	}
	u.Days |= 1 << (day(u.Last) - day(at))
}

// use notes a prompt in an app. There is no room for the twenty-first app of a day.
func (u *activeUser) use(app string, at int64) {
	n := slices.IndexFunc(u.Apps, func(use appUse) bool { return use.Name == app })
	switch {
	case n >= 0:
		u.Apps[n].Last = max(u.Apps[n].Last, at)
	case len(u.Apps) < maxUserApps:
		u.Apps = append(u.Apps, appUse{app, at})
	}
}

// Active returns how many users sent prompts in the last 24 hours, and how many in each app. Of more than 200 apps the last ones are
// counted as one, called other.
func (a *Activity) Active(now time.Time) (users int, apps map[string]int) {
	apps = map[string]int{}
	for i := range a.shards {
		users += a.count(&a.shards[i], inactive(now), apps)
	}
	return users, apps
}

// count removes uses of apps that count no longer.
func (a *Activity) count(s *shard, inactive int64, apps map[string]int) (users int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, user := range s.users {
		if user.Last > inactive {
			users++
		}
		user.Apps = slices.DeleteFunc(user.Apps, func(use appUse) bool { return use.Last <= inactive })
		for _, use := range user.Apps {
			apps[use.Name]++
		}
	}
	return users
}

// Of returns the time of a user's last prompt in UTC, zero if none is known, and how many of the last 28 days in UTC had one, today
// included.
func (a *Activity) Of(subject record.Subject, now time.Time) (last time.Time, days int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	user, known := a.shards[subject[0]].users[subject]
	if !known {
		return time.Time{}, 0
	}
	ago := max(day(now.UnixMilli())-day(user.Last), 0)
	return time.UnixMilli(user.Last).UTC(), bits.OnesCount32(user.Days << ago & (1<<countDays - 1))
}

// Run stores changes until ctx ends.
func (a *Activity) Run(ctx context.Context) {
	ticker := time.NewTicker(shardInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			_, _ = a.write(ctx) // a failure is logged there, and what it failed to write is written later
		}
	}
}

// Save stores all changes. A failure is logged, again each hour until the storage works again.
func (a *Activity) Save(ctx context.Context) error {
	for {
		if written, err := a.write(ctx); err != nil || written == 0 {
			return err
		}
	}
}

// write stores the next shards that have changed, and returns how many.
func (a *Activity) write(ctx context.Context) (written int, err error) {
	var numbers []int
	var sets []statestore.Set
	for i := 0; i < shardCount && len(sets) < maxShardsWritten; i++ {
		if n, payload := a.snapshot(); payload != nil {
			numbers, sets = append(numbers, n), append(sets, statestore.Set{Key: shardKey(n), Version: shardVersion, Payload: payload})
		}
	}
	if len(sets) == 0 {
		return 0, nil
	}
	if err = a.s.Store.Write(ctx, sets...); err != nil {
		err = failure.With(fmt.Errorf("store times of activity: %w", err), failure.New(failure.StorageFailing))
		a.mu.Lock()
		for _, n := range numbers {
			a.shards[n].changed = true
		}
		a.mu.Unlock()
	}
	if err == nil || ctx.Err() == nil {
		a.health.Report(err)
	}
	return len(sets), err
}

// snapshot returns the number of the next shard, and its value if it has changed. From then on it counts as unchanged.
func (a *Activity) snapshot() (n int, payload []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n, a.next = a.next, (a.next+1)%shardCount
	if !a.shards[n].changed {
		return n, nil
	}
	a.shards[n].changed = false
	var value bytes.Buffer
	_ = gob.NewEncoder(&value).Encode(a.shards[n].users) // it can't fail for such a type
	return n, value.Bytes()
}

// Load reads what earlier runs stored. It fails if the storage can't be read. Damaged shards are logged and replaced: their users
// count again from their next prompt on.
func (a *Activity) Load(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var damaged []error
	for n := range a.shards {
		payload, err := a.s.Store.Read(ctx, shardKey(n), shardVersion)
		if err == nil && payload != nil {
			err = a.restore(n, payload)
		}
		switch {
		case errors.Is(err, statestore.ErrDamaged):
			a.shards[n].changed = true
			damaged = append(damaged, err)
		case err != nil:
			return failure.With(fmt.Errorf("load times of activity: %w", err), failure.New(failure.StorageFailing))
		}
	}
	if len(damaged) > 0 {
		a.s.Logger.Warn("some times of activity in storage are damaged and are replaced",
			append(failure.New(failure.StorageDamaged).Fields(), zap.Int("values", len(damaged)), zap.Error(damaged[0]))...)
	}
	return nil
}

// restore sets a shard. It is called with mu held. The error is ErrDamaged.
func (a *Activity) restore(n int, payload []byte) error {
	var stored map[record.Subject]*activeUser
	if err := gob.NewDecoder(bytes.NewReader(payload)).Decode(&stored); err != nil {
		return fmt.Errorf("read %s: %w: %w", shardKey(n), statestore.ErrDamaged, err)
	}
	now := time.Now() // the clock may have been ahead
	for subject, was := range stored {
		user := &activeUser{Last: min(was.Last, now.UnixMilli()), Days: was.Days}
		for _, use := range was.Apps {
			user.use(a.app(use.Name), min(use.Last, now.UnixMilli()))
		}
		a.shards[n].users[subject] = user
	}
	return nil
}
