package backfill

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/health"
)

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

// directory lists the licensed users of the tenant. Only Run uses it.
type directory struct {
	graph    Graph
	throttle *throttle
	health   health.Part

	users   []gap.User // in order
	listed  time.Time
	retryAt time.Time
}

func newDirectory(s Settings, t *throttle) *directory {
	return &directory{graph: s.Graph, throttle: t, health: health.Part{
		Logger: s.Logger, Failing: "directory can't be read, history is only read for users already seen, gaps stay open for the others",
		Recovered: "directory can be read again",
	}}
}

// fresh reports whether the list is new enough.
func (d *directory) fresh() bool { return !d.listed.IsZero() && time.Since(d.listed) < directoryTTL }

// list returns the licensed users in order; known is false if they can't be read before retryAt. It returns the context's
// error.
func (d *directory) list(ctx context.Context) (users []gap.User, known bool, err error) {
	if d.fresh() {
		return d.users, true, nil
	}
	d.users = nil
	if time.Now().Before(d.retryAt) {
		return nil, false, nil
	}
	for try := 1; ; try++ {
		users, err := d.read(ctx)
		if err == nil {
			d.users, d.listed = users, time.Now()
			d.health.Report(nil)
			return users, true, nil
		}
		if ctx.Err() != nil {
			return nil, false, ctx.Err()
		}
		lasting := classify(err) != broken
		if lasting || try == directoryAttempts {
			d.retryAt = time.Now().Add(maxPause)
			if lasting {
				d.retryAt = time.Now().Add(directoryRetry)
			}
			reportFailure(&d.health, denied, err)
			return nil, false, nil
		}
		if err := sleep(ctx, backoff(try, time.Minute)); err != nil {
			return nil, false, err
		}
	}
}

// read reads all pages. Only the 16 bytes of each user are kept.
func (d *directory) read(ctx context.Context) ([]gap.User, error) {
	var users []gap.User
	err := allPages(maxUserPages, func(next string) (string, error) {
		var page graph.UserPage
		err := d.throttle.do(ctx, false, func() (err error) {
			page, err = d.graph.LicensedUsers(ctx, next)
			return err
		})
		for _, id := range page.IDs {
			if u, valid := gap.ParseUser(id); valid {
				users = append(users, u)
			}
		}
		return page.Next, err
	})
	return slices.Clip(sortUsers(users)), err
}

var errEndless = errors.New("the list has too many pages, or its links form a cycle")

// allPages reads pages until one has no link to the next.
func allPages(limit int, read func(next string) (string, error)) error {
	next, seen := "", map[string]bool{}
	for range limit {
		var err error
		if next, err = read(next); err != nil || next == "" {
			return err
		}
		if seen[next] {
			return errEndless
		}
		seen[next] = true
	}
	return errEndless
}

// sortUsers returns the users in order, without duplicates. It reuses the slice.
func sortUsers(users []gap.User) []gap.User {
	slices.SortFunc(users, gap.User.Compare)
	return slices.Compact(users)
}
