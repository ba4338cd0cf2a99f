// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelcopilot/m365copilotreceiver/internal/record"
)

// Logs returns one event for each record, in order. All records are of one tenant, which is the resource. Events are described in
// https://opentelemetry.io/docs/specs/semconv/general/events/. Without records the logs are empty.
func Logs(scope Scope, records []record.Record) plog.Logs {
	logs := plog.NewLogs()
	if len(records) == 0 {
		return logs
	}
	events := appendEvents(logs, scope, records[0].TenantID, len(records))
	for i := range records {
		fillEvent(events.AppendEmpty(), &records[i])
	}
	return logs
}

// appendEvents appends the resource of a tenant, and returns its events, none so far, with room for a number of them.
func appendEvents(logs plog.Logs, scope Scope, tenantID string, count int) plog.LogRecordSlice {
	resource := logs.ResourceLogs().AppendEmpty()
	resource.SetSchemaUrl(schemaURL)
	fillResource(resource.Resource(), tenantID)
	scoped := resource.ScopeLogs().AppendEmpty()
	scope.fill(scoped.Scope())
	events := scoped.LogRecords()
	events.EnsureCapacity(count)
	return events
}

// maxAttributes is the number of attributes of an event that has all of them, but for those of putPerson.
const maxAttributes = 30

func fillEvent(event plog.LogRecord, r *record.Record) {
	event.SetTimestamp(pcommon.NewTimestampFromTime(r.CreatedAt))
	event.SetObservedTimestamp(pcommon.NewTimestampFromTime(r.ReceivedAt))
	event.SetSeverityNumber(plog.SeverityNumberInfo)
	event.SetEventName(eventName)
	event.Body().SetStr(r.Body)

	attributes := event.Attributes()
	capacity := maxAttributes
	if r.Person != (record.Person{}) {
		capacity += personAttributes
	}
	attributes.EnsureCapacity(capacity)
	putInteraction(attributes, r)
	putContent(attributes, r)
	putString(attributes, attrUserID, r.UserID)
	putString(attributes, attrUserSource, r.UserSource)
	putPerson(attributes, r.Person)
	attributes.PutStr(attrProviderName, providerName)
	attributes.PutStr(attrOperationName, operationName)
	putString(attributes, attrConversationID, r.ConversationID)
	putString(attributes, attrResponseID, r.ResponseID)
	putString(attributes, attrAgentID, r.AgentID)
	putString(attributes, attrAgentName, r.AgentName)
}

func putInteraction(attributes pcommon.Map, r *record.Record) {
	putString(attributes, attrLogRecordUID, r.UID)
	putString(attributes, attrInteractionID, r.InteractionID)
	putString(attributes, attrInteractionType, r.Type)
	putString(attributes, attrInteractionETag, r.ETag)
	putString(attributes, attrRequestID, r.RequestID)
	putString(attributes, attrConversationType, r.ConversationType)
	putString(attributes, attrLocale, r.Locale)
	putString(attributes, attrAppClass, r.AppClass)
	putString(attributes, attrAppName, r.AppName)
	putString(attributes, attrChangeType, r.Change)
	putString(attributes, attrSource, r.Source)
	if r.Delay != record.UnknownDelay {
		attributes.PutDouble(attrIngestionDelay, r.Delay.Seconds())
	}
	putString(attributes, attrTurnID, r.TurnID)
}

func putContent(attributes pcommon.Map, r *record.Record) {
	attributes.PutBool(attrContentCaptured, r.Captured)
	attributes.PutInt(attrContentLength, int64(r.Length))
	attributes.PutInt(attrAttachmentCount, int64(r.Attachments))
	attributes.PutInt(attrLinkCount, int64(r.Links))
	attributes.PutInt(attrMentionCount, int64(r.Mentions))
	attributes.PutInt(attrContextCount, int64(r.Contexts))
	putStrings(attributes, attrContextTypes, r.ContextTypes)
	putStrings(attributes, attrAgents, r.Agents)
	if len(r.References) == 0 {
		return
	}
	references := attributes.PutEmptySlice(attrReferences)
	references.EnsureCapacity(len(r.References))
	for _, reference := range r.References {
		value := references.AppendEmpty().SetEmptyMap()
		value.PutStr("kind", reference.Kind)
		putString(value, "name", reference.Name)
		putString(value, "url", reference.URL)
		putString(value, "type", reference.Type)
	}
}
