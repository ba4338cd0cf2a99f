package backfill

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/health"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

const (
	// restLength is how long a user without history is not requested again. A prompt that comes minRest into it ends it.
	restLength, minRest = 72 * time.Hour, 24 * time.Hour
	// restRounding makes rests that began at about the same time end together.
	restRounding = 15 * time.Minute
	// maxResting bounds the users of a gap, which is stored each second while it is read.
	maxResting = 1000

	usersKey          = "users"
	usersVersion      = 1
	usersSaveInterval = 10 * time.Second
	// maxSeen bounds the users seen, maxUsers them and those without history together.
	maxSeen, maxUsers = 100_000, 200_000
)

// knownUser is what is known of a user, in nanoseconds since 1970.
type knownUser struct {
	// Seen is when a prompt of the user first came, 0 for never.
	Seen int64
	// RestSince is when the user was found to have no history, restEnds if a prompt has ended the rest since, and 0 while the
	// user does not rest.
	RestSince int64
	// Unread is the time from which on the history was not read because of the rest.
	Unread int64
}

const restEnds = 1

// users are the users that were seen, and those without history. It is safe for concurrent use.
type users struct {
	store   *statestore.Store
	logger  *zap.Logger
	storage health.Part

	mu      sync.Mutex // guards what follows
	known   map[gap.User]knownUser
	seen    int       // how many users were seen
	newest  time.Time // when one was first seen last
	changed bool
	savedAt time.Time

	saving sync.Mutex // held during a write
}

func newUsers(s Settings) *users {
	return &users{
		store: s.Store, logger: s.Logger, known: map[gap.User]knownUser{},
		storage: health.Part{
			Logger: s.Logger, Failing: "users whose history is read can't be stored; check the storage extension",
			Recovered: "users whose history is read are stored again",
		},
	}
}

// see notes prompts of users. It returns true if one was not known, or had no history and is to be asked for again.
func (u *users) see(ids []string, now time.Time) (news bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, id := range ids {
		user, valid := gap.ParseUser(id)
		if !valid {
			continue
		}
		known := u.known[user]
		before := known
		if known.Seen == 0 && u.seen < maxSeen {
			known.Seen, u.newest = now.UnixNano(), now
			u.seen++
		}
		if known.RestSince > restEnds && now.Sub(time.Unix(0, known.RestSince)) >= minRest {
			known.RestSince = restEnds
		}
		if known != before {
			u.put(user, known)
			news = true
		}
	}
	return news
}

// put is called with mu held.
func (u *users) put(user gap.User, known knownUser) {
	u.known[user], u.changed = known, true
}

// newestSeen returns when a user was first seen last; zero for never.
func (u *users) newestSeen() time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.newest
}

// with returns the users listed and those seen, in order, less those first seen before a time.
func (u *users) with(listed []gap.User, since time.Time) []gap.User {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := append(make([]gap.User, 0, len(listed)+len(u.known)), listed...)
	for user, known := range u.known {
		if known.Seen != 0 {
			all = append(all, user)
		}
	}
	return slices.DeleteFunc(sortUsers(all), func(user gap.User) bool {
		seen := u.known[user].Seen
		return seen != 0 && time.Unix(0, seen).Before(since)
	})
}

// answered notes that a user has history.
func (u *users) answered(user gap.User) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if known, found := u.known[user]; found && known.Unread != 0 {
		u.put(user, knownUser{Seen: known.Seen})
	}
}

// rest notes that a user has no history, so that nothing was read from a time on. What an earlier rest left unread was asked
// for again, and will not be once more.
func (u *users) rest(user gap.User, from, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if known, found := u.known[user]; found || len(u.known) < maxUsers {
		u.put(user, knownUser{known.Seen, now.UnixNano(), max(from.UnixNano(), known.Unread)})
	}
}

