package translate

import (
	"cmp"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// What Graph writes where it knows neither the name nor the URL of a file.
const (
	unknownName = "unknown-file-name"
	unknownURL  = "file:///unknown-url"
)

// adaptiveCard is the content type of an attachment that holds the text of a response, and so refers to nothing.
const adaptiveCard = "application/vnd.microsoft.card.adaptive"

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
	for _, attachment := range i.Attachments {
		if !strings.EqualFold(strings.TrimSpace(attachment.ContentType), adaptiveCard) {
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
