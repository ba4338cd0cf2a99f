package subscription

import (
	"errors"
	"slices"
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
