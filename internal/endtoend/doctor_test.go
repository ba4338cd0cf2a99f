// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// doctor runs the operator's tool with the configuration of the collector. The tool trusts the certificate of the webhook.
func (h *collectorHarness) doctor(t *testing.T, flags ...string) (out string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, tool, append([]string{"doctor"}, append(h.configFlags(), flags...)...)...)
	command.Env = append(append(os.Environ(), h.variables()...), "SSL_CERT_FILE="+filepath.Join(h.overlay, "server.crt"))
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err, code = nil, exit.ExitCode()
	}
	require.NoError(t, err, stderr.String())
	t.Logf("exit code %d\n%s%s", code, stdout.String(), stderr.String())
	return stdout.String() + stderr.String(), code
}

// newDoctorHarness is a tenant with a company whose directory may be read, and with the history of its users.
func newDoctorHarness(t *testing.T, overlay string) *collectorHarness {
	t.Helper()
	h := newCollectorHarness(t, overlay, func(s *graphtest.Settings) {
		s.Roles = []string{graphtest.RoleReadAll, graphtest.RoleUsersReadAll}
	})
	h.emulator.SetDirectory(graphtest.Company(1, 20)...)
	return h
}

func TestDoctor_AllWellIsTwelveLines(t *testing.T) {
	t.Parallel()
	for name, running := range map[string]bool{"before the first start": false, "while the collector runs": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newDoctorHarness(t, "")
			if running {
				h.run(t)
				h.awaitSubscribed(t)
			}
			out, code := h.doctor(t)
			assert.Zero(t, code)
			lines := strings.Split(strings.TrimSpace(out), "\n")
			assert.LessOrEqual(t, len(lines), 12)
			for _, line := range lines {
				assert.True(t, strings.HasPrefix(line, "ok"), line)
			}
			_, code = h.doctor(t, "--fail-on", "warn")
			assert.Zero(t, code)
		})
	}
}

func TestDoctor_ChangesNothing(t *testing.T) {
	t.Parallel()
	h := newDoctorHarness(t, "")
	collector := h.run(t)
	h.awaitSubscribed(t)
	in := prompts(t, 20, 4)
	h.publish(t, in...)
	h.backend.await(t, interactionKeys(t, in...), waitTimeout)
	collector.terminate(t)
	files, subscriptions := h.files(t), h.emulator.Subscriptions()
	requests := len(h.emulator.Requests())
	out, code := h.doctor(t, "--verbose")
	assert.Zero(t, code, out)
	assert.Equal(t, files, h.files(t))
	assert.Equal(t, subscriptions, h.emulator.Subscriptions())
	for _, r := range h.emulator.Requests()[requests:] {
		if r.Operation != graphtest.OpToken {
			assert.Equal(t, "GET", r.Method, r.Path)
		}
	}
	assert.NotEmpty(t, h.emulator.Requests()[requests:])
	assert.True(t, isFree(t, h.webhook), "the doctor's own listener is closed")
}

// files returns what is known of each file of the storage and of the configuration.
func (h *collectorHarness) files(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, dir := range []string{h.storage, h.overlay, filepath.Dir(h.ownConfig)} {
		require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			var content []byte
			if !d.IsDir() {
				if content, err = os.ReadFile(path); err != nil {
					return err
				}
			}
			all[path] = fmt.Sprintf("%s %d %s %x", info.Mode(), info.Size(), info.ModTime(), sha256.Sum256(content))
			return nil
		}))
	}
	return all
}

func TestDoctor_NothingAnswersWithin15Seconds(t *testing.T) {
	t.Parallel()
	unresponsive := newUnresponsiveListener(t)
	h := newDoctorHarness(t, "")
	h.configure(t, fmt.Sprintf(`
receivers:
  m365_copilot:
    auth: {authority: "http://%s"}
    graph: {endpoint: "http://%s"}
`, unresponsive, unresponsive))
	h.public = unresponsive
	began := time.Now()
	out, code := h.doctor(t)
	assert.Less(t, time.Since(began), 15*time.Second)
	assert.Equal(t, 1, code)
	for _, says := range []string{"COP103", "graph.endpoint", "auth.authority", "COP337"} {
		assert.Contains(t, out, says)
	}
}

// newUnresponsiveListener returns an address that accepts connections and never answers.
func newUnresponsiveListener(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

func TestDoctor_WaitsUntilAllIsWell(t *testing.T) {
	t.Parallel()
	h := newDoctorHarness(t, "")
	h.emulator.Fail(graphtest.OpToken, graphtest.Fault{Status: 503, Times: 1})
	out, code := h.doctor(t, "--wait", "1m")
	assert.Zero(t, code)
	assert.Contains(t, out, "checking again")
}

func TestDoctor_WaitEnds(t *testing.T) {
	t.Parallel()
	h := newDoctorHarness(t, "")
	h.environment = []string{"COPILOT_CLIENT_SECRET=wrong"}
	began := time.Now()
	out, code := h.doctor(t, "--wait", "5s")
	assert.Equal(t, 1, code)
	assert.GreaterOrEqual(t, time.Since(began), 2*time.Second)
	assert.Contains(t, out, "COP201")
}

// The exit code follows --fail-on.
func TestDoctor_ExitCodes(t *testing.T) {
	t.Parallel()
	// Each doctor has an address of its own, on which it listens itself.
	warns := func(t *testing.T) *collectorHarness {
		t.Helper()
		return newCollectorHarness(t, "", func(s *graphtest.Settings) { s.Roles = []string{graphtest.RoleReadAll} })
	}
	fails := func(t *testing.T) *collectorHarness {
		t.Helper()
		h := newDoctorHarness(t, "")
		h.environment = []string{"COPILOT_CLIENT_SECRET=wrong"}
		return h
	}
	for _, test := range []struct {
		name       string
		newHarness func(*testing.T) *collectorHarness
		flags      []string
		code       int
	}{
		{"a warning is no failure", warns, nil, 0},
		{"a warning fails where that is asked for", warns, []string{"--fail-on", "warn"}, 1},
		{"a failure fails", fails, nil, 1},
		{"a failure is only shown where that is asked for", fails, []string{"--fail-on", "never"}, 0},
		{"wrong usage", fails, []string{"--output", "xml"}, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, code := test.newHarness(t).doctor(t, test.flags...)
			assert.Equal(t, test.code, code)
		})
	}
}

