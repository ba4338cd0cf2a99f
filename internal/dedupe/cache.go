// Package dedupe knows which interactions were delivered lately and which are in flight, so that each version of an
// interaction is delivered once, whatever source it came from.
package dedupe

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/health"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

// ErrFailedElsewhere reports that the same version of an interaction was in flight in another reservation, which was
// released. It is not permanent: when the interaction comes again, it is delivered like a new one.
var ErrFailedElsewhere = errors.New("an interaction in flight in another call could not be delivered")

// MaxEntries is the largest Settings.MaxEntries.
const MaxEntries = 10_000_000

// Telemetry counts duplicates. Its methods must not block.
type Telemetry interface {
	// Duplicate counts one interaction that was dropped because it was delivered before.
	Duplicate(ctx context.Context, source interaction.Source)
}

// Settings configures a Cache.
type Settings struct {
	// Window is how long an entry is kept. Its age counts from the later of creation and delivery.
	Window time.Duration
	// MaxEntries is the maximum number of entries; the oldest are evicted. Each change of an interaction takes one.
	MaxEntries int
	// Store persists the cache; nil for memory only.
	Store *statestore.Store
	// Logger may be nil.
	Logger *zap.Logger
	// Telemetry may be nil.
	Telemetry Telemetry
}

// Mode says how the interactions of a reservation were read.
type Mode int

// The modes.
const (
	// Live is everything but an import.
	Live Mode = iota
	// Import is the first reading of the past. Its entries are kept in memory only, and are evicted before all others.
	Import
)

// Cache has one entry for each interaction that was delivered lately: which changes of it, and its newest etag. It is safe
// for concurrent use.
//
// An entry takes at most 190 bytes of memory: 56 in a queue, and 21 to 62 in an index for each of its two digests, since a
// map grows in steps and does not reuse deleted slots at once. Without a content digest, as from the history, it takes at
// most 120.
type Cache struct {
	// window is in seconds.
	window     int64
	maxEntries int
	telemetry  Telemetry

	store  *statestore.Store
	health *health.Part
	// changed holds a value while there may be something to write.
	changed chan struct{}
	writer  writer

	mu sync.Mutex // guards what follows
	// inFlight maps the keys of reserved interactions to their versions.
	inFlight map[digest]*version
	// delivered is persisted. imported has what an import delivered.
	delivered, imported queue
	// retained is the Unix time from which on no entry expires.
	retained uint32
	// incompleteUntil is the newest creation of which an entry was evicted before it expired, or was damaged.
	incompleteUntil uint32
	// uncertain are the times of which entries may be missing after unclean ends, in order of From.
	uncertain []uncertainty
}

// New returns an empty Cache. It fails for invalid sizes.
func New(set Settings) (*Cache, error) {
	if set.Window <= 0 {
		return nil, fmt.Errorf("dedupe: Window must be positive, not %s", set.Window)
	}
	if set.MaxEntries <= 0 || set.MaxEntries > MaxEntries {
		return nil, fmt.Errorf("dedupe: MaxEntries must be between 1 and %d, not %d", MaxEntries, set.MaxEntries)
	}
	if set.Logger == nil {
		set.Logger = zap.NewNop()
	}
	return &Cache{
		window:     int64(math.Ceil(set.Window.Seconds())),
		maxEntries: set.MaxEntries,
		telemetry:  set.Telemetry,
		store:      set.Store,
		health: &health.Part{
			Logger:    set.Logger,
			Failing:   "delivered interactions can't be recorded in storage",
			Recovered: "delivered interactions are recorded in storage again",
		},
		changed:   make(chan struct{}, 1),
		inFlight:  map[digest]*version{},
		delivered: queue{index: map[digest]uint32{}},
		imported:  queue{index: map[digest]uint32{}},
		retained:  math.MaxUint32,
	}, nil
}

// Known reports whether an interaction with this content digest was delivered, so that it need not be decrypted again. If so,
// it is counted as a duplicate.
func (c *Cache) Known(contentDigest [32]byte) bool {
	c.mu.Lock()
	_, known := c.delivered.find(digest(contentDigest[:16]))
	c.mu.Unlock()
	if known {
		c.countDuplicate(context.Background(), interaction.FromNotification)
	}
	return known
}

func (c *Cache) countDuplicate(ctx context.Context, source interaction.Source) {
	if c.telemetry != nil {
		c.telemetry.Duplicate(ctx, source)
	}
}

