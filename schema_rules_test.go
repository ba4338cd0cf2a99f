// SPDX-License-Identifier: Apache-2.0

package m365copilotreceiver

import (
	"regexp"
	"slices"
	"strings"

	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/privacy"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

// requiredKeys are those without which no configuration is valid, by section.
var requiredKeys = map[string][]string{
	"":                          {"tenant_id", "auth"},
	"auth":                      {"client_id"},
	"auth.client_certificate":   {"cert_file", "key_file"},
	"encryption.certificates[]": {"cert_file", "key_file"},
	"history.replay[]":          {"from", "to"},
}

// Parts of the regular expressions below. Schemes and hosts are case-insensitive, and not every expression engine can be told so.
const (
	https    = `[Hh][Tt][Tt][Pp][Ss]://`
	http     = `[Hh][Tt][Tt][Pp]://`
	host     = `(\[[^\]/?#@]+\]|[^\[\]/?#@:]+)`
	loopback = `([Ll][Oo][Cc][Aa][Ll][Hh][Oo][Ss][Tt]|127\.[0-9.]+|\[[0:]*:0*1\]|` + mapped + `)`
	mapped   = `\[[0:]*:[Ff][Ff][Ff][Ff]:(127\.[0-9.]+|7[Ff][0-9A-Fa-f]{2}:[0-9A-Fa-f]{1,4})\]`
	port     = `0*([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])`
	anyPort  = `(:(` + port + `)?)?`
	urlPath  = `(/([^%?#]|%[0-9A-Fa-f]{2})*)?`
	urlQuery = `(\?([^%#;]|%[0-9A-Fa-f]{2})*)?`
	// microsoftURL is the beginning of a URL of Microsoft's services, or of a test on this machine.
	microsoftURL = `^$|^(` + https + host + `|` + http + loopback + `)` + anyPort + urlPath
	proxyURL     = `^$|^([Hh][Tt][Tt][Pp][Ss]?|[Ss][Oo][Cc][Kk][Ss]5[Hh]?)://([^/?#@]*@)?[^/?#@:]`
	// encodedPath has a character that is encoded, and none that can't be decoded.
	encodedPath = `^([^%]|%[0-9A-Fa-f]{2})*%[0-9A-Fa-f]{2}([^%]|%[0-9A-Fa-f]{2})*$`
)

const httpOnLoopback = "http is allowed for loopback addresses only"

// schemaRules are what Validate requires of single keys and their types do not say.
func schemaRules() map[string]func(*jsonSchema) {
	form := func(expression, message string) func(*jsonSchema) {
		return func(s *jsonSchema) { s.Pattern, s.PatternErrorMessage = expression+"|"+expansion, message }
	}
	objectIDs := func(s *jsonSchema) {
		s.Items, s.UniqueItems = matching(guid.String(), "write the Entra object id of the user, a GUID"), true
	}
	notEmpty := func(s *jsonSchema) { s.MinLength = new(1) }
	entriesNotEmpty := func(s *jsonSchema) { s.Items.MinLength = new(1) }
	between := func(least, most int64) func(*jsonSchema) {
		return func(s *jsonSchema) { s.Minimum, s.Maximum = &least, &most }
	}
	atLeast := func(least int64) func(*jsonSchema) { return func(s *jsonSchema) { s.Minimum = &least } }
	return map[string]func(*jsonSchema){
		"tenant_id":                         form(guid.String(), "write the directory (tenant) id, a GUID"),
		"graph.endpoint":                    baseURL(`/*([Vv]1\.0/*)?`),
		"graph.proxy_url":                   form(proxyURL, "write the URL of a proxy, such as http://proxy.example.com:3128"),
		"auth.client_id":                    notEmpty,
		"auth.client_certificate.cert_file": notEmpty,
		"auth.client_certificate.key_file":  notEmpty,
		"auth.authority":                    baseURL(`/*(` + strings.Trim(guid.String(), "^$") + `/*)?`),
		"auth.token_url":                    form(microsoftURL+`(\?[^#]*)?$`, "write a full https URL; "+httpOnLoopback),
		"auth.issuers":                      entriesNotEmpty,
		"auth.audiences":                    entriesNotEmpty,
		"subscription.notification_url": func(s *jsonSchema) {
			const example = "https://copilot.example.com/graph/notifications"
			form(`^$|^`+https+host+anyPort+urlPath+urlQuery+`$`, "write a full https URL, such as "+example)(s)
			s.Not = &jsonSchema{Pattern: `[?&]` + handshakeParameter + `(=|&|$)`}
		},
		"subscription.users": objectIDs,
		"subscription.change_types": func(s *jsonSchema) {
			s.Items, s.UniqueItems, s.MinItems = oneOfValues(changeTypes...), true, new(1)
		},
		"webhook.path": func(s *jsonSchema) {
			form(`^$|^/[^?#]*$`, "write a path that begins with /, without query")(s)
			s.Not = &jsonSchema{Pattern: encodedPath}
		},
		"webhook.compression_algorithms":      func(s *jsonSchema) { s.Items = oneOfValues("") },
		"webhook.max_in_flight_bytes":         atLeast(webhook.MinInFlightBytes(1)),
		"webhook.tls":                         bothFilesOrPEM,
		"encryption.certificates":             func(s *jsonSchema) { s.UniqueItems = true },
		"encryption.certificates[].id":        func(s *jsonSchema) { s.MaxLength = new(maxCertificateID) },
		"encryption.certificates[].cert_file": notEmpty,
		"encryption.certificates[].key_file":  notEmpty,
		"history.users":                       objectIDs,
		"history.replay[].users":              objectIDs,
		"history.requests_per_second":         func(s *jsonSchema) { s.ExclusiveMinimum = new(int64) },
		"history.concurrency":                 atLeast(1),
		"identity.directory_properties": func(s *jsonSchema) {
			s.Items, s.UniqueItems = oneOfValues(privacy.PropertyNames()...), true
		},
		"identity.cache_size": atLeast(1),
		"dedupe.max_entries":  between(1, dedupe.MaxEntries),
	}
}

// baseURL accepts a URL to which the receiver adds a path, on a Microsoft host one with that path alone.
func baseURL(path string) func(*jsonSchema) {
	var hosts []string
	for _, cloud := range graph.Clouds() {
		for _, url := range []string{cloud.Endpoint, cloud.Authority} {
			hosts = append(hosts, regexp.QuoteMeta(strings.TrimPrefix(url, "https://")))
		}
	}
	slices.Sort(hosts)
	microsoft := `^` + https + `(` + strings.Join(slices.Compact(hosts), "|") + `)`
	return func(s *jsonSchema) {
		s.Pattern = microsoftURL + `$|` + expansion
		s.PatternErrorMessage = "write a full https URL without query; " + httpOnLoopback
		s.If = &jsonSchema{Pattern: microsoft + `/`}
		s.Then = &jsonSchema{Pattern: microsoft + path + `$|` + expansion, PatternErrorMessage: "write no path: the receiver adds it"}
	}
}

// bothFilesOrPEM requires certificate and key of a server, unless the section is empty or turned off.
func bothFilesOrPEM(s *jsonSchema) {
	given := func(keys ...string) *jsonSchema {
		one := &jsonSchema{}
		for _, key := range keys {
			one.AnyOf = append(one.AnyOf, &jsonSchema{Required: []string{key}})
		}
		return one
	}
	s.AllOf = []*jsonSchema{given("cert_file", "cert_pem", "enabled"), given("key_file", "key_pem", "enabled")}
}

// relations are what Validate requires of several keys together. Each part is in one of three states: it is set, it is not, or it
// may be, since it comes from an expansion. Only what is wrong whatever the expansions are is refused.
func relations() []*jsonSchema {
	text := &jsonSchema{Type: []string{"string"}, MinLength: new(1)}
	literal := &jsonSchema{Type: []string{"string"}, MinLength: new(1), Not: &jsonSchema{Pattern: expansion}}
	optional := &jsonSchema{Type: []string{"object", "string"}, Not: has("enabled", &jsonSchema{Enum: []any{false}})}
	literalOptional := &jsonSchema{Type: []string{"object"}, Not: &jsonSchema{Required: []string{"enabled"}}}
	positive := &jsonSchema{Type: []string{"integer", "string"}, Minimum: new(int64(1))}

	var credentials, literalCredentials []*jsonSchema
	for _, path := range []string{"auth.client_secret", "auth.client_secret_file", "auth.federated_token_file"} {
		credentials, literalCredentials = append(credentials, has(path, text)), append(literalCredentials, has(path, literal))
	}
	for _, path := range []string{"auth.client_certificate", "graph.auth"} {
		credentials, literalCredentials = append(credentials, has(path, optional)), append(literalCredentials, has(path, literalOptional))
	}

	return append(historyRelations(text, literal),
		anyOf(append(credentials, expanded("auth"), expanded("graph"))...),
		atMostOne(literalCredentials...),
		&jsonSchema{If: not(anyOf(has("history.poll_interval", nonzero), expanded("history"))), Then: listener()},
		&jsonSchema{If: not(has("webhook.max_request_body_size", positive)), Then: inFlight()},
	)
}

// historyRelations requires one source of interactions, and storage for what is read once.
func historyRelations(text, literal *jsonSchema) []*jsonSchema {
	literalNonzero := &jsonSchema{Type: literal.Type, Pattern: `[1-9]`, Not: literal.Not}
	subscribed, polled := has("subscription.notification_url", text), has("history.poll_interval", nonzero)
	reconciled := has("history.reconcile.interval", literalNonzero)
	stored := anyOf(has("history.lookback", literalNonzero), has("history.poll_interval", literalNonzero),
		has("history.replay", &jsonSchema{Type: []string{"array"}, MinItems: new(1)}))
	return []*jsonSchema{
		anyOf(subscribed, polled, expanded("subscription"), expanded("history")),
		atMostOne(has("subscription.notification_url", literal), has("history.poll_interval", literalNonzero)),
		{If: stored, Then: has("storage", text)},
		{If: reconciled, Then: anyOf(subscribed, expanded("subscription"))},
		{If: anyOf(stored, reconciled), Then: not(has("history.enabled", &jsonSchema{Enum: []any{false}}))},
	}
}

// nonzero is a duration that may be above 0.
var nonzero = &jsonSchema{Type: []string{"string"}, Pattern: `[1-9]|` + expansion}

// expanded accepts a configuration in which a whole section is an expansion.
func expanded(section string) *jsonSchema { return has(section, &jsonSchema{Type: []string{"string"}}) }

func atMostOne(all ...*jsonSchema) *jsonSchema {
	return anyOf(&jsonSchema{OneOf: all}, not(anyOf(all...)))
}

// listener requires a host and a port, and TLS where the host is not loopback.
func listener() *jsonSchema {
	given := &jsonSchema{Type: []string{"object", "string"}}
	upstream := anyOf(&jsonSchema{Enum: []any{true}}, &jsonSchema{Type: []string{"string"}, Pattern: expansion})
	local := &jsonSchema{Pattern: `^` + loopback + `:|` + expansion}
	exposed := has("webhook.endpoint", &jsonSchema{Type: []string{"string"}, Not: local})
	return &jsonSchema{AllOf: []*jsonSchema{
		where("webhook.endpoint", &jsonSchema{
			Pattern:             `^(\[[^\]]*\]|[^:]*):(0+|` + port + `|[A-Za-z][A-Za-z0-9-]*)$|` + expansion,
			PatternErrorMessage: "write host:port with a port up to 65535, such as localhost:8443",
		}),
		{If: exposed, Then: anyOf(has("webhook.tls", given), has("webhook.tls_terminated_upstream", upstream))},
	}}
}

// inFlight is the least where the largest body has its default size.
func inFlight() *jsonSchema {
	least := webhook.MinInFlightBytes(defaultMaxRequestBodySize)
	return where("webhook.max_in_flight_bytes", &jsonSchema{Minimum: &least})
}
