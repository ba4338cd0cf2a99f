// SPDX-License-Identifier: Apache-2.0

// Package dedupe knows which interactions were delivered lately and which are in flight, so that each version of an
// interaction is delivered once, whatever source it came from.
package dedupe

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/health"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

// MaxEntries is the largest Settings.MaxEntries.
const MaxEntries = 10_000_000

// Telemetry counts duplicates. Its methods must neither block nor call the Cache.
type Telemetry interface {
	// Duplicate counts one interaction that was dropped because it was delivered before.
	Duplicate(ctx context.Context, source interaction.Source)
}

// Settings configures a Cache.
type Settings struct {
	Window     time.Duration     // how long an entry is kept, from the later of creation and delivery on
	MaxEntries int               // beyond it the oldest are evicted; each change of an interaction takes one
	Store      *statestore.Store // nil for memory only
	// RetainFrom returns the time from which on no entry expires, zero for none. They are still evicted where there are too many.
	RetainFrom func() time.Time
	Logger     *zap.Logger
	// Status is called when writing to Store begins to fail, and with nil when it is over. It must not block. It may be nil.
	Status    func(error)
	Telemetry Telemetry
}

// Cache has one entry for each interaction that was delivered lately: which changes of it, and its newest etag. An entry takes at
// most 190 bytes: 56 in a queue, and 21 to 62 in an index for each of its two digests. It is safe for concurrent use.
type Cache struct {
	settings Settings
	health   health.Part
	changed  chan struct{} // holds a value while there may be something to write
	stored   *storedIndex  // the index that the store has; nil, and nothing is written, until the store was read

	mu sync.Mutex // guards what follows
	// inFlight maps the keys of interactions to the reservations that have them.
	inFlight map[digest]*Reservation
	// delivered is persisted. imported has what an import delivered, in memory only, and is evicted first.
	delivered, imported queue
	complete            completeness
}

// New returns an empty Cache.
func New(set Settings) *Cache {
	return &Cache{
		settings: set,
		health: health.Part{
			Logger: set.Logger, Failing: "delivered interactions can't be recorded in storage",
			Recovered: "delivered interactions are recorded in storage again", Code: failure.StorageFailing,
			Status: set.Status,
		},
		changed:   make(chan struct{}, 1),
		inFlight:  map[digest]*Reservation{},
		delivered: queue{index: map[digest]uint32{}},
		imported:  queue{index: map[digest]uint32{}},
	}
}

// Known reports whether content was delivered, so that it need not be decrypted again. If so, it is counted as a duplicate.
func (c *Cache) Known(contentDigest [32]byte) bool {
	c.mu.Lock()
	_, known := c.delivered.index[digestOf(contentDigest)]
	c.mu.Unlock()
	if known {
		c.settings.Telemetry.Duplicate(context.Background(), interaction.FromNotification)
	}
	return known
}

// Reservation is what of some interactions is to be delivered, and what is in flight already. After the delivery Commit or
// Release is called, also if New is empty.
type Reservation struct {
	// New is to be delivered, in the order in which it was received. Until Commit, only its attribution may change.
	New []interaction.Received
	// Recovered is how many of New are creations that only the history has. Where the cache may lack entries there are none.
	Recovered int

	cache    *Cache
	entries  *queue    // gets what was delivered
	versions []version // those of New
	ended    chan struct{}

	inFlight []interaction.Received // of which a version is in flight, here or in another reservation
	awaited  []*Reservation         // those that have the versions in flight
}

