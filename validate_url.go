package m365copilotreceiver

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// handshakeParameter is what Graph adds to the notification URL to validate it:
// https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
const handshakeParameter = "validationToken"

func validateNotificationURL(raw string) error {
	const path = "subscription.notification_url"
	if raw == "" { // the history alone is read
		return nil
	}
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.Scheme != "https" {
		return errors.New(path + ": Graph sends to https alone: write a full URL such as https://copilot.example.com/graph/notifications")
	}
	var errs []error
	if u.User != nil || u.Fragment != "" {
		errs = append(errs, errors.New(path+": leave out user name, password and fragment"))
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		errs = append(errs, errors.New(path+": its query can't be decoded, so Graph's validation of the URL would fail: write & between parameters, and %25 for a percent sign, %3B for a semicolon"))
	}
	if query.Has(handshakeParameter) {
		errs = append(errs, errors.New(path+": leave out "+handshakeParameter+": Graph adds it, and what has it is no notification"))
	}
	return errors.Join(append(errs, validatePort(path, u))...)
}

// httpsOrLoopback keeps secrets and tokens off the wire in the clear; an empty URL stands for its default.
func httpsOrLoopback(path, raw string) error {
	if raw == "" {
		return nil
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Hostname() == "" || (u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname()))):
		return fmt.Errorf("%s: write a full https URL; http is for loopback addresses alone", path)
	case u.User != nil || u.Fragment != "":
		return fmt.Errorf("%s: leave out user name, password and fragment", path)
	default:
		return validatePort(path, u)
	}
}

// baseURL is for URLs that the receiver adds a path to. Nothing but the root of a Microsoft host works; a gateway may serve
// below a path of its own. Adds says what the receiver adds.
func baseURL(path, raw, adds string) error {
	if err := httpsOrLoopback(path, raw); err != nil || raw == "" {
		return err
	}
	u, err := url.Parse(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	below := strings.Trim(u.Path, "/")
	switch {
	case u.RawQuery != "" || u.ForceQuery:
		return fmt.Errorf("%s: leave out the query", path)
	case below != "" && isMicrosoft(u.Host):
		return fmt.Errorf("%s: write %s://%s, without %q: the receiver adds %s", path, u.Scheme, u.Host, below, adds)
	default:
		return nil
	}
}

func isMicrosoft(host string) bool {
	return slices.ContainsFunc(graph.Clouds(), func(cloud graph.Cloud) bool {
		return strings.EqualFold(cloud.Endpoint, "https://"+host) || strings.EqualFold(cloud.Authority, "https://"+host)
	})
}

// validatePort takes no port for the scheme's own.
func validatePort(path string, u *url.URL) error {
	if u.Port() == "" {
		return nil
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || port == 0 {
		return fmt.Errorf("%s: write a port from 1 to 65535, not %s", path, u.Port())
	}
	return nil
}

func isLoopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}
