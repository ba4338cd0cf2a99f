// SPDX-License-Identifier: Apache-2.0

// Package translate converts records to OpenTelemetry logs and metrics.
package translate

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
)

// schemaURL is the version of the semantic conventions that defines the names below. It is the last one with gen_ai:
// https://github.com/open-telemetry/semantic-conventions/pull/3696 moved gen_ai to a repository of its own.
const schemaURL = semconv.SchemaURL

// The event names of the log records of an interaction, and of a licensed user.
const (
	eventName     = "microsoft.copilot.interaction"
	userEventName = "microsoft.copilot.user"
)

// Resource attributes, and the name of the service that produced the interactions.
const (
	attrServiceName       = string(semconv.ServiceNameKey)
	attrServiceInstanceID = string(semconv.ServiceInstanceIDKey)
	attrTenantID          = "microsoft.tenant.id"

	serviceName = "microsoft-365-copilot"
)

// Attributes of the semantic conventions.
const (
	attrLogRecordUID   = string(semconv.LogRecordUIDKey)
	attrUserID         = string(semconv.UserIDKey)
	attrUserName       = string(semconv.UserNameKey)
	attrUserFullName   = string(semconv.UserFullNameKey)
	attrProviderName   = string(semconv.GenAIProviderNameKey)
	attrOperationName  = string(semconv.GenAIOperationNameKey)
	attrConversationID = string(semconv.GenAIConversationIDKey)
	attrAgentID        = string(semconv.GenAIAgentIDKey)
	attrAgentName      = string(semconv.GenAIAgentNameKey)
	attrResponseID     = string(semconv.GenAIResponseIDKey)

	providerName  = "microsoft.copilot"
	operationName = "invoke_agent"
)

// Attributes of Microsoft 365 Copilot, prefixed by the provider's name as the naming rules of the conventions require:
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
	attrUserLicensed     = "microsoft.copilot.user.licensed"
	attrReason           = "microsoft.copilot.reason"
	attrResult           = "microsoft.copilot.result"
)

// Attributes of users that the directory has and the conventions do not, and of their use of Copilot.
const (
	attrUserDepartment         = "microsoft.user.department"
	attrUserOfficeLocation     = "microsoft.user.office_location"
	attrUserCountry            = "microsoft.user.country"
	attrUserJobTitle           = "microsoft.user.job_title"
	attrUserCompany            = "microsoft.user.company"
	attrUserSAMAccountName     = "microsoft.user.on_premises.sam_account_name"
	attrUserSecurityIdentifier = "microsoft.user.on_premises.security_identifier"
	attrUserDomain             = "microsoft.user.on_premises.domain"
	attrUserLastActive         = "microsoft.copilot.user.last_active"
	attrUserDaysActive         = "microsoft.copilot.user.days_active"
)

// Scope is the instrumentation scope of everything that the receiver emits.
type Scope struct{ Name, Version string }

func (s Scope) fill(scope pcommon.InstrumentationScope) {
	scope.SetName(s.Name)
	scope.SetVersion(s.Version)
}

// fillResource sets the attributes of the Copilot service of one tenant.
func fillResource(resource pcommon.Resource, tenantID string) {
	attributes := resource.Attributes()
	attributes.PutStr(attrServiceName, serviceName)
	putString(attributes, attrTenantID, tenantID)
}

// putString puts an attribute unless the value is empty.
func putString(attributes pcommon.Map, name, value string) {
	if value != "" {
		attributes.PutStr(name, value)
	}
}

// putStrings puts an attribute unless there are no values.
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