// Reservation is what of some interactions is to be delivered, and what is in flight already. After the delivery exactly
// one of Commit and Release is called, also if New is empty, and then Wait.
type Reservation struct {
	// New is to be delivered, in the order in which it was received. Until Commit, only its attribution may change.
	New []interaction.Received
	// Recovered is how many of New are creations that only the history has. Where the cache may lack entries there are none.
	Recovered int

	cache *Cache
	mode  Mode
	// versions are those of everything received. The reserved ones have an owner.
	versions []version
	waiting  []waiter
	// done is closed once delivered is set.
	done      chan struct{}
	delivered bool
}

// waiter is an interaction of which a version is in flight.
type waiter struct {
	received *interaction.Received
	owner    *Reservation
	// same is true if it is the same version.
	same bool
}

// Reserve decides what is new, and reserves it. It sets the change of what came from the history. The elements of received
// must stay until Wait has returned.
func (c *Cache) Reserve(ctx context.Context, received []interaction.Received, mode Mode) *Reservation {
	r := &Reservation{cache: c, mode: mode, versions: make([]version, len(received)), done: make(chan struct{})}
	for i := range received {
		r.versions[i] = versionOf(&received[i])
	}
	for _, source := range r.reserve(received) {
		c.countDuplicate(ctx, source)
	}
	return r
}

// reserve returns the sources of the duplicates.
func (r *Reservation) reserve(received []interaction.Received) (duplicates []interaction.Source) {
	c := r.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range received {
		v := &r.versions[i]
		known, sent := c.entry(v.key), c.delivered.contains(v.digest)
		change, isNew := v.decide(known)
		if sent || !isNew {
			duplicates = append(duplicates, v.source)
			continue
		}
		v.change = change
		if other := c.inFlight[v.key]; other != nil {
			r.waiting = append(r.waiting, waiter{received: &received[i], owner: other.owner, same: v.same(other)})
			continue
		}
		v.owner, c.inFlight[v.key] = r, v
		received[i].Change = change
		if v.source == interaction.FromHistory && change == interaction.Created && c.certain(v.created) {
			r.Recovered++
		}
		if len(r.New) == i {
			// While all are new nothing is copied; the capacity makes the first append after that copy.
			r.New = received[: i+1 : i+1]
		} else {
			r.New = append(r.New, received[i])
		}
	}
	return duplicates
}

// entry returns what is known of an interaction, and the zero record if nothing is.
func (c *Cache) entry(key digest) record {
	known, _ := c.delivered.find(key)
	if imported, found := c.imported.find(key); found {
		return merge(imported, known)
	}
	return known
}

// Commit records that New was delivered.
func (r *Reservation) Commit() {
	if len(r.New) == 0 {
		return
	}
	r.cache.commit(r, time.Now())
	close(r.done)
	select {
	case r.cache.changed <- struct{}{}:
	default:
	}
}

func (c *Cache) commit(r *Reservation, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(r)
	r.delivered = true
	next := 0
	for i := range r.versions {
		v := &r.versions[i]
		if v.owner != r {
			continue
		}
		lane := &c.delivered
		if r.mode == Import {
			lane = &c.imported
		}
		lane.push(merge(c.entry(v.key), v.deliveredAt(now, HashUser(r.New[next].UserID))))
		next++
	}
	c.evict()
}

// Release removes the reservation of New, which was not delivered.
func (r *Reservation) Release() {
	if len(r.New) == 0 {
		return
	}
	r.cache.mu.Lock()
	r.cache.remove(r)
	r.cache.mu.Unlock()
	close(r.done)
}

// remove is called with mu held.
func (c *Cache) remove(r *Reservation) {
	for i := range r.versions {
		if v := &r.versions[i]; v.owner == r {
			delete(c.inFlight, v.key)
		}
	}
}

// Wait waits until ctx ends for what is in flight. The same version delivered is a duplicate. The same version released by
// another reservation is ErrFailedElsewhere. Where another version was in flight, here or in another reservation, the
// interaction is returned, to be decided anew. An error that wraps that of ctx may be joined with ErrFailedElsewhere.
func (r *Reservation) Wait(ctx context.Context) (again []interaction.Received, err error) {
	for _, w := range r.waiting {
		if ended := w.owner.wait(ctx); ended != nil {
			return again, errors.Join(err, fmt.Errorf("wait for interactions in flight in another call: %w", ended))
		}
		switch {
		case !w.same:
			again = append(again, *w.received)
		case w.owner.delivered:
			r.cache.countDuplicate(ctx, w.received.Source)
		case w.owner != r:
			err = ErrFailedElsewhere
		}
	}
	return again, err
}

