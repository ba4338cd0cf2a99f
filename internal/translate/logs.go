// Package translate turns Copilot interactions into OpenTelemetry logs and metrics: pure functions of what was received.
package translate

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// LogSettings says what of an interaction goes into its log record.
type LogSettings struct {
	// CaptureText makes the text the body. Without it, or where there is no text, the body is a summary without any of it.
	CaptureText bool
	// References adds the names and URLs of files, meetings and links.
	References bool
	// ScopeName and ScopeVersion are the instrumentation scope.
	ScopeName    string
	ScopeVersion string
}

// Logs turns interactions into log records. It keeps nothing between two calls and is safe for concurrent use.
type Logs struct {
	settings LogSettings
}

// NewLogs returns a translator of interactions to log records.
func NewLogs(settings LogSettings) *Logs {
	return &Logs{settings: settings}
}

// Translate makes one event record of each interaction, in the order given, under one resource for each tenant, as
// https://opentelemetry.io/docs/specs/semconv/general/events/ describes events. Of nothing it makes empty logs.
//
// Without CaptureText and References no record holds a piece of the text, or a name or URL of a file, meeting or link.
func (l *Logs) Translate(received []interaction.Received) plog.Logs {
	logs := plog.NewLogs()
	tenants := make(map[string]plog.LogRecordSlice, 1)
	for i := range received {
		tenantID := received[i].TenantID
		records, started := tenants[tenantID]
		if !started {
			records = l.startTenant(logs.ResourceLogs().AppendEmpty(), tenantID)
			tenants[tenantID] = records
		}
		l.fillRecord(records.AppendEmpty(), &received[i])
	}
	return logs
}

func (l *Logs) startTenant(logs plog.ResourceLogs, tenantID string) plog.LogRecordSlice {
	logs.SetSchemaUrl(schemaURL)
	fillResource(logs.Resource(), tenantID)
	scope := logs.ScopeLogs().AppendEmpty()
	scope.Scope().SetName(l.settings.ScopeName)
	scope.Scope().SetVersion(l.settings.ScopeVersion)
	return scope.LogRecords()
}

func (l *Logs) fillRecord(record plog.LogRecord, r *interaction.Received) {
	text := r.Text()
	record.SetTimestamp(timestamp(r))
	record.SetObservedTimestamp(pcommon.NewTimestampFromTime(r.At))
	record.SetSeverityNumber(plog.SeverityNumberInfo)
	record.SetEventName(eventName)
	length := utf8.RuneCountInString(text)
	captured := l.settings.CaptureText && text != ""
	if captured {
		record.Body().SetStr(text)
	} else {
		record.Body().SetStr(summary(r, length))
	}

	attributes := record.Attributes()
	attributes.EnsureCapacity(31)
	putInteraction(attributes, r)
	attributes.PutBool(attrContentCaptured, captured)
	attributes.PutInt(attrContentLength, int64(length))
	putContent(attributes, r)
	if l.settings.References {
		putReferences(attributes, &r.Interaction)
	}
	putUser(attributes, r)
	putGenAI(attributes, r)
}

// summary is the body of a record without text, so that every log view has a line to show:
//
//	{change, unless created} {interaction type, else interaction} in {app name}, {length} characters
func summary(r *interaction.Received, length int) string {
	line := cmp.Or(r.Type, "interaction")
	if r.Change != interaction.Created && r.Change != "" {
		line = string(r.Change) + " " + line
	}
	if app := r.App(); app != "" {
		line += " in " + app
	}
	return line + ", " + strconv.Itoa(length) + " characters"
}

func putInteraction(attributes pcommon.Map, r *interaction.Received) {
	putString(attributes, attrLogRecordUID, r.UID())
	putString(attributes, attrInteractionID, r.ID)
	putString(attributes, attrInteractionType, r.Type)
	putString(attributes, attrInteractionETag, r.ETag)
	putString(attributes, attrRequestID, r.RequestID)
	putString(attributes, attrConversationType, r.ConversationType)
	putString(attributes, attrLocale, r.Locale)
	putString(attributes, attrAppClass, r.AppClass)
	putString(attributes, attrAppName, r.App())
	putString(attributes, attrChangeType, string(r.Change))
	putString(attributes, attrSource, string(r.Source))
	if delay, known := ingestionDelay(r); known {
		attributes.PutDouble(attrIngestionDelay, delay)
	}
	putString(attributes, attrTurnID, turnID(r))
}

// putContent says how much there was, never what it was.
func putContent(attributes pcommon.Map, r *interaction.Received) {
	attributes.PutInt(attrAttachmentCount, int64(len(r.Attachments)))
	attributes.PutInt(attrLinkCount, int64(len(r.Links)))
	attributes.PutInt(attrMentionCount, int64(len(r.Mentions)))
	attributes.PutInt(attrContextCount, int64(len(r.Contexts)))
	putStrings(attributes, attrContextTypes, contextTypes(r.Contexts))
	putStrings(attributes, attrAgents, agents(r.Mentions))
}

