package subscription

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// Webhook is where the receiver takes notifications in, for the advice on a notification URL that does not lead there.
type Webhook struct {
	// Path is the URL path that it serves, Address the host:port that it listens on.
	Path, Address string
}

// HandshakeError says that Graph created no subscription, because the notification URL did not answer its validation
// request as it must: https://learn.microsoft.com/graph/change-notifications-delivery-webhooks#notificationurl-validation
type HandshakeError struct {
	// Answer is the HTTP status that Graph got, in its words, such as NotFound; empty where it got none or does not say.
	Answer string
	// Path is that of the notification URL.
	Path    string
	Webhook Webhook
	Err     error
}

func (e *HandshakeError) Error() string { return e.Err.Error() }

// Unwrap returns Graph's own error.
func (e *HandshakeError) Unwrap() error { return e.Err }

// Hint says in one sentence what to do about it, with both paths and the address.
func (e *HandshakeError) Hint() string {
	served := fmt.Sprintf("the webhook serves %q (webhook.path) on %s (webhook.endpoint)", e.Webhook.Path, e.Webhook.Address)
	differ := e.Path != e.Webhook.Path
	switch missing := e.Answer == strings.ReplaceAll(http.StatusText(http.StatusNotFound), " ", ""); {
	case missing && differ:
		return fmt.Sprintf("Make webhook.path that of subscription.notification_url, unless an ingress translates the path: Graph asked for %q and a server answered %s, while %s.",
			e.Path, e.Answer, served)
	case missing:
		return fmt.Sprintf("Make the ingress lead to the webhook and leave the path as it is: Graph asked for %q and a server answered %s, while %s.", e.Path, e.Answer, served)
	case e.Answer != "":
		return fmt.Sprintf("Make the ingress let a POST with a query string through to the webhook, without login and redirect: Graph asked for %q and a server answered with %s, while %s.",
			e.Path, e.Answer, served)
	default:
		return fmt.Sprintf("%s; Graph asks for %q, and %s.", strings.TrimSuffix(graph.Hint(e.Err), "."), e.Path, served)
	}
}

// explained adds to Graph's refusal of a creation where the webhook is, if that is what it was refused for.
func (k *Manager) explained(err error) error {
	answer, failed := graph.HandshakeAnswer(err)
	public, parseErr := url.Parse(k.s.NotificationURL)
	if !failed || parseErr != nil || k.s.Webhook.Address == "" {
		return err
	}
	return &HandshakeError{Answer: answer, Path: cmp.Or(public.Path, "/"), Webhook: k.s.Webhook, Err: err}
}
