package backfill

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/health"
)

// user is a user in 16 bytes, so that 100,000 of them fit into 1.6 MB: the object id itself where it is a GUID, else a hash.
type user [16]byte

func (u user) compare(o user) int { return bytes.Compare(u[:], o[:]) }

// parseGUID reads the usual form of a GUID, in any case.
func parseGUID(id string) (u user, ok bool) {
	if len(id) != 36 || id[8] != '-' || id[13] != '-' || id[18] != '-' || id[23] != '-' {
		return user{}, false
	}
	digits := id[:8] + id[9:13] + id[14:18] + id[19:23] + id[24:]
	if _, err := hex.Decode(u[:], []byte(digits)); err != nil {
		return user{}, false
	}
	return u, true
}

// String returns the GUID in lower case.
func (u user) String() string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// parseUser reads a configured user. Graph also accepts user principal names, which are no GUIDs.
func parseUser(name string) (u user, guid bool) {
	if u, guid = parseGUID(name); guid {
		return u, true
	}
	sum := sha256.Sum256([]byte(strings.ToLower(name)))
	return user(sum[:16]), false
}

// sortUsers returns the users in order, without duplicates. It reuses the slice.
func sortUsers(users []user) []user {
	slices.SortFunc(users, user.compare)
	return slices.Compact(users)
}

// names maps the configured users that are no GUIDs.
type names map[user]string

// parseUsers reads the configured users.
func parseUsers(configured []string) ([]user, names) {
	users := make([]user, 0, len(configured))
	named := names{}
	for _, name := range configured {
		u, guid := parseUser(name)
		if !guid {
			named[u] = name
		}
		users = append(users, u)
	}
	return sortUsers(users), named
}

// of returns the user's name in a URL.
func (n names) of(u user) string {
	if name, found := n[u]; found {
		return name
	}
	return u.String()
}

// unlicensedRecheck is how long a user without license or history is not requested again. Licenses are assigned later,
// too.
const unlicensedRecheck = 72 * time.Hour

// selectedUsers are the users of a pass.
type selectedUsers struct {
	// todo are the users to read, in order; total includes those done already.
	todo  []user
	total int
	// known is false if not all users are known.
	known bool
	// failed are users that are known to fail and are left for later.
	failed []user
}

// selectUsers selects the users to read. It returns the context's error.
func (b *Backfiller) selectUsers(ctx context.Context, p *pass) (selectedUsers, error) {
	all, known, err := b.allUsers(ctx, p)
	if err != nil {
		return selectedUsers{}, err
	}
	list := selectedUsers{total: len(all), known: known}
	done := b.progress().sorted()
	failing := b.knownFailedUsers(p)
	now := time.Now()
	list.todo = slices.DeleteFunc(all, func(u user) bool {
		if _, found := slices.BinarySearchFunc(done, u, user.compare); found {
			return true
		}
		if since, found := b.unlicensed.at(u); found && now.Sub(since) < unlicensedRecheck {
			return true
		}
		if from, to := b.timeRange(p, u); !from.Before(to) {
			return true
		}
		if _, found := slices.BinarySearchFunc(failing, u, user.compare); found {
			list.failed = append(list.failed, u)
			return true
		}
		return false
	})
	return list, nil
}

// allUsers returns the users of a pass in a new slice, and whether these are all.
func (b *Backfiller) allUsers(ctx context.Context, p *pass) (users []user, known bool, err error) {
	switch {
	case p.kind() == kindFailedUsers:
		for _, u := range p.intervals[0].users {
			users = append(users, u.user)
		}
		return users, true, nil
	case len(b.configured) > 0:
		return slices.Clone(b.configured), true, nil
	case p.newUsersOnly:
		return sortUsers(b.seen.users()), false, nil
	}
	listed, known, err := b.directory.list(ctx)
	if err != nil {
		return nil, false, err
	}
	return sortUsers(append(b.seen.users(), listed...)), known, nil
}

