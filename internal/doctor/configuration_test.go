// SPDX-License-Identifier: Apache-2.0

package doctor_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/doctor"
	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
)

// found returns what the checks of a group found, a line for each that begins with its mark and code.
func found(g doctor.Group) string {
	var b strings.Builder
	for _, c := range g.Checks {
		fmt.Fprintf(&b, "%s %s %s\n", c.Mark, c.Code, c.Found)
	}
	return b.String()
}

// requireCheck asserts that a group has a check with a mark, a code and a part of its text, and a hint if it is not well.
func requireCheck(t *testing.T, g doctor.Group, mark doctor.Mark, code failure.Code, part string) {
	t.Helper()
	for _, c := range g.Checks {
		if c.Mark == mark && c.Code == code && strings.Contains(c.Found, part) {
			assert.Equal(t, mark >= doctor.Warn, c.Hint != "", c.Found)
			assert.NotContains(t, c.Found, "\n")
			return
		}
	}
	require.Failf(t, "no such check", "%s %s %s in\n%s", mark, code, part, found(g))
}

// checkURIs makes all checks of the configurations at URIs.
func checkURIs(t *testing.T, uris ...string) doctor.Report {
	t.Helper()
	return doctor.Run(t.Context(), doctor.Settings{URIs: uris, Timeout: 10 * time.Second})
}

func writeYAML(t *testing.T, text string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "collector.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

func TestConfiguration_IsValid(t *testing.T) {
	t.Parallel()
	g := group(t, newHarness(t).check(t, "    history: {max_gap: 24h}", ""), "configuration")
	require.Equal(t, doctor.OK, g.Mark(), found(g))
	requireCheck(t, g, doctor.OK, "", "receivers::m365_copilot is valid, pipelines: logs")
}

func TestConfiguration_SaysWhatIsWrongAndWhere(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		receiver string
		want     []string
	}{
		"a key is unknown":             {"    subscription: {notification_uri: x}", []string{"receivers::m365_copilot: subscription: has invalid keys: notification_uri: write", "notification_url"}},
		"a key of the top is unknown":  {"    tenantid: x", []string{"receivers::m365_copilot: has invalid keys: tenantid: write", "tenant_id"}},
		"a duration is none":           {"    history: {max_gap: long}", []string{"receivers::m365_copilot: history.max_gap: ", "write a duration such as 30s"}},
		"a value is out of range":      {"    subscription: {lifetime: 99h}", []string{"receivers::m365_copilot: subscription.lifetime: write a duration from 1s to 72h"}},
		"a value is none of the words": {"    cloud: mars", []string{"receivers::m365_copilot: cloud: write one of global, us_gov"}},
		"a key of the Collector's":     {"    graph: {tls: {min_version: '9'}}", []string{`receivers::m365_copilot: graph.tls: invalid TLS min_version: unsupported TLS version: "9"`}},
		"a file of TLS is missing":     {"    graph: {tls: {ca_file: /nowhere/ca.pem}}", []string{"receivers::m365_copilot: graph: ", "/nowhere/ca.pem"}},
		"a proxy is none":              {"    graph: {proxy_url: 'http://user:canary/x@proxy'}", []string{"receivers::m365_copilot: graph.proxy_url: write the URL of a proxy"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newHarness(t).check(t, test.receiver, "")
			g := group(t, r, "configuration")
			for _, want := range test.want {
				requireCheck(t, g, doctor.Fail, failure.SettingWrong, want)
			}
			others := r.Instances[0].Groups[1:]
			assert.NotEmpty(t, others)
			for _, g := range others {
				assert.Equal(t, "skip  the receiver's configuration is wrong\n", found(g), g.Name)
			}
		})
	}
}

func TestConfiguration_ListsEachProblemOnce(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		receiver string
		problems int
	}{
		"while decoding":                  {"    {cloud: 5, history: {max_gap: long, replay: [{form: x}]}, webhook: {tls: {cert_file: 5, key_file: 6}}}", 4},
		"after decoding":                  {"    {cloud: mars, history: {max_gap: 0s}, graph: {endpoint: x}}", 3},
		"in a section of the Collector's": {"    {graph: {tls: {min_version: '9'}}, cloud: mars}", 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := group(t, newHarness(t).check(t, test.receiver, ""), "configuration")
			assert.Len(t, g.Checks, test.problems, found(g))
		})
	}
}

