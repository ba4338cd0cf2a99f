// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// The identity of the emulated tenant. No real tenant has these values.
const (
	demoTenant = "6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10"
	demoClient = "8e460676-ae3f-4b1e-8790-ee0fb5d6148f"
	demoSecret = "demo-secret-of-no-value"
)

const simulateHelp = `Emulate Microsoft Graph and Entra ID for one tenant, an invented company whose users converse with Copilot.

Usage: m365copilot simulate [flags]

The collector subscribes and gets encrypted and signed notifications, as from Microsoft. Its configuration:

  receivers:
    m365_copilot:
      tenant_id: ` + demoTenant + `
      auth:
        client_id: ` + demoClient + `
        client_secret: ` + demoSecret + `
        authority: http://127.0.0.1:8080
      graph:
        endpoint: http://127.0.0.1:8080
      subscription:
        notification_url: https://localhost:8443/graph/notifications
      webhook:
        endpoint: localhost:8443
        tls: {cert_file: DIR/server.crt, key_file: DIR/server.key}   # DIR of -tls-dir

Progress goes to stderr, one line for each event. Exit code 1: it could not run, or with -require-delivery no interaction was acknowledged.

Flags:
`

// options are the values of the flags.
type options struct {
	listen          string
	settings        graphtest.Settings
	tlsDir          string
	turnsPerMinute  float64
	users           int
	seed            uint64
	faults          faultFlag
	reauthorize     time.Duration
	duration        time.Duration
	requireDelivery bool
	// awaitSubscription is whether turns begin with the first subscription.
	awaitSubscription bool
	// history is how much history is made, 0 for none.
	history time.Duration
	// incident is when the ingress breaks, 0 for never, and incidentDuration for how long.
	incident, incidentDuration time.Duration
	// published is the file that lists the interactions; empty for none.
	published string
}

func runSimulate(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseSimulate(args, stdout, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		_, _ = fmt.Fprintf(stderr, "m365copilot simulate: %v\n", err)
		return exitUsage
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	if err := simulate(ctx, o, log); err != nil {
		log.Error("the simulation failed", "error", err)
		return exitFailed
	}
	return exitOK
}

func parseSimulate(args []string, stdout, stderr io.Writer) (options, error) {
	o := options{faults: faultFlag{}}
	flags := flag.NewFlagSet("simulate", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.listen, "listen", "127.0.0.1:8080", "`address` of Graph and Entra ID, plain HTTP")
	flags.StringVar(&o.settings.TenantID, "tenant-id", demoTenant, "`GUID` of the tenant")
	flags.StringVar(&o.settings.ClientID, "client-id", demoClient, "`GUID` of the application")
	flags.StringVar(&o.settings.ClientSecret, "client-secret", demoSecret, "`secret` of the application")
	roles := flags.String("roles", graphtest.RoleReadAll+","+graphtest.RoleUsersReadAll, "granted application `permissions`, separated by commas; "+
		"empty: none")
	flags.StringVar(&o.tlsDir, "tls-dir", "", "`directory` for server.crt and server.key of the collector's webhook; only this certificate is trusted then "+
		"(without it: the system's certificate authorities)")
	flags.Float64Var(&o.turnsPerMinute, "turns-per-minute", 60, "`number` of turns, each a prompt and its answers")
	flags.IntVar(&o.users, "users", 5, "`number` of licensed users, who converse; a quarter of the company is not licensed")
	flags.Uint64Var(&o.seed, "seed", 1, "`number`: the same seed gives the same conversations")
	flags.Var(o.faults, "fault", "`kind=chance` of a fault, with a chance above 0 and up to 1; can be repeated. Kinds: "+faultKinds())
	flags.DurationVar(&o.reauthorize, "reauthorize-every", 15*time.Minute, "`interval` of reauthorizationRequired events; 0: none")
	flags.DurationVar(&o.duration, "duration", 0, "`time` after which the simulation ends; 0: at SIGINT or SIGTERM")
	flags.DurationVar(&o.history, "history", 0, "`time` before now of which the users have a history, at most "+maxHistory.String()+"; 0: none. "+
		"With it they have habits, working hours and apps by their department, also in live turns, and agents; "+
		"the history API then allows "+strconv.Itoa(historyLimit)+" requests a second in place of Graph's 30")
	flags.DurationVar(&o.incident, "incident", 0, "`time` after which the ingress breaks: what is sent to the collector gets 502, and the subscriptions "+
		"are removed without a lifecycle event; 0: never")
	flags.DurationVar(&o.incidentDuration, "incident-duration", time.Minute, "`time` after which the ingress of -incident works again")
	flags.StringVar(&o.published, "published", "", "`file` that gets a JSON line for each interaction, history included, within a second: "+
		"what a backend should have in the end")
	flags.BoolVar(&o.awaitSubscription, "await-subscription", false, "begin the turns once there is a subscription, so that each of them is sent")
	flags.BoolVar(&o.requireDelivery, "require-delivery", false, "exit with 1 if no interaction was acknowledged")

	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		_, _ = fmt.Fprint(stdout, simulateHelp)
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return o, err
	}
	if err != nil {
		return o, fmt.Errorf("%w; -h lists the flags", err)
	}
	o.settings.Roles = split(*roles)
	return o, errors.Join(o.check(flags.Args()), warnRemote(o.listen, stderr))
}