// knownFailedUsers returns the users that are left for later already, in order: the time of this pass is added to
// theirs.
func (b *Backfiller) knownFailedUsers(p *pass) []user {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := b.gaps.failedUsersIndex()
	if i < 0 || p.kind() == kindFailedUsers {
		return nil
	}
	users := make([]user, 0, len(b.gaps.intervals[i].users))
	for _, u := range b.gaps.intervals[i].users {
		users = append(users, u.user)
	}
	return users
}

// timeRange returns the time range to read of a user; it may be empty.
//
// A user without history at the last request was left out of everything since then.
//
// If the directory could not be read, an interval was read for the users seen until then. Of a user first seen later
// only the time before that is missing, of one first seen earlier nothing.
func (b *Backfiller) timeRange(p *pass, u user) (from, to time.Time) {
	from, to = p.bounds()
	switch p.kind() {
	case kindFailedUsers:
		users := p.intervals[0].users
		if i, found := slices.BinarySearchFunc(users, u, func(l failedUser, u user) int { return l.user.compare(u) }); found {
			return users[i].from, users[i].to
		}
		return from, from
	case kindUnknownUsers:
		seen, found := b.seen.at(u)
		if !found {
			return from, to
		}
		if seen.Before(p.asOf()) {
			return from, from
		}
		return from, earliest(to, seen)
	default:
		if since, found := b.unlicensed.at(u); found {
			from = earliest(from, latest(since, time.Now().Add(-b.s.MaxGap)))
		}
		return from, to
	}
}

// probeUser returns a user who was read before a restart interrupted this pass, nil if there is none.
func (b *Backfiller) probeUser() *user {
	for _, u := range b.progress().sorted() {
		if _, left := b.unlicensed.at(u); !left {
			return &u
		}
	}
	return nil
}

// noteLicensed opens a gap for a user who had no history at the last request and has sent a prompt since: the user was
// left out of every gap since then. It is read at most once an hour, since Graph may still report no license.
func (b *Backfiller) noteLicensed(u user) {
	since, found := b.unlicensed.remove(u)
	if !found || b.s.Disabled {
		return
	}
	b.open(func(now time.Time, c *change) {
		from := latest(since, now.Add(-b.s.MaxGap))
		left := interval{
			kind: kindFailedUsers, from: from, to: now, reasons: reasonCounts{UsersUnknown: 1}, users: []failedUser{{user: u, from: from, to: now}},
			due: since.Add(itemInterval),
		}
		if from.Before(now) {
			c.open(left.reasons)
			b.gaps.insert(left, now, c)
		}
	})
}

const (
	// directoryTTL is how long a list of users is valid.
	directoryTTL = 15 * time.Minute
	// directoryRetry is the time between two attempts if the directory may not be read.
	directoryRetry = time.Hour
	// directoryAttempts is how often in a row the list may fail before only the users already seen are read.
	directoryAttempts = 5
	// maxUserPages limits the list of users: Graph sends up to 999 on a page.
	maxUserPages = 5_000
)

var errEndless = errors.New("the list has too many pages, or its links form a cycle")

// directory lists the licensed users of the tenant. Only Run uses it.
type directory struct {
	graph    Graph
	throttle *throttle
	logger   *zap.Logger

	users   []user // sorted
	listed  time.Time
	retryAt time.Time
	failure health.Reminder
}

// fresh reports whether the list is new enough.
func (d *directory) fresh(now time.Time) bool {
	return !d.listed.IsZero() && now.Sub(d.listed) < directoryTTL
}