func TestConfiguration_CanNotBeRead(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		uri  string
		code failure.Code
		want string
	}{
		"there is no file":              {"/nowhere/collector.yaml", failure.ConfigUnreadable, "/nowhere/collector.yaml: no such file"},
		"it is a directory":             {os.TempDir(), failure.ConfigUnreadable, "is a directory"},
		"it is no YAML":                 {writeYAML(t, "receivers:\n  a: b\n c: d\n"), failure.ConfigUnreadable, "collector.yaml: retrieved value (type=string) cannot be used as a Conf: assuming string type since contents are not valid YAML: yaml: line 2"},
		"it is a text":                  {writeYAML(t, "receivers"), failure.ConfigUnreadable, "type=string"},
		"a file that it names is gone":  {"yaml:receivers: ${file:/nowhere/r.yaml}", failure.ConfigUnreadable, "/nowhere/r.yaml"},
		"the distribution has no https": {"https://example.com/collector.yaml", failure.ConfigUnreadable, "https://example.com/collector.yaml"},
		"receivers is a list":           {"yaml:receivers: [m365_copilot]", failure.ConfigUnreadable, "receivers: write a mapping"},
		"the receiver is a text":        {"yaml:receivers: {m365_copilot: x}", failure.SettingWrong, "m365_copilot: write a mapping"},
		"its name is empty":             {"yaml:receivers: {m365_copilot/: }", failure.SettingWrong, "receivers::m365_copilot/: "},
		"there are no receivers":        {"yaml:exporters: {nop: }", failure.ReceiverUnused, "there is no m365_copilot receiver: receivers is empty"},
		"there is another receiver":     {"yaml:receivers: {otlp: , m365copilot: }", failure.ReceiverUnused, "receivers has only m365copilot, otlp"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireCheck(t, group(t, checkURIs(t, test.uri), "configuration"), doctor.Fail, test.code, test.want)
		})
	}
}

func TestConfiguration_MergesURIsInOrder(t *testing.T) {
	h := newHarness(t)
	base := h.configure(t, "", "")[0]
	t.Setenv("COPILOT_OVERLAY", "receivers: {m365_copilot: {cloud: mars}}")
	wrong := checkURIs(t, "file:"+base, "env:COPILOT_OVERLAY")
	requireCheck(t, group(t, wrong, "configuration"), doctor.Fail, failure.SettingWrong, "cloud: write one of")
	right := checkURIs(t, "file:"+base, "env:COPILOT_OVERLAY", "yaml:receivers::m365_copilot::cloud: global")
	assert.Equal(t, doctor.OK, group(t, right, "configuration").Mark())
}

func TestConfiguration_ChecksEachReceiver(t *testing.T) {
	t.Parallel()
	r := checkURIs(t, "yaml:receivers: {m365_copilot: {cloud: 1}, otlp: {cloud: 1}, m365_copilot/emea: {cloud: 2}}")
	require.Len(t, r.Instances, 2)
	assert.Equal(t, "m365_copilot", r.Instances[0].ID)
	assert.Equal(t, "m365_copilot/emea", r.Instances[1].ID)
	requireCheck(t, r.Instances[1].Groups[0], doctor.Fail, failure.SettingWrong, "receivers::m365_copilot/emea: cloud: ")
}

func TestConfiguration_NamesVariablesWithoutValue(t *testing.T) {
	t.Setenv("COPILOT_EMPTY", "")
	const path = "receivers::m365_copilot: auth.client_secret: the environment variable "
	for name, test := range map[string]struct {
		auth string
		want string // empty for none
	}{
		"it is not set":                {"{client_secret: '${env:COPILOT_UNSET}'}", path + "COPILOT_UNSET is not set"},
		"it is not set, without env":   {"{client_secret: '${COPILOT_UNSET}'}", path + "COPILOT_UNSET is not set"},
		"it is part of a text":         {"{client_secret: 'a-${env:COPILOT_UNSET}'}", path + "COPILOT_UNSET is not set"},
		"it is empty, and a cause":     {"{client_secret: '${env:COPILOT_EMPTY}'}", path + "COPILOT_EMPTY is empty"},
		"it is empty, and no cause":    {"{client_secret: 'a${env:COPILOT_EMPTY}'}", ""},
		"it has a default":             {"{client_secret: '${env:COPILOT_UNSET:-a}'}", ""},
		"it is escaped":                {"{client_secret: '$${env:COPILOT_UNSET}'}", ""},
		"it is the element of a list":  {"{audiences: ['${env:COPILOT_UNSET}']}", "receivers::m365_copilot: auth.audiences[0]: the environment variable COPILOT_UNSET is not set"},
		"a second one in the same key": {"{client_secret: '${env:COPILOT_EMPTY}b${env:COPILOT_UNSET}'}", path + "COPILOT_UNSET is not set"},
	} {
		t.Run(name, func(t *testing.T) {
			g := group(t, newHarness(t).check(t, "    auth: "+test.auth, ""), "configuration")
			if test.want == "" {
				assert.Equal(t, doctor.OK, g.Mark(), found(g))
				return
			}
			requireCheck(t, g, doctor.Warn, failure.ConfigUnreadable, test.want)
		})
	}
}

