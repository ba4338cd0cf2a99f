// Package directory knows the users of the tenant: those with a Copilot license, those seen, those without history, and what Graph
// says about each.
package directory

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/health"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

const (
	listTTL              = 15 * time.Minute // how long a list of users is valid for the history, and one that failed is left alone
	attempts, maxBackoff = 5, time.Minute   // how often in a row a read may fail
)

// Settings configures a Directory. Graph, Store and Logger are required.
type Settings struct {
	Graph  Graph
	Store  *statestore.Store
	Logger *zap.Logger

	// ListLicensed is true if the licensed users are listed at the start and each CacheTTL, as they are with Lookup. Without both
	// they are listed where their history is read.
	ListLicensed bool
	// Lookup is true if interactions get the properties of their users. What follows is required then, and CacheTTL with ListLicensed.
	Lookup     bool
	Properties []string      // by their names in Graph
	CacheTTL   time.Duration // after which properties are read again; until that succeeds the old ones are used
	CacheSize  int           // users whose properties are kept in memory
	Telemetry  Telemetry
}

// Graph is the part of Microsoft Graph that is used, within its limits. Its errors are logged, and name no user.
type Graph interface {
	// LicensedUsers yields the pages of the users with a Copilot license. An error is the last element.
	LicensedUsers(ctx context.Context, properties []string) iter.Seq2[[]interaction.Person, error]
	// User reads a user; graph.UnknownUser reports whether the error means that there is none.
	User(ctx context.Context, id string, properties []string) (interaction.Person, error)
}

// Telemetry counts what the cache lacks. Its methods must not block.
type Telemetry interface {
	// DirectoryMisses counts interactions of users whose properties were not known yet.
	DirectoryMisses(count int)
}

// Directory knows the users. It is safe for concurrent use.
type Directory struct {
	s       Settings
	listing health.Part
	users   *statestore.Value[knownUsers]
	persons *persons
	wake    chan struct{} // see Changed
	reading chan struct{} // has an element while the licensed users are read

	mu            sync.Mutex // guards what follows
	licensed      []gap.User // in order, of the last list that succeeded
	licensedKnown bool       // true once one has succeeded
	listErr       error      // of the last list, errNotListed before the first
	listedAt      time.Time  // when it ended
	known         map[gap.User]knownUser
	newest        int64 // when a user was first seen last
}

var errNotListed = errors.New("the licensed users were not listed yet")

// New returns a Directory. Load must be called before anything else.
func New(s Settings) *Directory {
	failing := "directory can't be read, history is only read for users already seen, gaps stay open for the others"
	if s.Lookup {
		failing += ", and records of users who are not in the cache have no directory properties"
	}
	return &Directory{
		s: s, wake: make(chan struct{}, 1), reading: make(chan struct{}, 1), listErr: errNotListed, known: map[gap.User]knownUser{},
		listing: health.Part{Logger: s.Logger, Failing: failing, Recovered: "directory can be read again"},
		users: statestore.NewValue[knownUsers](statestore.ValueSettings{
			Store: s.Store, Key: "users", Version: 1, Name: "users whose history is read", Logger: s.Logger,
		}),
		persons: newPersons(s.CacheSize, s.CacheTTL),
	}
}

// Known returns whether the licensed users are known, and when a user was first seen last.
func (d *Directory) Known() gap.Users {
	d.mu.Lock()
	defer d.mu.Unlock()
	return gap.Users{Listed: d.listErr == nil && time.Since(d.listedAt) < listTTL, NewestSeen: time.Unix(0, d.newest)}
}

// Licensed returns the licensed users of the last list that succeeded, in order; false before the first. A list that fails later
// changes nothing. The caller must not change the slice.
func (d *Directory) Licensed() (users []gap.User, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.licensed, d.licensedKnown
}

// List returns the licensed users and those seen, in order, less those first seen before a time. The second result is false if the
// licensed users can't be read now, and are missing. The error is the context's.
func (d *Directory) List(ctx context.Context, since time.Time) ([]gap.User, bool, error) {
	failed := d.list(ctx, listTTL)
	if ctx.Err() != nil {
		return nil, false, ctx.Err()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]gap.User, 0, len(d.licensed)+len(d.known))
	if failed == nil {
		all = append(all, d.licensed...)
	}
	for user, known := range d.known {
		if known.Seen != 0 {
			all = append(all, user)
		}
	}
	return slices.DeleteFunc(gap.SortUsers(all), func(user gap.User) bool {
		seen := d.known[user].Seen
		return seen != 0 && time.Unix(0, seen).Before(since)
	}), failed == nil, nil
}

// list reads the licensed users, several times if that fails, unless that was done within maxAge. It returns the error of the last
// list, or the context's.
func (d *Directory) list(ctx context.Context, maxAge time.Duration) error {
	select {
	case d.reading <- struct{}{}:
		defer func() { <-d.reading }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if d.listDue(maxAge) > 0 {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.listErr
	}
	var licensed []gap.User
	err := try(ctx, func() (err error) {
		licensed, err = d.read(ctx)
		return err
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	d.listing.Report(err, graph.CodeField(err))
	d.mu.Lock()
	defer d.mu.Unlock()
	d.listErr, d.listedAt = err, time.Now()
	if err == nil {
		d.licensed, d.licensedKnown = licensed, true
	}
	return err
}

// try reads something, several times if that fails.
func try(ctx context.Context, read func() error) error {
	delays, err := graph.NewBackOff(maxBackoff), read()
	for n := 1; err != nil && ctx.Err() == nil && n < attempts; n++ {
		if graph.Forbidden(err) || graph.Unsupported(err) || graph.UnknownUser(err) {
			return err // which stays so
		}
		_ = graph.Sleep(ctx, delays.NextBackOff()) // then read fails as well
		err = read()
	}
	return err
}

// listDue returns the time until the last list is older than maxAge.
func (d *Directory) listDue(maxAge time.Duration) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Until(d.listedAt.Add(maxAge))
}

// read reads all pages. Of each user the 16 bytes of the id are kept, and with Lookup the properties in the cache.
func (d *Directory) read(ctx context.Context) (users []gap.User, err error) {
	began := time.Now()
	defer func() { d.persons.listed(began, err == nil) }()
	for page, err := range d.s.Graph.LicensedUsers(ctx, d.s.Properties) {
		if err != nil {
			return nil, err
		}
		for _, person := range page {
			user, valid := gap.ParseUser(person.ID)
			if !valid {
				continue
			}
			users = append(users, user)
			if d.s.Lookup {
				d.persons.put(user, &person, false)
			}
		}
	}
	return slices.Clip(gap.SortUsers(users)), nil
}
