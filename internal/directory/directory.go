// SPDX-License-Identifier: Apache-2.0

// Package directory knows the users of the tenant: those with a Copilot license, those seen, those without history, and what Graph
// says about each.
package directory

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/health"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

const (
	listTTL  = 15 * time.Minute // how long a list of users is valid for the history, and one that failed is left alone
	maxPages = 5_000            // of the list, of 999 users each

	// Graph accepts several hundred a second of an application: https://learn.microsoft.com/graph/throttling-limits
	requestsPerSecond    = 25
	attempts, maxBackoff = 5, time.Minute // how often in a row a request may fail
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

// Graph is the part of Microsoft Graph that is used. *graph.Client implements it, and documents the methods. Its errors are logged,
// and name no user.
type Graph interface {
	LicensedUsers(ctx context.Context, next string, properties []string) (graph.UserPage, error)
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
	health  health.Part // of reading; without it interactions are delivered all the same, so the component stays healthy
	users   *statestore.Value[knownUsers]
	persons *persons
	wake    chan struct{}       // see Changed
	reading *semaphore.Weighted // held while something is read: one request at a time
	limiter *rate.Limiter       // of the requests

	mu       sync.Mutex // guards what follows
	licensed []gap.User // in order, of the last list that succeeded; nil before the first
	listErr  error      // of the last list
	listedAt time.Time  // when it ended, zero before the first
	known    map[gap.User]knownUser
	newest   int64 // when a user was first seen last
}

// New returns a Directory. Load must be called before anything else.
func New(s Settings) *Directory {
	return &Directory{
		s: s, wake: make(chan struct{}, 1), reading: semaphore.NewWeighted(1), known: map[gap.User]knownUser{},
		limiter: rate.NewLimiter(requestsPerSecond, 1),
		health: health.Part{
			Logger:    s.Logger,
			Failing:   "directory can't be read, what is known of users is used, will be tried again",
			Recovered: "directory can be read again",
			Code:      failure.RequestRefused,
		},
		users:   newUsers(s.Store, s.Logger),
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
	return d.licensed, d.licensed != nil
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

// list reads the licensed users, unless that was done within maxAge, or failed within listTTL. It returns the error of the last
// list, or the context's.
func (d *Directory) list(ctx context.Context, maxAge time.Duration) error {
	if err := d.reading.Acquire(ctx, 1); err != nil {
		return err
	}
	defer d.reading.Release(1)
	if d.listDue(maxAge) > 0 {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.listErr
	}
	began := time.Now()
	licensed, err := d.readLicensed(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		d.persons.listed(began)
	}
	d.listEnded(licensed, err)
	return err
}

// listDue returns the time until the next list, if one is wanted each maxAge.
func (d *Directory) listDue(maxAge time.Duration) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.listErr != nil {
		maxAge = listTTL
	}
	return time.Until(d.listedAt.Add(maxAge))
}

// listEnded notes the licensed users, or why they can't be read.
func (d *Directory) listEnded(licensed []gap.User, err error) {
	d.health.Report(err, graph.CodeField(err))
	d.mu.Lock()
	defer d.mu.Unlock()
	d.listErr, d.listedAt = err, time.Now()
	if err == nil {
		d.licensed = licensed
	}
}

// readLicensed reads all pages. Of each user the 16 bytes of the id are kept, and with Lookup the properties in the cache.
func (d *Directory) readLicensed(ctx context.Context) ([]gap.User, error) {
	users := []gap.User{}
	pages := graph.Pages(maxPages, func(next string) (graph.UserPage, error) {
		return request(ctx, d, func() (graph.UserPage, error) { return d.s.Graph.LicensedUsers(ctx, next, d.s.Properties) })
	})
	for page, err := range pages {
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

// request makes a request, again after a pause if it fails, and returns its last error, or the context's. There is a pause after the
// last failure too, since Graph asks for one whatever is requested next. It is called with reading held.
func request[A any](ctx context.Context, d *Directory, once func() (A, error)) (answer A, err error) {
	delays := graph.NewBackOff(maxBackoff)
	for range attempts {
		if err := d.limiter.Wait(ctx); err != nil {
			return answer, err
		}
		answer, err = once()
		if err == nil || graph.Forbidden(err) || graph.Unsupported(err) || graph.UnknownUser(err) {
			return answer, err // which stays so
		}
		if err := graph.Sleep(ctx, cmp.Or(graph.RetryAfter(err), delays.NextBackOff())); err != nil {
			return answer, err
		}
	}
	return answer, err
}