func TestConfiguration_PipelinesUseReceiver(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		pipelines string
		mark      doctor.Mark
		code      failure.Code
		want      string
	}{
		"logs and metrics":     {"{logs/a: {receivers: [m365_copilot]}, metrics: {receivers: [otlp, m365_copilot]}}", doctor.OK, "", "pipelines: logs/a, metrics"},
		"metrics alone":        {"{logs: {receivers: [otlp]}, metrics: {receivers: [m365_copilot]}}", doctor.Warn, failure.NoLogsPipeline, "no logs pipeline, but in metrics"},
		"none":                 {"{logs: {receivers: [otlp]}}", doctor.Fail, failure.ReceiverUnused, "receivers::m365_copilot: service::pipelines does not use it"},
		"another instance's":   {"{logs: {receivers: [m365_copilot/emea]}}", doctor.Fail, failure.ReceiverUnused, "receivers::m365_copilot: service::pipelines does not use it"},
		"traces as well":       {"{logs: {receivers: [m365_copilot]}, traces/x: {receivers: [m365_copilot]}}", doctor.Fail, failure.SettingWrong, "service::pipelines::traces/x: remove m365_copilot"},
		"of an unknown signal": {"{lgos: {receivers: [m365_copilot]}}", doctor.Fail, failure.ConfigUnreadable, "service: "},
		"no mapping":           {"[logs]", doctor.Fail, failure.ConfigUnreadable, "service: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			base := h.configure(t, "", "")[0]
			content, err := os.ReadFile(base)
			require.NoError(t, err)
			receivers, _, _ := strings.Cut(string(content), "\nservice:")
			g := group(t, checkURIs(t, writeYAML(t, receivers+"\nservice: {pipelines: "+test.pipelines+"}")), "configuration")
			requireCheck(t, g, test.mark, test.code, test.want)
			assert.Equal(t, test.mark, g.Mark(), found(g))
		})
	}
}

func TestConfiguration_NextComponentsAreThere(t *testing.T) {
	t.Parallel()
	const service = "\nservice: {pipelines: {logs: {receivers: [m365_copilot], processors: [%s], exporters: [%s]}}}"
	for name, test := range map[string]struct {
		sections, processors, exporters string
		mark                            doctor.Mark
		code                            failure.Code
		want                            string
	}{
		"an exporter is missing": {
			"", "", "nop, otlp_http", doctor.Fail, failure.SettingWrong,
			"service::pipelines::logs: otlp_http is not under exporters or connectors",
		},
		"a processor is missing": {
			"", "batch", "nop", doctor.Fail, failure.SettingWrong, "service::pipelines::logs: batch is not under processors",
		},
		"a connector takes the records": {"connectors: {forward: }", "", "forward", doctor.OK, "", "pipelines: logs"},
		"the variable of an exporter is not set": {
			"exporters: {otlp_http: {endpoint: '${env:COPILOT_UNSET}'}}", "", "otlp_http", doctor.Warn, failure.ConfigUnreadable,
			"exporters::otlp_http: endpoint: the environment variable COPILOT_UNSET is not set",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rest := test.sections + fmt.Sprintf(service, test.processors, test.exporters)
			g := group(t, newHarness(t).check(t, "", rest), "configuration")
			requireCheck(t, g, test.mark, test.code, test.want)
			assert.Equal(t, test.mark, g.Mark(), found(g))
		})
	}
}

