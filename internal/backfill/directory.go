package backfill

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

const (
	// directoryFresh is how long a list of users is used.
	directoryFresh = 15 * time.Minute
	// directoryRetry is the time between two tries where the directory may not be read.
	directoryRetry = time.Hour
	// directoryTries is how often in a row reading the list may break before the users already seen must do.
	directoryTries = 5
	// mostUserPages bounds the list of users: Graph sends up to 999 on a page.
	mostUserPages = 5_000
)

var errEndless = errors.New("the list does not end, or links back to itself")

// directory knows the licensed users of the tenant. It belongs to Run.
type directory struct {
	graph    Graph
	throttle *throttle
	logger   *zap.Logger

	users   []user // sorted
	listed  time.Time
	retryAt time.Time
	// toldAt is when the last failure was logged; zero while there is none.
	toldAt time.Time
}

// fresh tells whether the list is there and new enough to be used.
func (d *directory) fresh(now time.Time) bool {
	return !d.listed.IsZero() && now.Sub(d.listed) < directoryFresh
}

// list returns the licensed users. False means that they are not known now, and will not be before retryAt. The error is
// that of the context.
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
		if forbidden || try == directoryTries {
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
	for range mostUserPages {
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

// page reads one page, however long Graph asks to wait for it.
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
		d.retryAt = time.Now().Add(longestRest)
	}
	if time.Since(d.toldAt) < repeatInterval {
		return
	}
	d.toldAt = time.Now()
	d.logger.Warn("directory can't be read, history is read for users already seen alone and stays open for the others",
		present("code", graph.Code(err)), zap.String("hint", graph.Hint(err)), zap.String("error", describe(err)))
}

func (d *directory) recovered(users int) {
	if !d.toldAt.IsZero() {
		d.toldAt = time.Time{}
		d.logger.Info("directory can be read again", zap.Int("users", users))
	}
}