// Reserve decides what is new, and reserves it. It sets the change of what came from the history.
func (c *Cache) Reserve(ctx context.Context, received []interaction.Received) *Reservation {
	r := &Reservation{
		New: make([]interaction.Received, 0, len(received)), versions: make([]version, 0, len(received)),
		cache: c, entries: &c.delivered, ended: make(chan struct{}),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range received {
		v := versionOf(&received[i])
		_, sent := c.delivered.index[v.Digest]
		change, isNew := v.decide(c.entry(v.Key))
		if sent || !isNew {
			c.settings.Telemetry.Duplicate(ctx, v.source)
			continue
		}
		if owner := c.inFlight[v.Key]; owner != nil {
			r.inFlight, r.awaited = append(r.inFlight, received[i]), append(r.awaited, owner)
			continue
		}
		if v.source == interaction.FromHistory && change == interaction.Created && c.complete.certain(v.Created) {
			r.Recovered++
		}
		v.change, received[i].Change = change, change
		r.versions, r.New = append(r.versions, v), append(r.New, received[i])
		c.inFlight[v.Key] = r
	}
	return r
}

// ReserveImport is Reserve for the first reading of the past, which must not evict what was delivered lately.
func (c *Cache) ReserveImport(ctx context.Context, received []interaction.Received) *Reservation {
	r := c.Reserve(ctx, received)
	r.entries = &c.imported
	return r
}

// entry returns what is known of an interaction, and the zero record if nothing is.
func (c *Cache) entry(key digest) record { return merge(c.imported.find(key), c.delivered.find(key)) }

// Commit records that New was delivered.
func (r *Reservation) Commit() {
	r.end(true)
	if len(r.New) > 0 {
		select {
		case r.cache.changed <- struct{}{}:
		default:
		}
	}
}

// Release removes the reservation of New, which was not delivered.
func (r *Reservation) Release() { r.end(false) }

func (r *Reservation) end(delivered bool) {
	c, now := r.cache, seconds(time.Now())
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range r.versions {
		v := &r.versions[i]
		delete(c.inFlight, v.Key)
		if delivered {
			r.entries.push(merge(c.entry(v.Key), v.deliveredAt(now, hashUser(r.New[i].UserID))))
		}
	}
	c.evict()
	close(r.ended)
}

// Wait waits, at most until ctx ends, for the end of what is in flight, and returns the interactions that depend on it. They are to
// be reserved anew: what was delivered meanwhile is a duplicate, and what was not is new. It is called after Commit or Release. The
// error wraps that of ctx.
func (r *Reservation) Wait(ctx context.Context) (again []interaction.Received, err error) {
	for _, other := range r.awaited {
		select {
		case <-other.ended:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for interactions in flight in another call: %w", ctx.Err())
		}
	}
	return r.inFlight, nil
}

// version is one version of an interaction, as it was received.
type version struct {
	// record lacks what is known only at its delivery.
	record
	change      interaction.Change
	source      interaction.Source
	withoutETag bool
}

func versionOf(r *interaction.Received) version {
	key := digestOf(sha256.Sum256([]byte(r.Key().Text())))
	v := version{
		record: record{Key: key, Digest: digestOf(r.ContentDigest), ETag: parseETag(cmp.Or(r.ETag, r.ID))},
		change: r.Change, source: r.Source, withoutETag: r.ETag == "",
	}
	// A deletion without content can't be compared with the history.
	if at, ok := r.CreatedAt(); ok && !r.WithoutContent {
		v.Created = seconds(at)
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
		return interaction.Updated, known.ETag.isNumber() && v.ETag.isNumber() && v.ETag > known.ETag
	case v.change == interaction.Created:
		return v.change, !created
	case v.change == interaction.Deleted:
		return v.change, !deleted
	default:
		return v.change, !deleted && (v.withoutETag || v.ETag.newerThan(known.ETag))
	}
}

// deliveredAt returns the record of its delivery.
func (v *version) deliveredAt(now, user uint32) record {
	one := v.record
	one.Delivered, one.User = now, user
	switch {
	case v.change == interaction.Deleted:
		one.Flags, one.ETag = deletionDelivered, 0
	case v.change == interaction.Created && v.source == interaction.FromNotification:
		one.Flags = creationDelivered | creationNotified
	case v.change == interaction.Created:
		one.Flags = creationDelivered
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

// hashUser returns a hash of an Entra object id in any case, 0 for none. Two users have the same with a probability of 2^-32.
func hashUser(userID string) uint32 { return crc32.ChecksumIEEE([]byte(strings.ToLower(userID))) }

// digest is the first half of a SHA-256 of a key or of content, zero for none. Among ten million a collision has a probability
// below 10^-24.
type digest [4]uint32

func digestOf(sum [sha256.Size]byte) (d digest) {
	for i := range d {
		d[i] = binary.BigEndian.Uint32(sum[4*i:])
	}
	return d
}

func seconds(t time.Time) uint32 { return uint32(min(max(t.Unix(), 0), math.MaxUint32)) }

// unix returns the time of seconds since 1970, zero for none.
func unix(seconds uint32) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0).UTC()
}