func (r *Reservation) wait(ctx context.Context) error {
	select {
	case <-r.done:
		return nil // even if ctx has ended
	default:
	}
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// version is one version of an interaction, as it was received.
type version struct {
	// record lacks what is known only at its delivery.
	record
	change interaction.Change
	source interaction.Source
	// withoutETag is true if Graph sent no etag.
	withoutETag bool
	// owner is the reservation that has reserved it, nil for none.
	owner *Reservation
}

func versionOf(r *interaction.Received) version {
	key := r.Key()
	v := version{
		record: record{key: digestOf(key.Text()), digest: digest(r.ContentDigest[:16]), etag: parseETag(cmp.Or(r.ETag, r.ID))},
		change: r.Change, source: r.Source, withoutETag: r.ETag == "",
	}
	// A deletion without content can't be compared with the history.
	if at, ok := r.CreatedAt(); ok && !r.WithoutContent {
		v.created = seconds(at)
	}
	return v
}

// decide returns the change to deliver, given what was delivered of the interaction. It returns false for a duplicate.
func (v *version) decide(known record) (interaction.Change, bool) {
	deleted, created := known.has(deletionDelivered), known.has(creationDelivered)
	switch {
	case v.source == interaction.FromHistory && deleted:
		return "", false // the history still has deleted interactions
	case v.source == interaction.FromHistory && !created:
		return interaction.Created, true
	case v.source == interaction.FromHistory:
		return interaction.Updated, known.etag.isNumber() && v.etag.isNumber() && v.etag > known.etag
	case v.change == interaction.Created:
		return v.change, !created
	case v.change == interaction.Deleted:
		return v.change, !deleted
	default:
		return v.change, !deleted && (v.withoutETag || v.etag.newerThan(known.etag))
	}
}

// same reports whether two versions of one interaction may share the outcome of one delivery.
func (v *version) same(other *version) bool {
	if v.change == interaction.Updated && (v.withoutETag || other.withoutETag) {
		return v.change == other.change && v.digest == other.digest
	}
	return v.change == other.change && v.etag == other.etag
}

// deliveredAt returns the record of its delivery.
func (v *version) deliveredAt(now time.Time, user UserHash) record {
	one := v.record
	one.delivered, one.user = seconds(now), user
	switch v.change {
	case interaction.Deleted:
		one.flags, one.etag = deletionDelivered, 0
	case interaction.Created:
		one.flags = creationDelivered
		if v.source == interaction.FromNotification {
			one.flags |= creationNotified
		}
	}
	return one
}

// etag is a positive decimal number below 2^63 as it is, and anything else as a hash of at least 2^63. 0 is none.
type etag uint64

const hashedETag = 1 << 63

func parseETag(text string) etag {
	if n, err := strconv.ParseUint(text, 10, 63); err == nil && n > 0 {
		return etag(n)
	}
	sum := sha256.Sum256([]byte(text))
	return hashedETag | etag(binary.BigEndian.Uint64(sum[:]))
}

func (e etag) isNumber() bool { return e < hashedETag }

// newerThan compares numbers, and takes a different etag that is no number for newer.
func (e etag) newerThan(other etag) bool {
	if e.isNumber() && other.isNumber() {
		return e > other
	}
	return e != other
}

// UserHash identifies a user, with a probability of 2^-32 that another user has the same. It is 0 for an unknown user.
type UserHash uint32

// HashUser returns the hash of an Entra object id, whose case is ignored.
func HashUser(userID string) UserHash {
	if userID == "" {
		return 0
	}
	return UserHash(max(crc32.ChecksumIEEE([]byte(strings.ToLower(userID))), 1))
}

// digest is the first half of the SHA-256 of a key or of content. The probability of a collision among ten million is
// below 10^-24. It is zero for none.
type digest [16]byte

func digestOf(text string) digest {
	sum := sha256.Sum256([]byte(text))
	return digest(sum[:16])
}

func seconds(t time.Time) uint32 {
	return uint32(min(max(t.Unix(), 0), math.MaxUint32))
}
