package subscription

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

const (
	// mostNamed bounds the users that one log line names.
	mostNamed = 10
	// repeatInterval is the time between two lines of a failure that lasts.
	repeatInterval = time.Hour
)

// retryStates are all that can fail, in the order in which failures are told.
func (k *Manager) retryStates() []*retryState {
	all := make([]*retryState, 0, len(k.resources)+3)
	all = append(all, &k.list, &k.keyConflict)
	for _, w := range k.resources {
		all = append(all, &w.retryState)
	}
	return append(all, &k.orphans)
}

// report logs each distinct failure, again each hour while it lasts, and its end, and passes a change of health on.
func (k *Manager) report() {
	all := k.retryStates()
	k.logFailures(all)
	k.logRecoveries(all)

	var signatures []string
	var failures []error
	for _, a := range all {
		if s := a.logged; s != "" && !slices.Contains(signatures, s) {
			signatures = append(signatures, s)
			failures = append(failures, a.failure())
		}
	}
	slices.Sort(signatures)
	if slices.Equal(signatures, k.reported) {
		return
	}
	k.reported = signatures
	k.s.Status(errors.Join(failures...))
}

// logFailures writes one line for each distinct failure that is new, or was logged an hour ago and lasts, however many
// users it meets.
func (k *Manager) logFailures(all []*retryState) {
	now := time.Now()
	told := map[string]time.Time{}
	for _, a := range all {
		if now.Sub(a.loggedAt) < repeatInterval {
			told[a.logged] = a.loggedAt
		}
	}
	var order []string
	fresh := map[string][]*retryState{}
	for _, a := range all {
		signature := a.signature()
		if a.err == nil || signature == a.logged && now.Sub(a.loggedAt) < repeatInterval {
			continue
		}
		a.logged, a.loggedOf, a.loggedAt = signature, a.operation, now
		if at, ok := told[signature]; ok && scopeOf(a.err) != requestScope {
			// Graph being down is told once, and not again for whoever meets it next.
			a.loggedAt = at
			continue
		}
		if fresh[signature] == nil {
			order = append(order, signature)
		}
		fresh[signature] = append(fresh[signature], a)
	}
	for _, signature := range order {
		k.logFailure(fresh[signature])
	}
}

// logFailure writes the line of a failure that all the given ones have.
func (k *Manager) logFailure(failing []*retryState) {
	a := failing[0]
	level := zapcore.WarnLevel
	if needsOperator(a.err) {
		level = zapcore.ErrorLevel
	}
	code := graph.Code(a.err)
	if _, ok := errors.AsType[*ConflictError](a.err); ok {
		code = string(ReasonConflict)
	}
	if _, ok := errors.AsType[*KeyConflictError](a.err); ok {
		code = "key_conflict"
	}
	k.s.Logger.Log(level, "subscription fails, will be tried again",
		zap.String("operation", a.operation),
		zap.Strings("for", names(failing)),
		zap.Int("count", len(failing)),
		present("code", code),
		present("status", statusOf(a.err)),
		present("request_id", requestIDOf(a.err)),
		// As text, since a bare number would say no unit.
		zap.Stringer("retry_in", max(0, time.Until(a.retryAt)).Round(time.Millisecond)),
		zap.String("hint", hint(a.err)),
		zap.String("error", a.scrubbed()))
}

// present is a field of a log line, and none where it has no value.
func present[T comparable](key string, value T) zap.Field {
	var none T
	if value == none {
		return zap.Skip()
	}
	return zap.Any(key, value)
}

// logRecoveries writes one line for each distinct failure that is over.
func (k *Manager) logRecoveries(all []*retryState) {
	lasting := map[string]bool{}
	var order []string
	over := map[string][]*retryState{}
	for _, a := range all {
		switch {
		case a.err != nil:
			lasting[a.logged] = true
		case a.logged != "":
			if over[a.logged] == nil {
				order = append(order, a.logged)
			}
			over[a.logged] = append(over[a.logged], a)
			a.logged = ""
		}
	}
	for _, signature := range order {
		if lasting[signature] {
			continue
		}
		k.s.Logger.Info("subscription failure is over",
			zap.String("operation", over[signature][0].loggedOf),
			zap.Strings("for", names(over[signature])),
			zap.Int("count", len(over[signature])))
	}
}

