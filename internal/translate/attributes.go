package translate

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
)

// schemaURL names the version of the semantic conventions that the names below come from. It is the last one with
// gen_ai: https://github.com/open-telemetry/semantic-conventions/pull/3696 moved these to a repository of their own.
const schemaURL = semconv.SchemaURL

// eventName is the name of every record's event.
const eventName = "microsoft.copilot.interaction"

// Resource attributes, and the name of the service that the interactions are with.
const (
	attrServiceName       = string(semconv.ServiceNameKey)
	attrServiceInstanceID = string(semconv.ServiceInstanceIDKey)
	attrTenantID          = "microsoft.tenant.id"

	serviceName = "microsoft-365-copilot"
)

// Attributes that the semantic conventions name.
const (
	attrLogRecordUID   = string(semconv.LogRecordUIDKey)
	attrUserID         = string(semconv.UserIDKey)
	attrProviderName   = string(semconv.GenAIProviderNameKey)
	attrOperationName  = string(semconv.GenAIOperationNameKey)
	attrConversationID = string(semconv.GenAIConversationIDKey)
	attrAgentID        = string(semconv.GenAIAgentIDKey)
	attrAgentName      = string(semconv.GenAIAgentNameKey)
	attrResponseID     = string(semconv.GenAIResponseIDKey)

	providerName  = "microsoft.copilot"
	operationName = "invoke_agent"
)

// Attributes of Microsoft 365 Copilot, under the provider's name as the naming rules of the conventions ask:
// https://opentelemetry.io/docs/specs/semconv/general/naming/
const (
	attrInteractionID    = "microsoft.copilot.interaction.id"
	attrInteractionType  = "microsoft.copilot.interaction.type"
	attrInteractionETag  = "microsoft.copilot.interaction.etag"
	attrRequestID        = "microsoft.copilot.request.id"
	attrConversationType = "microsoft.copilot.conversation.type"
	attrLocale           = "microsoft.copilot.locale"
	attrAppClass         = "microsoft.copilot.app.class"
	attrAppName          = "microsoft.copilot.app.name"
	attrChangeType       = "microsoft.copilot.change.type"
	attrSource           = "microsoft.copilot.source"
	attrIngestionDelay   = "microsoft.copilot.ingestion.delay"
	attrTurnID           = "microsoft.copilot.turn.id"
	attrContentCaptured  = "microsoft.copilot.content.captured"
	attrContentLength    = "microsoft.copilot.content.length"
	attrAttachmentCount  = "microsoft.copilot.attachment.count"
	attrLinkCount        = "microsoft.copilot.link.count"
	attrMentionCount     = "microsoft.copilot.mention.count"
	attrContextCount     = "microsoft.copilot.context.count"
	attrContextTypes     = "microsoft.copilot.context.types"
	attrAgents           = "microsoft.copilot.agents"
	attrReferences       = "microsoft.copilot.references"
	attrUserSource       = "microsoft.copilot.user.source"
	attrReason           = "microsoft.copilot.reason"
)

// putString leaves an empty value out: an attribute without a value is absent.
func putString(attributes pcommon.Map, name, value string) {
	if value != "" {
		attributes.PutStr(name, value)
	}
}

func putStrings(attributes pcommon.Map, name string, values []string) {
	if len(values) == 0 {
		return
	}
	slice := attributes.PutEmptySlice(name)
	slice.EnsureCapacity(len(values))
	for _, value := range values {
		slice.AppendEmpty().SetStr(value)
	}
}
