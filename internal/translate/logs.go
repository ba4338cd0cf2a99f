// Package translate converts Copilot interactions to OpenTelemetry logs and metrics.
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

// LogSettings selects what of an interaction its log record contains.
type LogSettings struct {
	// CaptureText sets the body to the text. Otherwise, and if there is no text, the body is a summary that contains none
	// of the text.
	CaptureText bool
	// References adds the names and URLs of files, meetings and links.
	References bool
	// ScopeName and ScopeVersion are the instrumentation scope.
	ScopeName    string
	ScopeVersion string
}

// Logs converts interactions to log records. It is stateless and safe for concurrent use.
type Logs struct {
	settings LogSettings
}

// NewLogs returns a converter of interactions to log records.
func NewLogs(settings LogSettings) *Logs {
	return &Logs{settings: settings}
}

// Translate returns one event record for each interaction, in order, with one resource for each tenant. Events are described
// in https://opentelemetry.io/docs/specs/semconv/general/events/. Without interactions the logs are empty.
//
// Without CaptureText no record contains any of the text, without References none contains a name or URL of a file, meeting
// or link.
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

// summary returns the body of a record without text, so that log views have a line to show:
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

// putContent puts counts and types of the content, and no part of it.
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

// Placeholders that Graph sends if it does not know the name or the URL of a file.
const (
	unknownName = "unknown-file-name"
	unknownURL  = "file:///unknown-url"
)

// inlineData is the scheme of a URL that contains the data itself, such as an image: https://www.rfc-editor.org/rfc/rfc2397
const inlineData = "data:"

// contextTypes returns the distinct types of the contexts in the order of their first appearance.
func contextTypes(contexts []interaction.Context) []string {
	var types []string
	for _, context := range contexts {
		types = appendDistinct(types, context.Type)
	}
	return types
}

// agents returns the distinct names of the mentioned applications, or their ids if they have no name. A user calls an agent
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

// reference is a file, a meeting or a link that an interaction refers to.
type reference struct {
	kind, name, url, typ string
}

// putReferences puts the attachments, contexts and links of the interaction, in this order.
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

// turnIDLabel separates this derivation of an id from other ones, and from later versions of itself.
const turnIDLabel = "m365_copilot trace v1"

// turnID returns the id of the turn of an interaction, which is also the trace id of the turn: 32 hexadecimal digits, the
// first 16 bytes of the SHA-256 of label, tenant, session and turn, joined by the byte 0x1F. A prompt and its responses have
// the same id on every replica. It is empty if the turn is unknown.
func turnID(r *interaction.Received) string {
	if r.SessionID == "" || r.Turn == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(turnIDLabel + "\x1f" + r.TenantID + "\x1f" + r.SessionID + "\x1f" + r.Turn))
	return hex.EncodeToString(sum[:16])
}
