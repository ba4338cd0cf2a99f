package subscription

import (
	"net/url"
	"slices"
	"strings"
)

// canonical returns a resource as Graph compares it: case and one leading slash do not matter.
func canonical(resource string) string {
	return strings.ToLower(strings.TrimPrefix(resource, "/"))
}

// path is the canonical resource without its query. Graph's quotas count by path, whatever the $filter:
// https://learn.microsoft.com/graph/change-notifications-overview#subscription-limits
func path(resource string) string {
	before, _, _ := strings.Cut(canonical(resource), "?")
	return before
}

func sameChangeTypes(a, b []string) bool {
	return slices.Equal(changeTypeSet(a), changeTypeSet(b))
}

func changeTypeSet(types []string) []string {
	set := make([]string, 0, len(types))
	for _, t := range types {
		set = append(set, strings.ToLower(strings.TrimSpace(t)))
	}
	slices.Sort(set)
	return slices.Compact(set)
}

// sameURL compares two notification URLs. Scheme and host know no case (RFC 3986, section 6.2.2.1), the default port and
// an empty path may be written or not; everything else, and the EventHub: form, must be equal.
func sameURL(a, b string) bool {
	return a == b || normalURL(a) == normalURL(b)
}

func normalURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return raw
	}
	u.Host = strings.ToLower(u.Host)
	if u.Scheme == "https" {
		u.Host = strings.TrimSuffix(u.Host, ":443")
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u.String()
}

// hostOf names the receiving end of a notification URL and nothing else of it, since the query may hold secrets.
func hostOf(notificationURL string) string {
	u, err := url.Parse(notificationURL)
	if err == nil && u.Opaque != "" {
		// EventHub:https://namespace.servicebus.windows.net/...
		u, err = url.Parse(u.Opaque)
	}
	if err != nil || u.Host == "" {
		return "unknown"
	}
	return u.Host
}
