// SPDX-License-Identifier: Apache-2.0

// Package doctor checks, without changing anything, whether a receiver with a given configuration can do its work: its configuration,
// the network, its credentials and permissions, the path from Microsoft Graph to the webhook, and its storage.
package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"

	m365copilotreceiver "github.com/otelcopilot/m365copilotreceiver"
	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/receiver"
)

// callTimeout is how long one request may take, so that what does not answer leaves time for the other checks.
const callTimeout = 4 * time.Second

// Settings says what to check.
type Settings struct {
	// URIs are the configurations, merged in order: paths or URIs as in --config of the collector.
	URIs []string
	// Timeout is the time for all checks. What is not checked by then is skipped, which fails.
	Timeout time.Duration
	// RootCAs must have issued the certificate of the notification URL, nil for those that the system trusts.
	RootCAs *x509.CertPool
}

// Run makes all checks once. Nothing is changed, neither in the tenant nor on disk.
func Run(ctx context.Context, s Settings) Report {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	targets, unreadable := load(ctx, s.URIs)
	if len(unreadable) > 0 {
		return Report{Instances: []Instance{{Groups: []Group{{Name: "configuration", Checks: unreadable}}}}}
	}
	instances := make([]Instance, len(targets))
	check := func(i int) {
		defer targets[i].close(ctx)
		targets[i].roots = s.RootCAs
		instances[i] = targets[i].run(ctx)
	}
	// All at the same time, so that each has the whole timeout.
	var others sync.WaitGroup
	for i := 1; i < len(targets); i++ {
		others.Go(func() { check(i) })
	}
	check(0)
	others.Wait()
	return Report{Instances: instances}
}

// target is one receiver of the configuration, with what earlier checks learned for later ones.
type target struct {
	id component.ID
	// collector is the configuration that the receiver is in.
	collector *collectorConfig
	// configuration holds the checks of the configuration. If the receiver can't be built of it, config is nil, and all other checks are
	// skipped.
	configuration []Check
	config        *m365copilotreceiver.Config
	settings      receiver.Settings
	// extensions are those of the configuration that this program knows and that the receiver needs.
	extensions map[component.ID]component.Component
	clients    *graph.Clients
	// withoutClients says why Graph can't be called, empty if it can: then clients have no credentials.
	withoutClients string
	// roots are Settings.RootCAs.
	roots *x509.CertPool

	// loginReached and graphReached say that the services answer, and tokenIssued that there is an access token or an
	// authenticator extension that has one.
	loginReached, graphReached, tokenIssued bool
	// roles are the application permissions of the token, nil if it is not known.
	roles []string
	// users are some users with a license, nil if the directory can't be read.
	users []string
	// stored is what a copy of the storage holds, nil if there is none that can be read.
	stored *receiver.Stored
}

// run makes the checks in an order in which those that others depend on come first.
func (t *target) run(ctx context.Context) Instance {
	const wrongConfig = "the receiver's configuration is wrong"
	instance := Instance{ID: t.id.String(), Groups: []Group{{Name: "configuration", Checks: t.configuration}}}
	storage := []Check{skipped(wrongConfig)}
	if t.config != nil {
		storage = t.checkStorage(ctx) // what it holds is needed before
	}
	cutShort := false
	for _, g := range []struct {
		name  string
		calls bool // whether Graph is called with credentials
		check func(context.Context) []Check
	}{
		{"network", false, t.checkNetwork},
		{"token", true, t.checkToken},
		{"permissions", true, t.checkPermissions},
		{"licenses", true, t.checkLicenses},
		{"credentials", true, t.checkCredentials},
		{"encryption", false, t.checkEncryption},
		{"notification URL", false, t.checkNotificationURL},
		{"subscriptions", true, t.checkSubscriptions},
		{"history", true, t.checkHistory},
	} {
		var checks []Check
		switch {
		case t.config == nil:
			checks = []Check{skipped(wrongConfig)}
		case ctx.Err() != nil && !cutShort: // else nothing that fails might be left, and all seem well
			cutShort = true
			checks = []Check{bad(Fail, failure.New(failure.ChecksCutShort), "no time was left for this check and those that follow")}
		case ctx.Err() != nil:
			checks = []Check{skipped("no time was left")}
		case g.calls && t.withoutClients != "":
			checks = []Check{skipped("%s", t.withoutClients)}
		default:
			checks = g.check(ctx)
		}
		instance.Groups = append(instance.Groups, Group{Name: g.name, Checks: checks})
	}
	instance.Groups = append(instance.Groups, Group{Name: "storage", Checks: storage})
	return instance
}

func ok(found string, args ...any) Check { return Check{Mark: OK, Found: fmt.Sprintf(found, args...)} }

func skipped(reason string, args ...any) Check {
	return Check{Mark: Skip, Found: fmt.Sprintf(reason, args...)}
}

// bad returns a check with a failure.
func bad(m Mark, f failure.Failure, found string, args ...any) Check {
	return Check{Mark: m, Code: f.Code, Hint: f.Hint, Found: oneLine(fmt.Sprintf(found, args...))}
}

// failed returns the check of an error with its failure.
func failed(m Mark, err error, doing string, args ...any) Check {
	return bad(m, failure.Of(err), "%s: %v", fmt.Sprintf(doing, args...), err)
}

// oneLine puts a text on one line.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// call limits one request.
func call(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, callTimeout, errNoAnswer)
}

var errNoAnswer = errors.New("no answer within " + callTimeout.String())

// noTelemetry drops the measurements of the clients.
type noTelemetry struct{}

func (noTelemetry) GraphRequest(context.Context, string, int, time.Duration) {}
func (noTelemetry) Throttled(context.Context, time.Duration)                 {}
func (noTelemetry) TokenRefresh(context.Context, error)                      {}
