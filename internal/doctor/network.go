// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
)

// A clock that is wrong by more than clockTolerance is reported. From maxClockError on validation tokens and assertions are refused.
const clockTolerance, maxClockError = time.Minute, 5 * time.Minute

// service is a service of Microsoft that the receiver calls.
type service struct {
	// address is requested without credentials, and key is its configuration key.
	address, key string
	// reached is set if the service answers.
	reached *bool
}

// services returns the services that the receiver needs. Signing keys and tokens come from the same host unless auth.token_url names
// another one; that one answers a GET with an error, which is an answer. What an authenticator extension calls is not known.
func (t *target) services() []service {
	// The metadata of Graph is public, while its root redirects: https://learn.microsoft.com/graph/traverse-the-graph
	microsoftGraph := service{t.settings.Graph.Endpoint + "/v1.0/$metadata", "graph.endpoint", &t.graphReached}
	keys := service{t.settings.JWKSURL, "auth.authority", &t.loginReached}
	if c := t.settings.Credential; c != nil && !strings.EqualFold(hostOf(c.TokenURL), hostOf(keys.address)) {
		keys.reached = new(bool)
		return []service{{c.TokenURL, "auth.token_url", &t.loginReached}, keys, microsoftGraph}
	}
	return []service{keys, microsoftGraph}
}

func hostOf(address string) string {
	if u, err := url.Parse(address); err == nil {
		return u.Host
	}
	return ""
}

// checkNetwork requests each service once, all at the same time, and compares their clocks with this one.
func (t *target) checkNetwork(ctx context.Context) []Check {
	services := t.services()
	checks, ahead := make([]Check, len(services)), make([]*time.Duration, len(services))
	var all sync.WaitGroup
	for i, s := range services {
		all.Go(func() { checks[i], ahead[i] = t.reach(ctx, s) })
	}
	all.Wait()
	return append(checks, checkClock(ahead))
}

// reach requests a service. It also returns by how much the clock of this machine is ahead of that of the service, nil if not known.
func (t *target) reach(ctx context.Context, s service) (Check, *time.Duration) {
	ctx, cancel := call(ctx)
	defer cancel()
	name := hostOf(s.address)
	if proxy := t.clients.Proxy(s.address); proxy != "" {
		name += " through the proxy " + proxy
	}
	date, err := t.clients.Reach(ctx, s.address, s.key)
	if err != nil {
		return failed(Fail, err, "%s", name), nil
	}
	*s.reached = true
	if date.IsZero() {
		return ok("%s answers", name), nil
	}
	// A Date is cut to the second: on average it is half a second old.
	return ok("%s answers", name), new(time.Since(date.Add(time.Second / 2)).Round(time.Second))
}

// checkClock judges the clock of this machine by how far it is ahead of others. The smallest difference counts, since an answer from
// the cache of a proxy has an old date.
func checkClock(ahead []*time.Duration) Check {
	var smallest *time.Duration
	for _, d := range ahead {
		if d != nil && (smallest == nil || d.Abs() < smallest.Abs()) {
			smallest = d
		}
	}
	if smallest == nil {
		return skipped("the clock was not checked: no service sent its time")
	}
	direction := "ahead of"
	if *smallest < 0 {
		direction = "behind"
	}
	switch wrong := smallest.Abs(); {
	case wrong > maxClockError:
		return bad(Fail, failure.New(failure.ClockWrong), "the clock is %s %s Microsoft's, so tokens are refused", wrong, direction)
	case wrong > clockTolerance:
		return bad(Warn, failure.New(failure.ClockWrong), "the clock is %s %s Microsoft's", wrong, direction)
	case wrong > time.Second: // the precision of a Date
		return ok("the clock is %s %s Microsoft's", wrong, direction)
	default:
		return ok("the clock is right")
	}
}
