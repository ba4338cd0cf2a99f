package directory

import (
	"context"
	"sync"
	"time"
	"unique"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// maxWanted limits the users to be read; beyond it the one who was wanted first has to be looked up again.
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
// ends. While the permission is missing only the list is tried, after pauses of 5 minutes up to an hour.
func (d *Directory) readUsers(ctx context.Context) {
	pauses := graph.NewPermissionBackOff()
	for maxAge := d.s.CacheTTL; ctx.Err() == nil; {
		err := d.list(ctx, maxAge)
		if !graph.Forbidden(err) {
			if maxAge = d.s.CacheTTL; err != nil {
				maxAge = listTTL
			}
			err = d.readWanted(ctx, maxAge)
		}
		if graph.Forbidden(err) {
			d.listing.Report(err, graph.CodeField(err))
			maxAge = pauses.NextBackOff()
			_ = graph.Sleep(ctx, maxAge) // then the loop ends
		} else if err == nil {
			pauses.Reset()
		}
	}
}

// readWanted reads the user who has waited longest. One who can't be read has to be looked up again. If no user waits it waits for
// one, or until the last list is older than maxAge.
func (d *Directory) readWanted(ctx context.Context, maxAge time.Duration) error {
	user, found := d.persons.next()
	if !found {
		select {
		case <-ctx.Done():
		case <-d.persons.wake:
		case <-time.After(d.listDue(maxAge)):
		}
		return nil
	}
	var person interaction.Person
	err := try(ctx, func() (err error) {
		person, err = d.s.Graph.User(ctx, user.String(), d.s.Properties)
		return err
	})
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
// all properties of the default takes about 520 bytes, so 100,000 take 50 MiB. It is safe for concurrent use.
type persons struct {
	size int
	ttl  time.Duration
	wake chan struct{} // has an element after a user was wanted

	mu      sync.Mutex // guards what follows
	entries *simplelru.LRU[gap.User, *entry]
	wanted  *simplelru.LRU[gap.User, struct{}] // the users to be read, in the order in which they were wanted
	// listedFrom is when the last complete list began, listing whether no later one has failed.
	listedFrom time.Time
	listing    bool
}

// entry is a user in the cache.
type entry struct {
	person *interaction.Person // nil if the directory has no such user. Records point to it: it never changes.
	read   time.Time
	shared [6]unique.Handle[string] // keep the values canonical that users have in common, so that they take memory once
}

func newPersons(size int, ttl time.Duration) *persons {
	p := &persons{size: max(size, 1), ttl: ttl, wake: make(chan struct{}, 1)}
	p.entries, _ = simplelru.NewLRU[gap.User, *entry](p.size, nil) // it fails only for a size below 1
	p.wanted, _ = simplelru.NewLRU[gap.User, struct{}](maxWanted, nil)
	return p
}

// put stores what was read of a user, nil for a user who does not exist. Only with evict another user makes room for a new one.
func (p *persons) put(user gap.User, person *interaction.Person, evict bool) {
	e := entry{person: person, read: time.Now()}
	if person != nil {
		for i, value := range []*string{
			&person.Department, &person.OfficeLocation, &person.Country, &person.JobTitle, &person.CompanyName, &person.OnPremisesDomainName,
		} {
			e.shared[i] = unique.Make(*value)
			*value = e.shared[i].Value()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if old, found := p.entries.Peek(user); found {
		*old = e
	} else if evict || p.entries.Len() < p.size {
		p.entries.Add(user, &e)
	}
}

// listed notes the end of a list that began at a time.
func (p *persons) listed(began time.Time, complete bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listing = complete; complete {
		p.listedFrom = began
	}
}

// lookup returns what is known of a user, nil for one who does not exist; false if nothing is known. A user of whom nothing is
// known, or what is known is old, is wanted.
func (p *persons) lookup(user gap.User) (person *interaction.Person, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, known := p.entries.Get(user)
	if known {
		person = p.person(e)
	}
	if (!known || !p.fresh(e)) && !p.wanted.Contains(user) {
		p.wanted.Add(user, struct{}{})
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
	return person, known
}

func (p *persons) peek(user gap.User) *interaction.Person {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e, known := p.entries.Peek(user); known {
		return p.person(e)
	}
	return nil
}

// person returns that of an entry. Whom the last list left out has no license any more. It is called with mu held.
func (p *persons) person(e *entry) *interaction.Person {
	if e.person != nil && e.person.Licensed && e.read.Before(p.listedFrom) {
		unlicensed := *e.person
		unlicensed.Licensed = false
		e.person = &unlicensed
	}
	return e.person
}

// fresh reports whether a user need not be read: as the licensed ones, whom the next list refreshes. It is called with mu held.
func (p *persons) fresh(e *entry) bool {
	person := p.person(e)
	return time.Since(e.read) < p.ttl || p.listing && person != nil && person.Licensed
}

// next removes the user who was wanted first, leaving out those who were read meanwhile; false if there is none.
func (p *persons) next() (user gap.User, found bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if user, _, found = p.wanted.RemoveOldest(); !found {
			return user, false
		}
		if e, known := p.entries.Peek(user); !known || !p.fresh(e) {
			return user, true
		}
	}
}
