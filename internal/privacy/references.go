// SPDX-License-Identifier: Apache-2.0

package privacy

import (
	"strings"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/record"
)

// Placeholders that Graph sends if it does not know the name or the URL of a file.
const (
	unknownName = "unknown-file-name"
	unknownURL  = "file:///unknown-url"
)

// inlineData is the scheme of a URL that contains the data itself, such as an image: https://www.rfc-editor.org/rfc/rfc2397
const inlineData = "data:"

// references returns the attachments, contexts and links of an interaction that have a name or a URL, in this order. Adaptive cards
// are the text of an interaction, not attachments.
func references(i *interaction.Interaction) []record.Reference {
	var all []record.Reference
	add := func(kind, name, url, typ string) {
		name, url = withoutPlaceholder(name, unknownName), withoutPlaceholder(url, unknownURL)
		if strings.HasPrefix(strings.ToLower(strings.TrimSpace(url)), inlineData) {
			url = ""
		}
		if name != "" || url != "" {
			all = append(all, record.Reference{Kind: kind, Name: name, URL: url, Type: typ})
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
	return all
}

func withoutPlaceholder(value, placeholder string) string {
	if strings.EqualFold(strings.TrimSpace(value), placeholder) {
		return ""
	}
	return value
}