func TestConfiguration_ExtensionsRun(t *testing.T) {
	t.Parallel()
	const named = "    {storage: file_storage/a, graph: {middlewares: [{id: headers_setter}]}}"
	for name, test := range map[string]struct {
		rest string
		want []string
	}{
		"none is configured": {"", []string{
			"receivers::m365_copilot: storage: the extension file_storage/a is not under extensions",
			"graph.middlewares[0].id: the extension headers_setter is not under extensions",
		}},
		"one of another name is": {"extensions: {file_storage: , headers_setter: }\nservice: {extensions: [headers_setter]}", []string{
			"storage: the extension file_storage/a is not under extensions",
		}},
		"the service does not start it": {"extensions: {file_storage/a: , headers_setter: }\nservice: {extensions: [headers_setter]}", []string{
			"storage: the extension file_storage/a is not in service::extensions",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := group(t, newHarness(t).check(t, named, test.rest), "configuration")
			for _, want := range test.want {
				requireCheck(t, g, doctor.Fail, failure.ExtensionMissing, want)
			}
			assert.Equal(t, len(test.want), strings.Count(found(g), "fail"), found(g))
		})
	}
}

func TestConfiguration_ExtensionsOfWebhookRun(t *testing.T) {
	t.Parallel()
	const named = "    webhook: {auth: {authenticator: basicauth}, middlewares: [{id: limiter}]}"
	g := group(t, newHarness(t).check(t, named, ""), "configuration")
	for _, want := range []string{
		"receivers::m365_copilot: webhook.auth.authenticator: the extension basicauth is not under extensions",
		"receivers::m365_copilot: webhook.middlewares[0].id: the extension limiter is not under extensions",
	} {
		requireCheck(t, g, doctor.Fail, failure.ExtensionMissing, want)
	}
}

// authenticated is the configuration of a receiver whose tokens come from an extension.
const authenticated = `    auth: {client_secret: ""}
    graph: {auth: {authenticator: %s}}`

func TestAuthenticator_OfAnotherKindIsSkipped(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ receiver, rest, want string }{
		"it is of another kind": {
			fmt.Sprintf(authenticated, "azure_auth"), "extensions: {azure_auth: }\nservice: {extensions: [azure_auth]}",
			"only a collector has the extension azure_auth of graph.auth",
		},
		"it is missing": {
			fmt.Sprintf(authenticated, "oauth2client"), "",
			"graph.auth needs the extension oauth2client, which is not configured",
		},
		"it is wrong": {
			fmt.Sprintf(authenticated, "oauth2client"), "extensions: {oauth2client: }\nservice: {extensions: [oauth2client]}",
			"graph.auth needs the extension oauth2client, whose configuration is wrong",
		},
		"there is a middleware": {
			"    graph: {middlewares: [{id: headers_setter}]}", "extensions: {headers_setter: }\nservice: {extensions: [headers_setter]}",
			"only a collector has the extension headers_setter of graph.middlewares",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newHarness(t).check(t, test.receiver, test.rest)
			for _, name := range []string{"token", "permissions", "licenses", "credentials", "subscriptions", "history"} {
				assert.Equal(t, "skip  "+test.want+"\n", found(group(t, r, name)), name)
			}
			assert.NotContains(t, found(group(t, r, "network")), test.want)
		})
	}
}

func TestAuthenticator_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ extension, want string }{
		"there is no client id": {"{client_secret: a, token_url: https://login.invalid}", "extensions::oauth2client: no ClientID provided"},
		"a key is unknown":      {"{client_secrets: a}", "extensions::oauth2client: 'oauth2clientauthextension.Config' has invalid keys: client_secrets"},
		"a value is none":       {"{client_id: a, client_secret: b, token_url: c, timeout: soon}", "extensions::oauth2client: 'timeout' "},
		"the grant is unknown":  {"{client_id: a, client_secret: b, token_url: c, grant_type: gift}", `extensions::oauth2client: unknown grant type "gift"`},
		"it is a text":          {"text", "oauth2client: write a mapping"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newHarness(t).check(t, fmt.Sprintf(authenticated, "oauth2client"),
				"extensions: {oauth2client: "+test.extension+"}\nservice: {extensions: [oauth2client]}")
			g := group(t, r, "configuration")
			assert.Equal(t, doctor.Fail, g.Mark())
			assert.Contains(t, found(g), test.want)
		})
	}
}