// list returns the licensed users; known is false if they can't be read before retryAt. It returns the context's error.
func (d *directory) list(ctx context.Context) (users []user, known bool, err error) {
	if d.fresh(time.Now()) {
		return d.users, true, nil
	}
	if time.Now().Before(d.retryAt) {
		return nil, false, nil
	}
	d.users = nil
	for try := 1; ; try++ {
		users, err := d.read(ctx)
		if err == nil {
			d.users, d.listed = users, time.Now()
			d.recovered(len(users))
			return users, true, nil
		}
		if ctx.Err() != nil {
			return nil, false, ctx.Err()
		}
		forbidden := classify(err) != broken
		if forbidden || try == directoryAttempts {
			d.failed(err, forbidden)
			return nil, false, nil
		}
		if err := sleep(ctx, backoff(try, time.Minute)); err != nil {
			return nil, false, err
		}
	}
}

// read reads all pages. Only the 16 bytes of each user are kept.
func (d *directory) read(ctx context.Context) ([]user, error) {
	var users []user
	next, seen := "", map[string]bool{}
	for range maxUserPages {
		page, err := d.page(ctx, next)
		if err != nil {
			return nil, err
		}
		for _, id := range page.IDs {
			if u, ok := parseGUID(id); ok {
				users = append(users, u)
			}
		}
		if page.Next == "" {
			return slices.Clip(sortUsers(users)), nil
		}
		if next = page.Next; seen[next] {
			return nil, errEndless
		}
		seen[next] = true
	}
	return nil, errEndless
}

// page reads one page. It waits as long as Graph asks for.
func (d *directory) page(ctx context.Context, next string) (graph.UserPage, error) {
	for {
		if err := d.throttle.Wait(ctx); err != nil {
			return graph.UserPage{}, err
		}
		started := time.Now()
		page, err := d.graph.LicensedUsers(ctx, next)
		if err == nil {
			return page, nil
		}
		if ctx.Err() != nil {
			return graph.UserPage{}, ctx.Err()
		}
		switch classify(err) {
		case throttled:
			d.throttle.Observe(started, "", err)
		case denied:
			if graph.Unsupported(err) {
				return graph.UserPage{}, err
			}
			d.throttle.Observe(started, "", err)
		default:
			return graph.UserPage{}, err
		}
	}
}

func (d *directory) failed(err error, forbidden bool) {
	d.retryAt = time.Now().Add(directoryRetry)
	if !forbidden {
		d.retryAt = time.Now().Add(maxPause)
	}
	if !d.failure.Failed() {
		return
	}
	d.logger.Warn("directory can't be read, history is only read for users already seen, gaps stay open for the others",
		optionalString("code", graph.Code(err)), zap.String("hint", graph.Hint(err)), zap.String("error", describe(err)))
}

func (d *directory) recovered(users int) {
	if d.failure.Recovered() {
		d.logger.Info("directory can be read again", zap.Int("users", users))
	}
}

const (
	// shardCount is how many values userTimes is stored in: one more user rewrites one of them.
	shardCount   = 64
	userTimeSize = len(user{}) + 8
	// maxUsers limits a userTimes.
	maxUsers = 100_000
)

// userTimes persists a time for each of a limited number of users.
type userTimes struct {
	key string

	mu     sync.Mutex // guards what follows
	shards [shardCount]map[user]int64
	dirty  [shardCount]bool
	size   int
}

func newUserTimes(key string) *userTimes { return &userTimes{key: key} }

func shardOf(u user) int { return int(u[0]) * shardCount / 256 }

// put sets the time of a user, rounded up to seconds. If it is full, it removes times before stale; it returns false if
// there are none.
func (s *userTimes) put(u user, at, stale time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := shardOf(u)
	if _, found := s.shards[b][u]; !found {
		if s.size >= maxUsers {
			s.drop(stale)
		}
		if s.size >= maxUsers {
			return false
		}
		s.size++
	}
	if s.shards[b] == nil {
		s.shards[b] = map[user]int64{}
	}
	s.shards[b][u] = at.Add(time.Second - 1).Unix()
	s.dirty[b] = true
	return true
}

