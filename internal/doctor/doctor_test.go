// SPDX-License-Identifier: Apache-2.0

package doctor_test

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/doctor"
	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

const (
	tenant = "84bd8158-6d4d-4958-8b9f-9d6445542f95"
	client = "8e460676-ae3f-4b1e-8790-ee0fb5d6148f"
	secret = "canary-client-secret"
)

// harness is an emulated tenant and a configuration of a collector for it.
type harness struct {
	emulator *graphtest.Emulator
	url      string
	dir      string
	// roots must have issued the certificate of the notification URL.
	roots *x509.CertPool
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	h := &harness{dir: t.TempDir()}
	h.emulator = graphtest.New(graphtest.Settings{TenantID: tenant, ClientID: client, ClientSecret: secret, NoListLimit: true})
	t.Cleanup(h.emulator.Close)
	var err error
	h.url, err = h.emulator.Start("")
	require.NoError(t, err)
	return h
}

// configure writes a configuration of which receiver is the YAML of one m365_copilot receiver beside its tenant, credential and endpoints, and rest
// what stands beside receivers. It returns the files.
func (h *harness) configure(t *testing.T, receiver, rest string) (files []string) {
	t.Helper()
	receiver = cmp.Or(receiver, "    {}") // null would remove what base.yaml has
	file := filepath.Join(h.dir, "collector.yaml")
	base := filepath.Join(h.dir, "base.yaml")
	require.NoError(t, os.WriteFile(base, fmt.Appendf(nil, `
receivers:
  m365_copilot:
    tenant_id: %s
    auth: {client_id: %s, client_secret: %s, authority: %q}
    graph: {endpoint: %q}
    subscription: {notification_url: "https://copilot.invalid/graph/notifications"}
exporters: {nop: }
service: {pipelines: {logs: {receivers: [m365_copilot], exporters: [nop]}}}
`, tenant, client, secret, h.url, h.url), 0o600))
	require.NoError(t, os.WriteFile(file, []byte("receivers:\n  m365_copilot:\n"+receiver+"\n"+rest), 0o600))
	return []string{base, file}
}

// check makes all checks of such a configuration.
func (h *harness) check(t *testing.T, receiver, rest string) doctor.Report {
	t.Helper()
	return doctor.Run(t.Context(), doctor.Settings{URIs: h.configure(t, receiver, rest), Timeout: 10 * time.Second, RootCAs: h.roots})
}

// group returns the checks of a group of the only receiver.
func group(t *testing.T, r doctor.Report, name string) doctor.Group {
	t.Helper()
	require.Len(t, r.Instances, 1)
	for _, g := range r.Instances[0].Groups {
		if g.Name == name {
			return g
		}
	}
	var text bytes.Buffer
	_ = r.WriteText(&text, true)
	require.Failf(t, "no such group", "%s in\n%s", name, text.String())
	return doctor.Group{}
}

// Each group that a right configuration has is there, with the reason for which it was skipped.
func TestRun_WrongConfigurationSkipsOtherGroups(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	wrong := h.check(t, "    cloud: mars", "")
	assert.Empty(t, h.emulator.Requests())
	var names []string
	for _, g := range h.check(t, "", "").Instances[0].Groups {
		names = append(names, g.Name)
	}
	var text, object bytes.Buffer
	require.NoError(t, wrong.WriteText(&text, false))
	require.NoError(t, wrong.WriteJSON(&object))
	assert.Equal(t, len(names)+2, bytes.Count(text.Bytes(), []byte("\n")), "a line for each, one with a fix, and the verdict:\n%s", text.String())
	for _, name := range names[1:] {
		assert.Contains(t, text.String(), fmt.Sprintf("skip  %-16s  the receiver's configuration is wrong\n", name))
		assert.Contains(t, object.String(), fmt.Sprintf("%q", name))
	}
	assert.Contains(t, text.String(), fmt.Sprintf("fail: 1 failed, 0 to look at, %d skipped;", len(names)-1))
}

// What is not checked is no success: not for want of time, and not after an interrupt.
func TestRun_CutShortFails(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	r := doctor.Run(t.Context(), doctor.Settings{URIs: h.configure(t, "", ""), Timeout: time.Nanosecond})
	assert.Equal(t, doctor.Fail, r.Mark())
	cut := group(t, r, "network").Checks
	require.Len(t, cut, 1)
	assert.Equal(t, failure.ChecksCutShort, cut[0].Code)
	for _, name := range []string{"token", "permissions", "notification URL", "subscriptions", "history"} {
		assert.Equal(t, []doctor.Check{{Mark: doctor.Skip, Found: "no time was left"}}, group(t, r, name).Checks)
	}
}