func TestConfiguration_NamesVariablesOfExtensions(t *testing.T) {
	t.Parallel()
	g := group(t, newHarness(t).check(t, "    storage: file_storage",
		"extensions: {file_storage: {directory: '${env:COPILOT_UNSET}'}}\nservice: {extensions: [file_storage]}"), "configuration")
	requireCheck(t, g, doctor.Warn, failure.ConfigUnreadable,
		"extensions::file_storage: directory: the environment variable COPILOT_UNSET is not set")
}

// Whatever is wrong with a configuration, its values are not printed where they may be secrets.
func TestConfiguration_OutputHasNoSecret(t *testing.T) {
	const canary = "canary-5f1e"
	t.Setenv("COPILOT_CANARY", canary)
	t.Setenv("COPILOT_CANARY_YAML", "{a: "+canary+"}")
	for name, text := range map[string]string{
		"the secret is right":            "receivers: {m365_copilot: {auth: {client_secret: '${env:COPILOT_CANARY}'}}}",
		"the secret is a mapping":        "receivers: {m365_copilot: {auth: {client_secret: {a: canary-5f1e}}}}",
		"the secret is a list":           "receivers: {m365_copilot: {auth: {client_secret: [canary-5f1e]}}}",
		"the secret looks like YAML":     "receivers: {m365_copilot: {auth: {client_secret: '${env:COPILOT_CANARY_YAML}'}}}",
		"the secret is the section":      "receivers: {m365_copilot: {auth: canary-5f1e}}",
		"the secret is the receiver":     "receivers: {m365_copilot: canary-5f1e}",
		"the receiver is a list":         "receivers: {m365_copilot: [{client_secret: canary-5f1e}]}",
		"receivers is a list":            "receivers: [{m365_copilot: {client_secret: canary-5f1e}}]",
		"extensions is a list":           "receivers: {m365_copilot: {storage: a}}\nextensions: [canary-5f1e]",
		"service is a list":              "receivers: {m365_copilot: }\nservice: [canary-5f1e]",
		"a header is a mapping":          "receivers: {m365_copilot: {graph: {headers: {authorization: {a: canary-5f1e}}}}}",
		"a proxy has a password":         "receivers: {m365_copilot: {graph: {proxy_url: 'http://user:canary-5f1e@ho st'}}}",
		"a proxy's password has a slash": "receivers: {m365_copilot: {graph: {proxy_url: 'http://user:canary-5f1e/a@host'}}}",
		"a certificate in PEM is none":   "receivers: {m365_copilot: {graph: {tls: {ca_pem: canary-5f1e}}}}",
		"a certificate's key is none":    "receivers: {m365_copilot: {graph: {tls: {cert_pem: canary-5f1e, key_pem: canary-5f1e}}}}",
		"a URL has a password":           "receivers: {m365_copilot: {auth: {authority: 'https://a:canary-5f1e@login.invalid'}}}",
		"the secret begins with a star":  "receivers: {m365_copilot: {auth: {client_secret: *canary-5f1e }}}",
		"the secret begins with !!":      "receivers: {m365_copilot: {auth: {client_secret: !!int canary-5f1e }}}",
		"the line has no colon":          "receivers:\n  m365_copilot:\n    auth:\n      client_secret canary-5f1e\n      client_id: a\n",
		"the quote does not end":         "receivers:\n  m365_copilot: {auth: {client_secret: 'canary-5f1e}}\n",
		"the authenticator has it": "receivers: {m365_copilot: {graph: {auth: {authenticator: oauth2client}}}}\n" +
			"extensions: {oauth2client: {client_secret: canary-5f1e, client_id: {canary-5f1e: 1}}}",
		"the authenticator is it": "receivers: {m365_copilot: {graph: {auth: {authenticator: oauth2client}}}}\n" +
			"extensions: {oauth2client: [canary-5f1e]}",
		"the storage is it": "receivers: {m365_copilot: {storage: file_storage}}\nextensions: {file_storage: [canary-5f1e]}",
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			base := h.configure(t, "", "")[0]
			for _, uris := range [][]string{
				{writeYAML(t, text)},
				{base, writeYAML(t, text)},
				{base, "yaml:" + text},
			} {
				var out bytes.Buffer
				report := checkURIs(t, uris...)
				require.NoError(t, report.WriteText(&out, true))
				require.NoError(t, report.WriteJSON(&out))
				assert.NotContains(t, out.String(), canary)
				assert.NotContains(t, out.String(), secret)
			}
		})
	}
}