// remove removes a user and returns the time.
func (s *userTimes) remove(u user) (at time.Time, found bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := shardOf(u)
	seconds, found := s.shards[b][u]
	if found {
		delete(s.shards[b], u)
		s.dirty[b] = true
		s.size--
	}
	return time.Unix(seconds, 0).UTC(), found
}

func (s *userTimes) drop(before time.Time) {
	for b := range s.shards {
		for u, at := range s.shards[b] {
			if at < before.Unix() {
				delete(s.shards[b], u)
				s.dirty[b] = true
				s.size--
			}
		}
	}
}

// at returns the time of a user.
func (s *userTimes) at(u user) (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, found := s.shards[shardOf(u)][u]
	return time.Unix(at, 0).UTC(), found
}

// users returns all users, in no order.
func (s *userTimes) users() []user {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]user, 0, s.size)
	for b := range s.shards {
		for u := range s.shards[b] {
			all = append(all, u)
		}
	}
	return all
}

// changed reports whether something is not stored yet.
func (s *userTimes) changed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, dirty := range s.dirty {
		if dirty {
			return true
		}
	}
	return false
}

// flush stores changed shards. Only one flush may run at a time.
func (s *userTimes) flush(ctx context.Context, store Store) error {
	for b := range shardCount {
		s.mu.Lock()
		dirty := s.dirty[b]
		s.dirty[b] = false
		value := []byte{formatVersion}
		if dirty {
			for u, at := range s.shards[b] {
				value = append(value, u[:]...)
				value = binary.BigEndian.AppendUint64(value, uint64(at)) //nolint:gosec // G115: read back the same way.
			}
		}
		s.mu.Unlock()
		if !dirty {
			continue
		}
		if err := store.Set(ctx, s.key+strconv.Itoa(b), value); err != nil {
			s.mu.Lock()
			s.dirty[b] = true
			s.mu.Unlock()
			return fmt.Errorf("store users: %w", err)
		}
	}
	return nil
}

// load adds the stored times. A value that can't be read is replaced by the next flush.
func (s *userTimes) load(ctx context.Context, store Store) (damage, err error) {
	for b := range shardCount {
		value, err := store.Get(ctx, s.key+strconv.Itoa(b))
		if err != nil {
			return nil, err
		}
		if value == nil {
			continue
		}
		times, bad := decodeShard(value, b)
		s.mu.Lock()
		if bad != nil {
			damage = errors.Join(damage, bad)
			s.dirty[b] = true
		}
		s.mergeShard(b, times)
		s.mu.Unlock()
	}
	return damage, nil
}

// mergeShard is called with mu held. A stored time is the older one and wins.
func (s *userTimes) mergeShard(b int, times map[user]int64) {
	if s.shards[b] == nil {
		s.shards[b] = map[user]int64{}
	}
	for u, at := range times {
		if _, found := s.shards[b][u]; !found {
			if s.size >= maxUsers {
				continue
			}
			s.size++
		}
		s.shards[b][u] = at
	}
}

func decodeShard(value []byte, b int) (map[user]int64, error) {
	body, err := unversioned(value)
	if err != nil {
		return nil, err
	}
	if len(body)%userTimeSize != 0 || len(body) > maxUsers*userTimeSize {
		return nil, errShape
	}
	times := make(map[user]int64, len(body)/userTimeSize)
	for ; len(body) > 0; body = body[userTimeSize:] {
		u := user(body[:len(user{})])
		at := int64(binary.BigEndian.Uint64(body[len(user{}):])) //nolint:gosec // G115: written the same way.
		if shardOf(u) != b || !plausible(time.Unix(at, 0).UTC()) {
			return nil, errShape
		}
		times[u] = at
	}
	return times, nil
}

// anySince reports whether a user has this time or a later one.
func (s *userTimes) anySince(t time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for b := range s.shards {
		for _, at := range s.shards[b] {
			if !time.Unix(at, 0).Before(t) {
				return true
			}
		}
	}
	return false
}
