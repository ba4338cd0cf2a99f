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
	// maxNamed bounds the users that one log line names.
	maxNamed = 10
	// repeatInterval is the time between two lines of a failure that lasts.
	repeatInterval = time.Hour
)

// retryStates are all that can fail, in the order in which failures are told.
func (m *Manager) retryStates() []*retryState {
	all := make([]*retryState, 0, len(m.resources)+3)
	all = append(all, &m.list, &m.keyConflict)
	for _, r := range m.resources {
		all = append(all, &r.retryState)
	}
	return append(all, &m.orphans)
}

// report logs each distinct failure, again each hour while it lasts, and its end, and passes a change of health on.
func (m *Manager) report() {
	all := m.retryStates()
	m.logFailures(all)
	m.logRecoveries(all)

	var signatures []string
	var failures []error
	for _, s := range all {
		if signature := s.loggedSignature; signature != "" && !slices.Contains(signatures, signature) {
			signatures = append(signatures, signature)
			failures = append(failures, s.failure())
		}
	}
	slices.Sort(signatures)
	if slices.Equal(signatures, m.reported) {
		return
	}
	m.reported = signatures
	m.settings.Status(errors.Join(failures...))
}

// logFailures writes one line for each distinct failure that is new, or was logged an hour ago and lasts, however many
// users it meets.
func (m *Manager) logFailures(all []*retryState) {
	now := time.Now()
	recentlyLogged := map[string]time.Time{}
	for _, s := range all {
		if now.Sub(s.loggedAt) < repeatInterval {
			recentlyLogged[s.loggedSignature] = s.loggedAt
		}
	}
	var order []string
	newFailures := map[string][]*retryState{}
	for _, s := range all {
		signature := s.signature()
		if s.err == nil || signature == s.loggedSignature && now.Sub(s.loggedAt) < repeatInterval {
			continue
		}
		s.loggedSignature, s.loggedOperation, s.loggedAt = signature, s.operation, now
		if at, ok := recentlyLogged[signature]; ok && scopeOf(s.err) != requestScope {
			// Graph being down is told once, and not again for whoever meets it next.
			s.loggedAt = at
			continue
		}
		if newFailures[signature] == nil {
			order = append(order, signature)
		}
		newFailures[signature] = append(newFailures[signature], s)
	}
	for _, signature := range order {
		m.logFailure(newFailures[signature])
	}
}

// logFailure writes the line of a failure that all the given ones have.
func (m *Manager) logFailure(failing []*retryState) {
	s := failing[0]
	level := zapcore.WarnLevel
	if needsOperator(s.err) {
		level = zapcore.ErrorLevel
	}
	code := graph.Code(s.err)
	if _, ok := errors.AsType[*ConflictError](s.err); ok {
		code = string(ReasonConflict)
	}
	if _, ok := errors.AsType[*KeyConflictError](s.err); ok {
		code = "key_conflict"
	}
	m.settings.Logger.Log(level, "subscription fails, will be tried again",
		zap.String("operation", s.operation),
		zap.Strings("for", names(failing)),
		zap.Int("count", len(failing)),
		fieldIfSet("code", code),
		fieldIfSet("status", statusOf(s.err)),
		fieldIfSet("request_id", requestIDOf(s.err)),
		// As text, since a bare number would say no unit.
		zap.Stringer("retry_in", max(0, time.Until(s.retryAt)).Round(time.Millisecond)),
		zap.String("hint", hint(s.err)),
		zap.String("error", s.redactedError()))
}

// fieldIfSet is a field of a log line, and none where it has no value.
func fieldIfSet[T comparable](key string, value T) zap.Field {
	var none T
	if value == none {
		return zap.Skip()
	}
	return zap.Any(key, value)
}

