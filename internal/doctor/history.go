// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

const (
	// historyLength is the time whose history is read.
	historyLength = time.Hour
	// maxUsers is how many users are tried if some have no license, or are denied.
	maxUsers = 3
)

// checkHistory reads the history of one user. What it gets is dropped unread.
func (t *target) checkHistory(ctx context.Context) []Check {
	switch {
	case t.settings.History.Rules.Disabled:
		return []Check{skipped("history.enabled is false")}
	case !t.graphReached:
		return []Check{skipped("Microsoft Graph was not reached")}
	case !t.tokenIssued:
		return []Check{skipped("there is no access token")}
	}
	users := t.historyUsers()
	if len(users) == 0 {
		return []Check{skipped("no user is known yet: one in history.users would be tried")}
	}
	ctx, cancel := call(ctx)
	defer cancel()
	now := t.clients.Graph.Now()
	var err error
	denied := 0
	for _, user := range users {
		_, err = t.clients.Graph.History(ctx, user, now.Add(-historyLength), now, "")
		switch {
		case err == nil:
			return []Check{ok("the history of one user can be read")}
		case graph.Forbidden(err): // the permission is missing only if that is so for every user
			denied++
		case !graph.Unlicensed(err):
			return []Check{failed(t.withoutHistory(err), err, "one user")}
		}
	}
	if denied == len(users) {
		return []Check{failed(t.withoutHistory(err), err, "one user")}
	}
	return []Check{bad(Warn, failure.Of(err), "the users that were tried, %d, have no history: %v", len(users), err)}
}

// historyUsers returns the first users whose history the receiver would read.
func (t *target) historyUsers() []string {
	users := t.users
	from := t.settings.History.Users
	if len(from) == 0 && len(users) == 0 && t.stored != nil {
		from = t.stored.Users
	}
	if len(from) > 0 {
		users = nil
		for _, user := range from[:min(maxUsers, len(from))] {
			users = append(users, user.String())
		}
	}
	return users[:min(maxUsers, len(users))]
}

// withoutHistory returns how bad it is that the history can't be read: notifications need the same permission, and nothing else of it.
func (t *target) withoutHistory(err error) Mark {
	if len(t.settings.Subscription.Resources) > 0 && !graph.Forbidden(err) {
		return Warn
	}
	return Fail
}