// awake removes the users who rest. What would be read of them from a time on is read after their rest.
func (u *users) awake(users []gap.User, from time.Time) []gap.User {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.DeleteFunc(users, func(user gap.User) bool {
		known := u.known[user]
		if known.RestSince != 0 && from.UnixNano() < known.Unread {
			known.Unread = from.UnixNano()
			u.put(user, known)
		}
		return known.RestSince != 0
	})
}

// restsOver returns users whose rest is over, in order, and the time from which on their history was not read. Those with
// another such time, and those beyond maxResting, are returned when the rest of these has ended.
func (u *users) restsOver(now time.Time) (unread time.Time, over []gap.User) {
	u.mu.Lock()
	defer u.mu.Unlock()
	var from int64
	for user, known := range u.known {
		end := time.Unix(0, known.RestSince).Add(restRounding - 1).Truncate(restRounding).Add(restLength)
		if known.RestSince == 0 || now.Before(end) || len(over) > 0 && known.Unread != from {
			continue
		}
		from, over = known.Unread, append(over, user)
		if len(over) == maxResting {
			break
		}
	}
	return time.Unix(0, from), sortUsers(over)
}

// endRests ends the rest of users who have a gap of their own now, up to a time.
func (u *users) endRests(users []gap.User, to time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, user := range users {
		u.put(user, knownUser{Seen: u.known[user].Seen, Unread: to.UnixNano()})
	}
}

// load reads the users of earlier runs. It fails if the storage can't be read; a damaged value is logged and replaced.
func (u *users) load(ctx context.Context) error {
	payload, err := u.store.Read(ctx, usersKey, usersVersion)
	var stored []storedUser
	if err == nil {
		stored, err = decodeUsers(payload)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if statestore.Damaged(err) {
		u.logger.Warn("the users in storage are damaged and are replaced", zap.Error(err))
		u.changed = true
	} else if err != nil {
		return fmt.Errorf("load the users whose history is read: %w", err)
	}
	for _, one := range stored {
		u.known[one.User] = one.Known
		if one.Known.Seen != 0 {
			u.seen++
			u.newest = later(u.newest, time.Unix(0, one.Known.Seen))
		}
	}
	return nil
}

// run stores changes until ctx ends.
func (u *users) run(ctx context.Context) {
	ticker := time.NewTicker(usersSaveInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			_ = u.save(ctx) // a failure is logged there, and the next tick tries again
		}
	}
}

// save stores what was changed.
func (u *users) save(ctx context.Context) error {
	u.saving.Lock()
	defer u.saving.Unlock()
	u.mu.Lock()
	if !u.changed {
		u.mu.Unlock()
		return nil
	}
	payload := u.encode()
	u.changed, u.savedAt = false, time.Now()
	u.mu.Unlock()
	err := u.store.Write(ctx, statestore.Set{Key: usersKey, Version: usersVersion, Payload: payload})
	if err == nil || ctx.Err() == nil {
		u.storage.Report(err)
	}
	if err != nil {
		u.mu.Lock()
		u.changed = true
		u.mu.Unlock()
		return fmt.Errorf("store the users whose history is read: %w", err)
	}
	return nil
}

// storedUser is the stored form of a user, in big-endian order.
type storedUser struct {
	User  gap.User
	Known knownUser
}

// encode is called with mu held.
func (u *users) encode() []byte {
	stored := make([]storedUser, 0, len(u.known))
	for user, known := range u.known {
		stored = append(stored, storedUser{user, known})
	}
	payload, _ := binary.Append(nil, binary.BigEndian, stored) // it fails only for types without a fixed size
	return payload
}

func decodeUsers(payload []byte) ([]storedUser, error) {
	stored := make([]storedUser, min(len(payload)/binary.Size(storedUser{}), maxUsers))
	if n, err := binary.Decode(payload, binary.BigEndian, stored); err != nil || n != len(payload) {
		return nil, &statestore.DamagedError{Key: usersKey, Err: errors.New("has another size than its users")}
	}
	return stored, nil
}