// logRecoveries writes one line for each distinct failure that is over.
func (m *Manager) logRecoveries(all []*retryState) {
	lasting := map[string]bool{}
	var order []string
	over := map[string][]*retryState{}
	for _, s := range all {
		switch {
		case s.err != nil:
			lasting[s.loggedSignature] = true
		case s.loggedSignature != "":
			if over[s.loggedSignature] == nil {
				order = append(order, s.loggedSignature)
			}
			over[s.loggedSignature] = append(over[s.loggedSignature], s)
			s.loggedSignature = ""
		}
	}
	for _, signature := range order {
		if lasting[signature] {
			continue
		}
		m.settings.Logger.Info("subscription failure is over",
			zap.String("operation", over[signature][0].loggedOperation),
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
	list := make([]string, 0, min(len(attempts), maxNamed))
	for _, s := range attempts[:min(len(attempts), maxNamed)] {
		list = append(list, s.name)
	}
	return list
}

// logEvent logs what happened to the subscription of a resource.
func (m *Manager) logEvent(message string, r *resourceState, more ...zap.Field) {
	m.settings.Logger.Info(message, append(m.logFields(r), more...)...)
}

func (m *Manager) logWarning(message string, r *resourceState, more ...zap.Field) {
	m.settings.Logger.Warn(message, append(m.logFields(r), more...)...)
}

func (m *Manager) logFields(r *resourceState) []zap.Field {
	return []zap.Field{
		zap.String("id", r.sub.ID),
		zap.String("for", r.name),
		zap.Time("expiration", r.sub.Expiration),
		zap.String("host", hostOf(m.settings.NotificationURL)),
	}
}

func (m *Manager) logSurplusDeleted(old graph.Subscription) {
	m.settings.Logger.Info("surplus subscription deleted",
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

func (s *retryState) failure() *Failure {
	return &Failure{
		Operation: s.operation,
		Subject:   s.name,
		Err:       s.err,
		text:      fmt.Sprintf("%s (%s): %s", s.operation, s.name, s.redactedError()),
	}
}

// redactedError is the error's text with the user's id, which Graph likes to repeat, taken out.
func (s *retryState) redactedError() string {
	text := s.err.Error()
	if s.userID == "" {
		return text
	}
	return regexp.MustCompile(`(?i)`+regexp.QuoteMeta(s.userID)).ReplaceAllLiteralString(text, s.name)
}

// signature tells distinct failures apart, without what differs at each try. A token that cannot be had is the same
// failure whatever it was for.
func (s *retryState) signature() string {
	if s.err == nil {
		return ""
	}
	if e, ok := errors.AsType[*ConflictError](s.err); ok {
		return "foreign " + e.ID
	}
	if _, ok := errors.AsType[*KeyConflictError](s.err); ok {
		return "key conflict"
	}
	if e, ok := errors.AsType[*graph.TokenError](s.err); ok {
		return "token " + strconv.Itoa(e.Status) + " " + graph.Code(s.err)
	}
	if e, ok := errors.AsType[*graph.Error](s.err); ok {
		// Graph has one code for several failures, such as no license and a full quota.
		return s.operation + " " + strconv.Itoa(e.Status) + " " + e.Code + " " + hint(s.err)
	}
	// The text of a failed connection names ports that change, so its kind must do.
	kind := fmt.Sprintf("%T", rootCause(s.err))
	if errno, ok := errors.AsType[syscall.Errno](s.err); ok {
		kind = errno.Error()
	}
	return s.operation + " " + kind + " " + hint(s.err)
}

func rootCause(err error) error {
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

// explainHandshake adds to Graph's refusal of a creation where the webhook is, if that is what it was refused for.
func (m *Manager) explainHandshake(err error) error {
	answer, failed := graph.HandshakeAnswer(err)
	public, parseErr := url.Parse(m.settings.NotificationURL)
	if !failed || parseErr != nil || m.settings.Webhook.Address == "" {
		return err
	}
	return &HandshakeError{Answer: answer, Path: cmp.Or(public.Path, "/"), Webhook: m.settings.Webhook, Err: err}
}
