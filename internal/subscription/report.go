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

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/health"
)

const (
	// maxNamed bounds the users that one log line names.
	maxNamed = 10
)

// retryStates returns the states of everything that can fail, in the order in which failures are reported.
func (m *Manager) retryStates() []*retryState {
	all := make([]*retryState, 0, len(m.resources)+3)
	all = append(all, &m.list, &m.keyConflict)
	for _, r := range m.resources {
		all = append(all, &r.retryState)
	}
	return append(all, &m.orphans)
}

// report logs each distinct failure, again each hour while it persists, and its end. It calls Status if the failures changed.
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

// logFailures logs one line for each distinct failure that is new or was logged an hour ago, however many users it affects.
func (m *Manager) logFailures(all []*retryState) {
	now := time.Now()
	recentlyLogged := map[string]time.Time{}
	for _, s := range all {
		if now.Sub(s.loggedAt) < health.RepeatInterval {
			recentlyLogged[s.loggedSignature] = s.loggedAt
		}
	}
	var order []string
	newFailures := map[string][]*retryState{}
	for _, s := range all {
		signature := s.signature()
		if s.err == nil || signature == s.loggedSignature && now.Sub(s.loggedAt) < health.RepeatInterval {
			continue
		}
		s.loggedSignature, s.loggedOperation, s.loggedAt = signature, s.operation, now
		if at, ok := recentlyLogged[signature]; ok && scopeOf(s.err) != requestScope {
			// An outage of Graph is logged once, and not again for each resource that it affects later.
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

// logFailure logs one line for a failure that all the given states share.
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
		// As text, since a number would have no unit.
		zap.Stringer("retry_in", max(0, time.Until(s.retryAt)).Round(time.Millisecond)),
		zap.String("hint", hint(s.err)),
		zap.String("error", s.redactedError()))
}

// fieldIfSet returns a log field, or none if the value is zero.
func fieldIfSet[T comparable](key string, value T) zap.Field {
	var none T
	if value == none {
		return zap.Skip()
	}
	return zap.Any(key, value)
}

// logRecoveries logs one line for each distinct failure that has ended.
func (m *Manager) logRecoveries(all []*retryState) {
	persisting := map[string]bool{}
	var order []string
	ended := map[string][]*retryState{}
	for _, s := range all {
		switch {
		case s.err != nil:
			persisting[s.loggedSignature] = true
		case s.loggedSignature != "":
			if ended[s.loggedSignature] == nil {
				order = append(order, s.loggedSignature)
			}
			ended[s.loggedSignature] = append(ended[s.loggedSignature], s)
			s.loggedSignature = ""
		}
	}
	for _, signature := range order {
		if persisting[signature] {
			continue
		}
		m.settings.Logger.Info("subscription failure is over",
			zap.String("operation", ended[signature][0].loggedOperation),
			zap.Strings("for", names(ended[signature])),
			zap.Int("count", len(ended[signature])))
	}
}

// needsOperator reports whether the failure is unlikely to end by itself.
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

func names(states []*retryState) []string {
	list := make([]string, 0, min(len(states), maxNamed))
	for _, s := range states[:min(len(states), maxNamed)] {
		list = append(list, s.name)
	}
	return list
}

// logEvent logs a change of the subscription of a resource.
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

// Failure is an error passed to Settings.Status: the operation that failed, and a hint. Its text names no user.
type Failure struct {
	// Operation is list, create, renew, delete or replace.
	Operation string
	// Subject is list, tenant, surplus, notification_url, or a user by the index in Settings.Resources: users[3].
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

// redactedError returns the error's text without the user's id, which Graph may repeat.
func (s *retryState) redactedError() string {
	text := s.err.Error()
	if s.userID == "" {
		return text
	}
	return regexp.MustCompile(`(?i)`+regexp.QuoteMeta(s.userID)).ReplaceAllLiteralString(text, s.name)
}

// signature identifies a distinct failure by what does not vary between attempts. A failed token request is the same failure
// for every operation.
func (s *retryState) signature() string {
	if s.err == nil {
		return ""
	}
	if e, ok := errors.AsType[*ConflictError](s.err); ok {
		return "conflict " + e.ID
	}
	if _, ok := errors.AsType[*KeyConflictError](s.err); ok {
		return "key conflict"
	}
	if e, ok := errors.AsType[*graph.TokenError](s.err); ok {
		return "token " + strconv.Itoa(e.Status) + " " + graph.Code(s.err)
	}
	if e, ok := errors.AsType[*graph.Error](s.err); ok {
		// Graph uses one code for several failures, such as a missing license and an exhausted quota.
		return s.operation + " " + strconv.Itoa(e.Status) + " " + e.Code + " " + hint(s.err)
	}
	// The text of a failed connection contains ports that vary, so the type of the error is used.
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
	return failure.Of(err).Hint
}

// requestIDOf returns the id by which Microsoft support finds the request, or "" if there is none.
func requestIDOf(err error) string {
	if e, ok := errors.AsType[*graph.Error](err); ok {
		return e.RequestID
	}
	return ""
}

// Webhook is the listener of the receiver. Hints about a notification URL that does not lead to it contain its address.
type Webhook struct {
	// Path is the URL path that it serves, Address the host:port on which it listens.
	Path, Address string
}

// HandshakeError means that Graph created no subscription because the notification URL did not answer its validation request
// as required: https://learn.microsoft.com/graph/change-notifications-delivery-webhooks#notificationurl-validation
type HandshakeError struct {
	// Answer is the HTTP status that Graph received, as Graph spells it, such as NotFound; empty if it received none or does
	// not name it.
	Answer string
	// Path is the path of the notification URL.
	Path    string
	Webhook Webhook
	Err     error
}

func (e *HandshakeError) Error() string { return e.Err.Error() }

// Unwrap returns the error of Graph.
func (e *HandshakeError) Unwrap() error { return e.Err }

// Hint returns one sentence with a suggested fix, both paths and the address.
func (e *HandshakeError) Hint() string {
	served := fmt.Sprintf("the webhook serves %q (webhook.path) on %s (webhook.endpoint)", e.Webhook.Path, e.Webhook.Address)
	differ := e.Path != e.Webhook.Path
	switch missing := e.Answer == strings.ReplaceAll(http.StatusText(http.StatusNotFound), " ", ""); {
	case missing && differ:
		return fmt.Sprintf("Make webhook.path equal to the path of subscription.notification_url, unless an ingress rewrites the path: Graph requested %q and a server answered with %s, while %s.",
			e.Path, e.Answer, served)
	case missing:
		return fmt.Sprintf("Make the ingress route to the webhook and keep the path: Graph requested %q and a server answered with %s, while %s.", e.Path, e.Answer, served)
	case e.Answer != "":
		return fmt.Sprintf("Make the ingress let a POST with a query string through to the webhook, without login and redirect: Graph requested %q and a server answered with %s, while %s.",
			e.Path, e.Answer, served)
	default:
		return fmt.Sprintf("%s; Graph requests %q, and %s.", failure.Of(e.Err).Hint, e.Path, served)
	}
}

// explainHandshake adds the address of the webhook to a creation that Graph refused because the handshake failed.
func (m *Manager) explainHandshake(err error) error {
	answer, failed := graph.HandshakeAnswer(err)
	public, parseErr := url.Parse(m.settings.NotificationURL)
	if !failed || parseErr != nil || m.settings.Webhook.Address == "" {
		return err
	}
	return &HandshakeError{Answer: answer, Path: cmp.Or(public.Path, "/"), Webhook: m.settings.Webhook, Err: err}
}