// split splits a list at commas. It never returns nil, since nil stands for the default permissions.
func split(list string) []string {
	return append([]string{}, strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })...)
}

// check reports every invalid flag.
func (o options) check(rest []string) error {
	var problems []error
	if len(rest) > 0 {
		problems = append(problems, fmt.Errorf("unexpected argument %q", rest[0]))
	}
	if o.settings.TenantID == "" || o.settings.ClientID == "" || o.settings.ClientSecret == "" {
		problems = append(problems, errors.New("-tenant-id, -client-id and -client-secret must not be empty"))
	}
	if !(o.turnsPerMinute > 0 && o.turnsPerMinute <= maxTurnsPerMinute) {
		problems = append(problems, fmt.Errorf("-turns-per-minute must be above 0 and at most %d", maxTurnsPerMinute))
	}
	if o.users < 1 || o.users > maxUsers {
		problems = append(problems, fmt.Errorf("-users must be between 1 and %d", maxUsers))
	}
	if o.duration < 0 || o.reauthorize < 0 {
		problems = append(problems, errors.New("-duration and -reauthorize-every must not be negative"))
	}
	return errors.Join(append(problems, o.checkHistory(), o.checkIncident())...)
}

func (o options) checkHistory() error {
	switch {
	case o.history < 0 || o.history > maxHistory:
		return fmt.Errorf("-history must be between 0 and %s", maxHistory)
	case o.history > 0 && o.users > maxUsersWithHistory:
		return fmt.Errorf("-history needs -users of at most %d, since all of it is kept in memory", maxUsersWithHistory)
	}
	return nil
}

func (o options) checkIncident() error {
	if o.incident < 0 || o.incidentDuration <= 0 {
		return errors.New("-incident must not be negative, and -incident-duration must be above 0")
	}
	return nil
}

const (
	maxTurnsPerMinute = 600_000
	maxUsers          = 100_000
	// maxHistory of maxUsersWithHistory are about 400,000 interactions.
	maxHistory          = 2400 * time.Hour
	maxUsersWithHistory = 1000
)

// warnRemote warns of an address that other machines can reach, since any client can make the emulator send requests to a URL
// of its choice. It returns an error if the address is invalid.
func warnRemote(address string, stderr io.Writer) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("-listen must be host:port, like 127.0.0.1:8080: %w", err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		_, _ = fmt.Fprintf(stderr, "m365copilot simulate: warning: %s can be reached from other machines; the emulator has no secrets, "+
			"but it sends requests to any URL that a client subscribes\n", address)
	}
	return nil
}
