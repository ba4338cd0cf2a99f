// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// maxWanted limits the users to be read; those beyond it have to be looked up again.
const maxWanted = 10_000

// Lookup sets the person of each interaction from the cache. It calls nobody: users who are not in the cache are counted, and read
// by Run, so that their next interactions have a person.
func (d *Directory) Lookup(received []interaction.Received) {
	if !d.s.Lookup {
		return
	}
	misses := 0
	for i := range received {
		user, valid := gap.ParseUser(received[i].UserID)
		if !valid {
			continue
		}
		person, known := d.persons.lookup(user)
		if received[i].Person = person; !known {
			misses++
		}
	}
	if misses > 0 {
		d.s.Telemetry.DirectoryMisses(misses)
	}
}

// Person returns what the cache has of a user, nil for nothing. Unlike Lookup it makes nobody read the user.
func (d *Directory) Person(user gap.User) *interaction.Person {
	return d.persons.peek(user)
}

// readUsers lists the licensed users at the start and each CacheTTL, and reads the others who were looked up one by one, until ctx
// ends. While the list fails only the list is tried, unless this installation of Graph has none.
func (d *Directory) readUsers(ctx context.Context) {
	failed := 0 // users in a row
	for ctx.Err() == nil {
		wanted := d.persons.wanted
		if err := d.list(ctx, d.s.CacheTTL); err != nil && !graph.Unsupported(err) {
			wanted = nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(d.listDue(d.s.CacheTTL)):
		case user := <-wanted:
			err := d.readUser(ctx, user)
			if failed++; err == nil {
				failed = 0
			}
			if ctx.Err() == nil && (graph.Forbidden(err) || failed > 1) {
				d.listEnded(nil, err) // since the list would fail as well
				failed = 0
			}
		}
	}
}

// readUser reads a user who was looked up. One who can't be read has to be looked up again.
func (d *Directory) readUser(ctx context.Context, user gap.User) error {
	defer d.persons.done(user)
	if err := d.reading.Acquire(ctx, 1); err != nil {
		return err
	}
	defer d.reading.Release(1)
	if d.persons.fresh(user) {
		return nil // a list had the user meanwhile
	}
	person, err := request(ctx, d, func() (interaction.Person, error) { return d.s.Graph.User(ctx, user.String(), d.s.Properties) })
	switch {
	case err == nil:
		d.persons.put(user, &person, true)
	case graph.UnknownUser(err):
		d.persons.put(user, nil, true)
		return nil
	}
	return err
}

// persons is a cache of what the directory says about users. It is bounded: the user looked up least recently is evicted. A user with
// all properties of the default takes about 600 bytes, so 100,000 take 57 MiB. It is safe for concurrent use.
type persons struct {
	size   int
	ttl    time.Duration
	wanted chan gap.User // users to be read, in the order in which they were looked up

	mu      sync.Mutex // guards what follows
	entries *simplelru.LRU[gap.User, *entry]
	waiting map[gap.User]bool // those in wanted, and the one who is being read: maxWanted at most
	// listedFrom is when the last complete list began.
	listedFrom time.Time
}

// entry is a user in the cache.
type entry struct {
	person *interaction.Person // nil if the directory has no such user. Records point to it: it never changes.
	read   time.Time
}

// newPersons returns a cache. Users count as old a tenth of ttl late, so that a list each ttl finds those on it in time.
func newPersons(size int, ttl time.Duration) *persons {
	p := &persons{size: max(size, 1), ttl: ttl + ttl/10, wanted: make(chan gap.User, maxWanted), waiting: map[gap.User]bool{}}
	p.entries, _ = simplelru.NewLRU[gap.User, *entry](p.size, nil) // it fails only for a size below 1
	return p
}

// put stores what was read of a user, nil for a user who does not exist. Only with evict another user makes room for a new one.
func (p *persons) put(user gap.User, person *interaction.Person, evict bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	read := entry{person: person, read: time.Now()}
	if e, found := p.entries.Peek(user); found {
		*e = read
	} else if evict || p.entries.Len() < p.size {
		p.entries.Add(user, &read)
	}
}

// listed notes when a list began that is complete now.
func (p *persons) listed(began time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listedFrom = began
}

// check takes the license from an entry that the last list has left out, and makes it old. It is called with mu held.
func (p *persons) check(e *entry) {
	if e.person != nil && e.person.Licensed && e.read.Before(p.listedFrom) {
		unlicensed := *e.person
		unlicensed.Licensed = false
		*e = entry{person: &unlicensed}
	}
}

// lookup returns what is known of a user, nil for one who does not exist; false if nothing is known. A user of whom nothing is
// known, or what is known is old, is wanted, unless too many are.
func (p *persons) lookup(user gap.User) (person *interaction.Person, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, known := p.entries.Get(user)
	if known {
		p.check(e)
		person = e.person
	}
	if (!known || time.Since(e.read) >= p.ttl) && !p.waiting[user] && len(p.waiting) < maxWanted {
		p.waiting[user] = true
		p.wanted <- user // there is room for all who wait
	}
	return person, known
}

// peek returns the person of a user, nil for none.
func (p *persons) peek(user gap.User) *interaction.Person {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e, known := p.entries.Peek(user); known {
		p.check(e)
		return e.person
	}
	return nil
}

// fresh reports whether a user need not be read.
func (p *persons) fresh(user gap.User) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, known := p.entries.Peek(user)
	return known && time.Since(e.read) < p.ttl
}

// done lets a user be wanted again.
func (p *persons) done(user gap.User) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.waiting, user)
}
