// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

const (
	// restLength is how long a user without history is not requested again. A prompt that comes minRest into it ends it.
	restLength, minRest = 72 * time.Hour, 24 * time.Hour
	restRounding        = 15 * time.Minute // makes rests that began at about the same time end together
	maxRestsOver        = 1000             // users of a gap, which is stored each second while it is read
	saveInterval        = 10 * time.Second
	maxUsers            = 200_000 // users seen and those without history together
)

// knownUser is what is known of a user, in nanoseconds since 1970. It is stored in this form.
type knownUser struct {
	User      gap.User
	Seen      int64 // when a prompt of the user first came, 0 for never
	RestUntil int64 // when the user is requested again, 0 if not resting
	Unread    int64 // from when on the history was not read because of the rest
}

type knownUsers = statestore.Records[knownUser]

func newUsers(store *statestore.Store, logger *zap.Logger) *statestore.Value[knownUsers] {
	return statestore.NewValue[knownUsers](statestore.ValueSettings{
		Store: store, Key: "users", Version: 1, Name: "users whose history is read", Logger: logger,
	})
}

// Stored reads from storage the users whose prompts came in earlier runs and who have a history, the newest first. damaged means
// that the value can't be used.
func Stored(ctx context.Context, store *statestore.Store) (users []gap.User, damaged bool, err error) {
	known, damaged, err := newUsers(store, zap.NewNop()).Load(ctx)
	known = slices.DeleteFunc(known, func(k knownUser) bool { return k.Seen == 0 || k.RestUntil != 0 })
	slices.SortFunc(known, func(a, b knownUser) int { return cmp.Compare(b.Seen, a.Seen) })
	for _, k := range known {
		users = append(users, k.User)
	}
	return users, damaged, err
}

// Load reads the users of earlier runs. It fails if the storage can't be read; a damaged value is logged and replaced.
func (d *Directory) Load(ctx context.Context) error {
	stored, _, err := d.users.Load(ctx)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, known := range stored {
		d.known[known.User] = known
		d.newest = max(d.newest, known.Seen)
	}
	return nil
}

// Run stores changes within 10 seconds, and reads what Lookup and ListLicensed need, until ctx ends.
func (d *Directory) Run(ctx context.Context) {
	var reading sync.WaitGroup
	if d.s.Lookup || d.s.ListLicensed {
		reading.Go(func() { d.readUsers(ctx) })
	}
	d.users.Run(ctx, saveInterval, d.snapshot)
	reading.Wait()
}

// Save stores what was changed. A failure is logged, again each hour until the storage works again.
func (d *Directory) Save(ctx context.Context) error { return d.users.Save(ctx, d.snapshot) }

func (d *Directory) snapshot() knownUsers {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.AppendSeq(make(knownUsers, 0, len(d.known)), maps.Values(d.known))
}

// put is called with mu held. Beyond maxUsers only those who are known change.
func (d *Directory) put(known knownUser) {
	if _, found := d.known[known.User]; found || len(d.known) < maxUsers {
		d.known[known.User] = known
		d.users.Changed()
	}
}

// Seen notes prompts of users by their Entra object ids; other ids are ignored. It never blocks.
func (d *Directory) Seen(ids ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for _, id := range ids {
		user, valid := gap.ParseUser(id)
		if !valid {
			continue
		}
		before, found := d.known[user]
		known := before
		if known.Seen == 0 && (found || len(d.known) < maxUsers) {
			known.Seen, d.newest = now.UnixNano(), now.UnixNano()
		}
		if left := time.Unix(0, known.RestUntil).Sub(now); left > 0 && left <= restLength-minRest {
			known.RestUntil = now.Truncate(restRounding).UnixNano()
		}
		if known != before {
			known.User = user
			d.put(known)
			select {
			case d.wake <- struct{}{}:
			default:
			}
		}
	}
}

// Changed has an element after users were seen who were not known, or whose rest a prompt has ended. It has one reader.
func (d *Directory) Changed() <-chan struct{} { return d.wake }

// HasHistory notes that the history of a user could be read.
func (d *Directory) HasHistory(user gap.User) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if known := d.known[user]; known.Unread != 0 {
		d.put(knownUser{User: user, Seen: known.Seen})
	}
}

// Rest notes that a user has no history, so that nothing was read from a time on, but for what an earlier rest left unread.
func (d *Directory) Rest(user gap.User, from time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	known := d.known[user]
	d.put(knownUser{user, known.Seen, time.Now().Add(restLength).UnixNano(), max(from.UnixNano(), known.Unread)})
}

// Awake removes the users who rest. What would be read of them from a time on is read after their rest.
func (d *Directory) Awake(users []gap.User, from time.Time) []gap.User {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.DeleteFunc(users, func(user gap.User) bool {
		known := d.known[user]
		if known.RestUntil != 0 && from.UnixNano() < known.Unread {
			known.Unread = from.UnixNano()
			d.put(known)
		}
		return known.RestUntil != 0
	})
}

// RestsOver returns users whose rest is over, in order, and the time from which on their history was not read. Those with another
// such time, and those beyond 1,000, follow after EndRests.
func (d *Directory) RestsOver() (unread time.Time, over []gap.User) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now, from := time.Now(), int64(0)
	for user, known := range d.known {
		end := time.Unix(0, known.RestUntil).Add(restRounding - 1).Truncate(restRounding)
		if known.RestUntil == 0 || now.Before(end) || len(over) > 0 && known.Unread != from {
			continue
		}
		from, over = known.Unread, append(over, user)
		if len(over) == maxRestsOver {
			break
		}
	}
	return time.Unix(0, from), gap.SortUsers(over)
}

// EndRests ends the rest of users who have a gap of their own now, up to a time.
func (d *Directory) EndRests(users []gap.User, to time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, user := range users {
		d.put(knownUser{User: user, Seen: d.known[user].Seen, Unread: to.UnixNano()})
	}
}
