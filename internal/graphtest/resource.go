package graphtest

import (
	"encoding/json"
	"net/url"
	"regexp"
	"strings"
)

// watched is a resource that a subscription may name, in one spelling.
type watched struct {
	// user is an object id in lower case; empty: the whole tenant.
	user   string
	filter filter
}

// filter compares one property of an interaction; the zero value lets everything pass.
type filter struct {
	property string
	not      bool
	value    string
}

var resourcePattern = regexp.MustCompile(`(?i)^/?copilot/(?:users/([^/]+)/)?interactionhistory/getallenterpriseinteractions$`)

// filterPattern knows what is documented: one comparison of a property of the interaction itself.
// https://learn.microsoft.com/microsoft-365/copilot/extensibility/api/ai-services/change-notifications/aiinteraction-changenotifications
var filterPattern = regexp.MustCompile(`^\$filter=(id|sessionId|requestId|appClass|interactionType|conversationType|locale) (eq|ne) '([^']*)'$`)

func parseResource(resource string) (watched, bool) {
	path, query, filtered := strings.Cut(resource, "?")
	parts := resourcePattern.FindStringSubmatch(path)
	if parts == nil {
		return watched{}, false
	}
	w := watched{user: strings.ToLower(parts[1])}
	if !filtered {
		return w, true
	}
	if plain, err := url.PathUnescape(query); err == nil {
		query = plain
	}
	compared := filterPattern.FindStringSubmatch(query)
	if compared == nil {
		return watched{}, false
	}
	w.filter = filter{property: compared[1], not: compared[2] == "ne", value: compared[3]}
	return w, true
}

// passes tells whether the interaction meets the filter.
func (f filter) passes(interaction json.RawMessage) bool {
	if f.property == "" {
		return true
	}
	var properties map[string]any
	if json.Unmarshal(interaction, &properties) != nil {
		return false
	}
	value, _ := properties[f.property].(string)
	return (value == f.value) != f.not
}