// needsOperator tells whether waiting alone is unlikely to help.
func needsOperator(err error) bool {
	if _, ok := errors.AsType[*ConflictError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*KeyConflictError](err); ok {
		return true
	}
	if e, ok := errors.AsType[*graph.ProxyError](err); ok {
		return e.Status >= 400 && e.Status < 500
	}
	if e, ok := errors.AsType[*graph.TokenError](err); ok {
		return e.Status >= 400 && e.Status < 500 && e.Status != 429
	}
	status := statusOf(err)
	return status >= 400 && status < 500 && status != 429
}

func names(attempts []*retryState) []string {
	list := make([]string, 0, min(len(attempts), mostNamed))
	for _, a := range attempts[:min(len(attempts), mostNamed)] {
		list = append(list, a.name)
	}
	return list
}

// event logs what happened to the subscription of a resource.
func (k *Manager) event(message string, w *resourceState, more ...zap.Field) {
	k.s.Logger.Info(message, append(k.fields(w), more...)...)
}

func (k *Manager) warn(message string, w *resourceState, more ...zap.Field) {
	k.s.Logger.Warn(message, append(k.fields(w), more...)...)
}

func (k *Manager) fields(w *resourceState) []zap.Field {
	return []zap.Field{
		zap.String("id", w.sub.ID),
		zap.String("for", w.name),
		zap.Time("expiration", w.sub.Expiration),
		zap.String("host", hostOf(k.s.NotificationURL)),
	}
}

func (k *Manager) eventSurplus(old graph.Subscription) {
	k.s.Logger.Info("surplus subscription deleted",
		zap.String("id", old.ID),
		zap.Time("expiration", old.Expiration),
		zap.String("host", hostOf(old.NotificationURL)))
}

func reasonField(r Reason) zap.Field { return zap.String("reason", string(r)) }

// Failure is what Settings.Status gets: what could not be done, and what to do about it. It names no user.
type Failure struct {
	// Operation is list, create, renew, delete or replace.
	Operation string
	// Subject is list, tenant, surplus, notification_url, or a user by its place in Settings.Resources: users[3].
	Subject string
	// Err is the cause. Unlike Error, its own text may name a user.
	Err error

	text string
}

func (f *Failure) Error() string { return f.text + ". " + hint(f.Err) }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

func (a *retryState) failure() *Failure {
	return &Failure{
		Operation: a.operation,
		Subject:   a.name,
		Err:       a.err,
		text:      fmt.Sprintf("%s (%s): %s", a.operation, a.name, a.scrubbed()),
	}
}

// scrubbed is the error's text with the user's id, which Graph likes to repeat, taken out.
func (a *retryState) scrubbed() string {
	text := a.err.Error()
	if a.userID == "" {
		return text
	}
	return regexp.MustCompile(`(?i)`+regexp.QuoteMeta(a.userID)).ReplaceAllLiteralString(text, a.name)
}

// signature tells distinct failures apart, without what differs at each try. A token that cannot be had is the same
// failure whatever it was for.
func (a *retryState) signature() string {
	if a.err == nil {
		return ""
	}
	if e, ok := errors.AsType[*ConflictError](a.err); ok {
		return "foreign " + e.ID
	}
	if _, ok := errors.AsType[*KeyConflictError](a.err); ok {
		return "key conflict"
	}
	if e, ok := errors.AsType[*graph.TokenError](a.err); ok {
		return "token " + strconv.Itoa(e.Status) + " " + graph.Code(a.err)
	}
	if e, ok := errors.AsType[*graph.Error](a.err); ok {
		// Graph has one code for several failures, such as no license and a full quota.
		return a.operation + " " + strconv.Itoa(e.Status) + " " + e.Code + " " + hint(a.err)
	}
	// The text of a failed connection names ports that change, so its kind must do.
	kind := fmt.Sprintf("%T", root(a.err))
	if errno, ok := errors.AsType[syscall.Errno](a.err); ok {
		kind = errno.Error()
	}
	return a.operation + " " + kind + " " + hint(a.err)
}

func root(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

func hint(err error) string {
	if e, ok := errors.AsType[*ConflictError](err); ok {
		return e.Hint()
	}
	if e, ok := errors.AsType[*KeyConflictError](err); ok {
		return e.Hint()
	}
	if e, ok := errors.AsType[*HandshakeError](err); ok {
		return e.Hint()
	}
	return graph.Hint(err)
}

// requestIDOf returns the id by which Microsoft's support finds the request, "" where there is none.
func requestIDOf(err error) string {
	if e, ok := errors.AsType[*graph.Error](err); ok {
		return e.RequestID
	}
	return ""
}

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