var hintLine = regexp.MustCompile(`(?m)^ +fix: \S`)

// No secret, no token, no id of a user and no text of a conversation is printed, whatever fails.
func TestDoctor_PrintsNoSecrets(t *testing.T) {
	t.Parallel()
	const canary = "canary-9c1f"
	people := graphtest.Company(1, 20)
	for _, test := range []struct {
		name, overlay string
		fail          func(*collectorHarness)
	}{
		{"all is well", "", func(*collectorHarness) {}},
		{"the token request is refused", "", func(h *collectorHarness) {
			h.environment = []string{"COPILOT_CLIENT_SECRET=" + canary}
		}},
		{
			"a setting of the secret can't be decoded", "receivers: {m365_copilot: {auth: {client_secret: {" + canary + ": x}}}}",
			func(*collectorHarness) {},
		},
		{"a secret in the query of the notification URL", "receivers: {m365_copilot: {subscription: {notification_url: \"https://copilot.invalid/n?key=" +
			canary + "\"}}}", func(*collectorHarness) {}},
		{
			"a proxy with a password", "receivers: {m365_copilot: {graph: {proxy_url: \"http://user:" + canary + "@127.0.0.1:1\"}}}",
			func(*collectorHarness) {},
		},
		{"Graph refuses to read a user, and quotes", "", func(h *collectorHarness) {
			for _, op := range []graphtest.Operation{graphtest.OpHistory, graphtest.OpUser} {
				h.emulator.Fail(op, graphtest.Fault{Status: 403, Message: "user " + people[0].ID + " said " + canary})
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newDoctorHarness(t, test.overlay)
			said := prompt(t, 1, people[0].ID, time.Now())
			said.JSON = bytes.Replace(said.JSON, []byte("{"), []byte(`{"body":{"contentType":"text","content":"`+canary+`"},`), 1)
			require.NoError(t, h.emulator.AddHistory(said))
			test.fail(h)
			for _, flags := range [][]string{{"--verbose"}, {"--output", "json"}} {
				out, _ := h.doctor(t, flags...)
				for _, no := range []string{canary, secret, "eyJ", "PRIVATE KEY"} {
					assert.NotContains(t, out, no)
				}
				for _, p := range people {
					assert.NotContains(t, out, p.ID)
				}
			}
		})
	}
}

// Every check that is not well names a code and what to do.
func TestDoctor_EachFailureHasCodeAndHint(t *testing.T) {
	t.Parallel()
	h := newCollectorHarness(t, "receivers: {m365_copilot: {storage: nowhere}}")
	h.environment = []string{"COPILOT_CLIENT_SECRET=wrong"}
	out, code := h.doctor(t, "--output", "json")
	assert.Equal(t, 1, code)
	var report struct {
		Mark      string `json:"mark"`
		Instances []struct {
			Groups []struct {
				Name   string `json:"name"`
				Checks []struct{ Mark, Code, Found, Hint string }
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(out), &report))
	assert.Equal(t, "fail", report.Mark)
	var codes []string
	for _, i := range report.Instances {
		for _, g := range i.Groups {
			for _, c := range g.Checks {
				assert.NotEmpty(t, c.Found, g.Name)
				if c.Mark == "warn" || c.Mark == "fail" {
					assert.Regexp(t, `^COP\d{3}$`, c.Code, c.Found)
					assert.NotEmpty(t, c.Hint, c.Found)
					codes = append(codes, c.Code)
				}
			}
		}
	}
	assert.Subset(t, codes, []string{"COP016", "COP201"})
	text, _ := h.doctor(t)
	assert.Regexp(t, hintLine, text)
}

// Each receiver of a configuration is checked.
func TestDoctor_ChecksEachReceiver(t *testing.T) {
	t.Parallel()
	h := newDoctorHarness(t, "")
	h.configure(t, fmt.Sprintf(`
receivers:
  m365_copilot/other:
    tenant_id: %s
    auth: {client_id: %s, client_secret: wrong, authority: %q}
    graph: {endpoint: %q}
    history: {poll_interval: 5m, reconcile: {interval: 0s}}
    storage: file_storage
service:
  pipelines:
    logs: {receivers: [m365_copilot, m365_copilot/other]}
`, tenant, client, h.graphURL, h.graphURL))
	out, code := h.doctor(t)
	assert.Equal(t, 1, code)
	assert.True(t, slices.Contains(strings.Split(out, "\n"), "m365_copilot/other"), "a heading for each")
	assert.Contains(t, out, "COP201")
}