func putUser(attributes pcommon.Map, r *interaction.Received) {
	putString(attributes, attrUserID, r.UserID)
	putString(attributes, attrUserSource, string(r.UserSource))
}

func putGenAI(attributes pcommon.Map, r *interaction.Received) {
	attributes.PutStr(attrProviderName, providerName)
	attributes.PutStr(attrOperationName, operationName)
	putString(attributes, attrConversationID, r.SessionID)
	if r.Type != interaction.TypeAIResponse {
		return
	}
	putString(attributes, attrResponseID, r.ID)
	if agent := r.From.Application; agent != nil {
		putString(attributes, attrAgentID, agent.ID)
		putString(attributes, attrAgentName, agent.DisplayName)
	}
}

// What Graph writes where it knows neither the name nor the URL of a file.
const (
	unknownName = "unknown-file-name"
	unknownURL  = "file:///unknown-url"
)

// inlineData starts a URL that holds the content itself, such as a picture: https://www.rfc-editor.org/rfc/rfc2397
const inlineData = "data:"

// contextTypes returns the distinct types of the contexts in the order of their first appearance.
func contextTypes(contexts []interaction.Context) []string {
	var types []string
	for _, context := range contexts {
		types = appendDistinct(types, context.Type)
	}
	return types
}

// agents returns the names, else the ids, of the applications that the text mentions, each once. A person calls an agent
// by mentioning it: https://learn.microsoft.com/microsoft-365/copilot/extensibility/api/ai-services/interaction-export/resources/aiinteractionmention
func agents(mentions []interaction.Mention) []string {
	var names []string
	for i := range mentions {
		if application := mentions[i].Mentioned.Application; application != nil {
			names = appendDistinct(names, cmp.Or(application.DisplayName, application.ID))
		}
	}
	return names
}

func appendDistinct(values []string, value string) []string {
	if value == "" || slices.Contains(values, value) {
		return values
	}
	return append(values, value)
}

// reference is a file, a meeting or a link that an interaction names.
type reference struct {
	kind, name, url, typ string
}

// putReferences lists what the interaction refers to: its attachments, then its contexts, then its links.
func putReferences(attributes pcommon.Map, i *interaction.Interaction) {
	references := referencesOf(i)
	if len(references) == 0 {
		return
	}
	values := attributes.PutEmptySlice(attrReferences)
	values.EnsureCapacity(len(references))
	for _, r := range references {
		value := values.AppendEmpty().SetEmptyMap()
		value.PutStr("kind", r.kind)
		putString(value, "name", r.name)
		putString(value, "url", r.url)
		putString(value, "type", r.typ)
	}
}

func referencesOf(i *interaction.Interaction) []reference {
	var references []reference
	add := func(kind, name, url, typ string) {
		name, url = withoutPlaceholder(name, unknownName), withoutPlaceholder(url, unknownURL)
		if isInlineData(url) {
			url = ""
		}
		if name != "" || url != "" {
			references = append(references, reference{kind: kind, name: name, url: url, typ: typ})
		}
	}
	for n := range i.Attachments {
		if attachment := &i.Attachments[n]; !attachment.IsAdaptiveCard() {
			add("attachment", attachment.Name, attachment.ContentURL, attachment.ContentType)
		}
	}
	for _, context := range i.Contexts {
		add("context", context.DisplayName, context.Reference, context.Type)
	}
	for _, link := range i.Links {
		add("link", link.DisplayName, link.URL, link.Type)
	}
	return references
}

func isInlineData(url string) bool {
	url = strings.TrimSpace(url)
	return len(url) >= len(inlineData) && strings.EqualFold(url[:len(inlineData)], inlineData)
}

func withoutPlaceholder(value, placeholder string) string {
	if strings.EqualFold(strings.TrimSpace(value), placeholder) {
		return ""
	}
	return value
}

// turnIDLabel keeps the trace id of a turn apart from its other ids, and leaves room for another derivation.
const turnIDLabel = "m365_copilot trace v1"

// turnID is the trace id of the turn that an interaction belongs to, 32 hexadecimal digits: the first 16 bytes of SHA-256
// of label, tenant, session and turn, joined by the unit separator. A prompt and its responses share it, whichever replica
// sees either. It is empty while the turn is not known.
func turnID(r *interaction.Received) string {
	if r.SessionID == "" || r.Turn == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(turnIDLabel + "\x1f" + r.TenantID + "\x1f" + r.SessionID + "\x1f" + r.Turn))
	return hex.EncodeToString(sum[:16])
}
