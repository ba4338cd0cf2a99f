// SPDX-License-Identifier: Apache-2.0

package subscription

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// maxNamed bounds the users that one log line names.
const maxNamed = 10

// failures returns what fails, by the kind of its failure. Failures with the same code, of the receiver and of Microsoft, are of
// one kind, however many users they affect.
func (m *Manager) failures() map[string][]*retry {
	kinds := map[string][]*retry{}
	note := func(r *retry) {
		if r.err != nil {
			kind := string(failure.Of(r.err).Code) + " " + graph.Code(r.err)
			kinds[kind] = append(kinds[kind], r)
		}
	}
	for _, r := range m.resources {
		note(&r.retry)
		// Whoever has replaced so often reports the conflict, whether it has the subscription now or the other receiver.
		if r.err == nil && m.keyReplacements[path(r.resource)] >= maxKeyReplacements {
			note(&retry{name: r.name, operation: opReplace, err: errKeyConflict})
		}
	}
	note(&m.outage)
	return kinds
}

// report logs each distinct failure, again each hour while it lasts, and the end of the last one. It calls Status if the failures
// changed.
func (m *Manager) report() {
	failures := m.failures()
	kinds := slices.Sorted(maps.Keys(failures))
	var all []error
	for _, kind := range kinds {
		first := failures[kind][0]
		m.health.ReportKind(kind, first.err, m.failureFields(failures[kind])...)
		all = append(all, fmt.Errorf("%s (%s): %w", first.operation, first.name, first.err))
	}
	if len(kinds) == 0 {
		m.health.Report(nil)
	}
	if !slices.Equal(kinds, m.failing) {
		m.failing = kinds
		m.settings.Status(errors.Join(all...))
	}
}

// failureFields returns the log fields of a failure that all the given ones share.
func (m *Manager) failureFields(failing []*retry) []zap.Field {
	first := failing[0]
	var names []string
	for _, r := range failing[:min(len(failing), maxNamed)] {
		names = append(names, r.name)
	}
	return []zap.Field{
		zap.String("operation", first.operation),
		zap.Strings("for", names),
		zap.Int("count", len(failing)),
		graph.CodeField(first.err),
		// As text, since a number would have no unit.
		zap.Stringer("retry_in", max(0, time.Until(latest(first.next, m.outage.next))).Round(time.Millisecond)),
	}
}

// info logs a change of the subscription of a resource, with a reason if there is one.
func (m *Manager) info(message string, r *resourceState, reason Reason) {
	m.settings.Logger.Info(message, m.changeFields(r, reason)...)
}

// warn is like info for a change after which interactions may be missing.
func (m *Manager) warn(message string, r *resourceState, reason Reason, code failure.Code) {
	m.settings.Logger.Warn(message, append(failure.New(code).Fields(), m.changeFields(r, reason)...)...)
}

// changeFields returns the log fields of a change of the subscription of a resource.
func (m *Manager) changeFields(r *resourceState, reason Reason) []zap.Field {
	fields := []zap.Field{
		zap.String("id", r.sub.ID),
		zap.String("for", r.name),
		zap.Time("expiration", r.sub.Expiration),
		zap.String("host", HostOf(m.settings.NotificationURL)),
	}
	if reason != "" {
		fields = append(fields, zap.String("reason", string(reason)))
	}
	return fields
}

// explainHandshake gives the error of a creation that Graph refused because of its validation request the failure of that.
func (m *Manager) explainHandshake(err error) error {
	answer, failed := graph.HandshakeAnswer(err)
	if !failed {
		return err
	}
	return failure.With(err, m.settings.HandshakeFailure(answer))
}

// HandshakeFailure returns the failure of a validation request to the notification URL, with both paths and the address of the
// webhook in its hint. The answer is the HTTP status that the request got, as Graph spells it, such as NotFound; "" for none.
// https://learn.microsoft.com/graph/change-notifications-delivery-webhooks#notificationurl-validation
func (s Settings) HandshakeFailure(answer string) failure.Failure {
	path, address := s.WebhookPath, s.WebhookAddress
	public, err := url.Parse(s.NotificationURL)
	if err != nil || address == "" {
		return failure.New(failure.NotificationURLUnreachable)
	}
	requested := cmp.Or(public.Path, "/")
	if answer == "" {
		told := failure.New(failure.NotificationURLUnreachable)
		told.Hint += fmt.Sprintf("; Graph requests %q, and the webhook serves %q (webhook.path) on %s (webhook.endpoint)",
			requested, path, address)
		return told
	}
	code := failure.HandshakeRefused
	switch {
	case answer != "NotFound":
	case requested != path:
		code = failure.HandshakePathsDiffer
	default:
		code = failure.HandshakeNotRouted
	}
	return failure.New(code, requested, answer, path, address)
}

// HostOf returns the host of a notification URL and nothing else of it, since the query may contain secrets.
func HostOf(notificationURL string) string {
	// Event Hubs: EventHub:https://namespace.servicebus.windows.net/...
	u, err := url.Parse(strings.TrimPrefix(notificationURL, "EventHub:"))
	if err != nil || u.Host == "" {
		return "unknown"
	}
	return u.Host
}
