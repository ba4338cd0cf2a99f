// Package directory knows the users of the tenant: those with a Copilot license, those seen, and those without history.
package directory

import (
	"context"
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
	listTTL                  = 15 * time.Minute // how long a list of users is valid, and one that failed is left alone
	listAttempts, maxBackoff = 5, time.Minute   // how often in a row the list may fail
)

// Settings configures a Directory. All fields are required.
type Settings struct {
	Graph  Graph
	Store  *statestore.Store
	Logger *zap.Logger
}

// Graph is the part of Microsoft Graph that is used, within its limits. Its errors are logged, and name no user.
type Graph interface {
	// LicensedUsers yields the pages of the users with a Copilot license. An error is the last element.
	LicensedUsers(ctx context.Context, properties []string) iter.Seq2[[]interaction.Person, error]
}

// Directory knows the users. It is safe for concurrent use, except for List, which one goroutine calls.
type Directory struct {
	s       Settings
	listing health.Part
	users   *statestore.Value[knownUsers]
	wake    chan struct{} // see Changed

	mu         sync.Mutex // guards what follows
	licensed   []gap.User // in order
	listed     bool       // false if they could not be read
	validUntil time.Time  // for both
	known      map[gap.User]knownUser
	newest     int64 // when a user was first seen last
}

// New returns a Directory. Load must be called before anything else.
func New(s Settings) *Directory {
	return &Directory{
		s: s, wake: make(chan struct{}, 1), known: map[gap.User]knownUser{},
		listing: health.Part{
			Logger: s.Logger, Failing: "directory can't be read, history is only read for users already seen, gaps stay open for the others",
			Recovered: "directory can be read again",
		},
		users: statestore.NewValue[knownUsers](statestore.ValueSettings{
			Store: s.Store, Key: "users", Version: 1, Name: "users whose history is read", Logger: s.Logger,
		}),
	}
}

// Known returns whether the licensed users are known, and when a user was first seen last.
func (d *Directory) Known() gap.Users {
	d.mu.Lock()
	defer d.mu.Unlock()
	return gap.Users{Listed: d.listed && time.Now().Before(d.validUntil), NewestSeen: time.Unix(0, d.newest)}
}

// List returns the licensed users and those seen, in order, less those first seen before a time. The second result is false if the
// licensed users can't be read now, and are missing. The error is the context's.
func (d *Directory) List(ctx context.Context, since time.Time) ([]gap.User, bool, error) {
	d.mu.Lock()
	valid := time.Now().Before(d.validUntil)
	d.mu.Unlock()
	if !valid {
		if err := d.refresh(ctx); err != nil {
			return nil, false, err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	all := append(make([]gap.User, 0, len(d.licensed)+len(d.known)), d.licensed...)
	for user, known := range d.known {
		if known.Seen != 0 {
			all = append(all, user)
		}
	}
	return slices.DeleteFunc(gap.SortUsers(all), func(user gap.User) bool {
		seen := d.known[user].Seen
		return seen != 0 && time.Unix(0, seen).Before(since)
	}), d.listed, nil
}

// refresh reads the licensed users, several times if that fails. The error is the context's.
func (d *Directory) refresh(ctx context.Context) error {
	delays := graph.NewBackOff(maxBackoff)
	licensed, err := d.read(ctx)
	for try := 1; err != nil && ctx.Err() == nil && try < listAttempts && !graph.Forbidden(err) && !graph.Unsupported(err); try++ {
		_ = graph.Sleep(ctx, delays.NextBackOff()) // then read fails as well
		licensed, err = d.read(ctx)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	d.listing.Report(err, graph.CodeField(err))
	d.mu.Lock()
	defer d.mu.Unlock()
	d.licensed, d.listed, d.validUntil = licensed, err == nil, time.Now().Add(listTTL)
	return nil
}

// read reads all pages. Only the 16 bytes of each user are kept.
func (d *Directory) read(ctx context.Context) (users []gap.User, err error) {
	for page, err := range d.s.Graph.LicensedUsers(ctx, nil) {
		if err != nil {
			return nil, err
		}
		for i := range page {
			if u, valid := gap.ParseUser(page[i].ID); valid {
				users = append(users, u)
			}
		}
	}
	return slices.Clip(gap.SortUsers(users)), nil
}
