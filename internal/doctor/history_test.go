// SPDX-License-Identifier: Apache-2.0

package doctor_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/directory"
	"github.com/otelcopilot/m365copilotreceiver/internal/doctor"
	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

// historyOf is the YAML that reads the history of users.
func historyOf(users ...string) string {
	return "    history: {users: [" + strings.Join(users, ", ") + "]}"
}

// promptText must not be in any output.
const promptText = "canary text of a prompt"

// polled is the YAML without subscription, and rest what stands beside receivers.
const (
	polled = "    subscription: {notification_url: ''}\n    history: {poll_interval: 5m, users: [b2a7c9e4-5d31-4f0c-0000-000000000001]}\n" +
		"    storage: redis_storage"
	polledRest = "extensions: {redis_storage: {endpoint: 'localhost:1'}}\nservice: {extensions: [redis_storage]}"
)

// prompt is one of a minute ago.
func prompt(user string) graphtest.Interaction {
	return graphtest.Interaction{JSON: fmt.Appendf(nil, `{"id": "1", "sessionId": "s", "requestId": "r", "interactionType": "userPrompt",
		"createdDateTime": %q, "from": {"user": {"id": %q}}, "body": {"contentType": "text", "content": %q}}`,
		time.Now().Add(-time.Minute).UTC().Format(time.RFC3339), user, promptText)}
}

func TestHistory_CanBeRead(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		prepare func(e *graphtest.Emulator)
		yaml    string
		read    map[string]int
	}{
		"of the first configured user": {
			yaml: historyOf(userID(1), userID(2)),
			read: map[string]int{userID(1): 1},
		},
		"of the second, if the first has no license": {
			prepare: func(e *graphtest.Emulator) { e.SetUnlicensed(userID(1)) },
			yaml:    historyOf(userID(1), userID(2)),
			read:    map[string]int{userID(1): 1, userID(2): 1},
		},
		"of a licensed user of the directory": {
			prepare: func(e *graphtest.Emulator) {
				e.SetRoles(graphtest.RoleReadAll, graphtest.RoleUsersReadAll)
				e.SetUsers(userID(3))
			},
			read: map[string]int{userID(3): 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			if test.prepare != nil {
				test.prepare(h.emulator)
			}
			for user := range test.read {
				require.NoError(t, h.emulator.AddHistory(prompt(user)))
			}
			g := h.checkReading(t, "history", test.yaml, "")
			assert.Equal(t, []doctor.Check{{Mark: doctor.OK, Found: "the history of one user can be read"}}, g.Checks)
			assert.Equal(t, test.read, h.emulator.HistoryRequests())
		})
	}
}

func TestHistory_OfUserSeenInEarlierRun(t *testing.T) {
	t.Parallel()
	h, stored := newHarness(t), t.TempDir()
	write(t, stored, receiverID, func(client storage.Client) {
		users := directory.New(directory.Settings{Store: statestore.New(client), Logger: zap.NewNop()})
		users.Seen(userID(5))
		require.NoError(t, users.Save(t.Context()))
	})
	g := h.checkReading(t, "history", "    storage: file_storage", inDirectory(stored, ""))
	require.Equal(t, doctor.OK, g.Mark(), "%+v", g)
	assert.Equal(t, map[string]int{userID(5): 1}, h.emulator.HistoryRequests())
}

// Graph also answers 403 for reasons that concern one user, as for the receiver.
func TestHistory_OneUserIsDenied(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.emulator.Fail(graphtest.OpHistory, graphtest.Fault{Status: http.StatusForbidden, Times: 1})
	g := h.checkReading(t, "history", historyOf(userID(1), userID(2)), "")
	assert.Equal(t, []doctor.Check{{Mark: doctor.OK, Found: "the history of one user can be read"}}, g.Checks)
}

func TestHistory_CanNotBeRead(t *testing.T) {
	t.Parallel()
	unsupported := graphtest.Fault{Status: http.StatusNotFound, Code: "NotFound", Message: "Requested API is not supported."}
	for name, test := range map[string]struct {
		prepare    func(e *graphtest.Emulator)
		yaml, rest string
		mark       doctor.Mark
		code       failure.Code
		found      string
		requests   int
	}{
		"the permission is missing, which notifications need as well": {
			prepare: func(e *graphtest.Emulator) { e.SetRoles() },
			mark:    doctor.Fail, code: failure.PermissionMissing, found: "read history: Graph answered 403", requests: 1,
		},
		"this cloud has no history, and notifications come": {
			prepare: func(e *graphtest.Emulator) { e.Fail(graphtest.OpHistory, unsupported) },
			mark:    doctor.Warn, code: failure.NotOffered, found: "read history: Graph answered 404", requests: 1,
		},
		"this cloud has no history, which is the only source": {
			prepare: func(e *graphtest.Emulator) { e.Fail(graphtest.OpHistory, unsupported) },
			yaml:    polled, rest: polledRest,
			mark: doctor.Fail, code: failure.NotOffered, found: "read history: Graph answered 404", requests: 1,
		},
		"no user that is tried has a license": {
			prepare: func(e *graphtest.Emulator) { e.SetUnlicensed(userID(1), userID(2), userID(3)) },
			yaml:    historyOf(userID(1), userID(2), userID(3), userID(4)),
			mark:    doctor.Warn, code: failure.LicenseMissing, found: "the users that were tried, 3, have no history", requests: 3,
		},
		"Graph is unavailable": {
			prepare: func(e *graphtest.Emulator) {
				e.Fail(graphtest.OpHistory, graphtest.Fault{Status: http.StatusServiceUnavailable})
			},
			mark: doctor.Warn, code: failure.Unavailable, found: "read history: Graph answered 503", requests: 1,
		},
		"Graph does not answer": {
			prepare: func(e *graphtest.Emulator) { e.Fail(graphtest.OpHistory, graphtest.Fault{Delay: time.Minute}) },
			mark:    doctor.Warn, code: failure.Unreachable, found: "read history: 127.0.0.1", requests: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			test.prepare(h.emulator)
			if test.yaml == "" {
				test.yaml = historyOf(userID(1))
			}
			g := h.checkReading(t, "history", test.yaml, test.rest)
			require.Len(t, g.Checks, 1)
			c := g.Checks[0]
			assert.Equal(t, test.mark, c.Mark)
			assert.Equal(t, test.code, c.Code, c.Found)
			assert.Contains(t, c.Found, test.found)
			assert.NotEmpty(t, c.Hint)
			assert.Len(t, h.emulator.HistoryRequests(), test.requests)
		})
	}
}

// What needs Graph is skipped with the reason where Graph can't be asked.
func TestSkipped_SaysWhy(t *testing.T) {
	t.Parallel()
	const noToken, unreached = "there is no access token", "Microsoft Graph was not reached"
	for name, test := range map[string]struct {
		prepare                func(h *harness)
		yaml                   string
		subscriptions, history string // empty: not skipped
	}{
		"Graph is not reached": {
			prepare:       func(h *harness) { h.emulator.StopListening() },
			subscriptions: unreached, history: unreached,
		},
		"the secret is wrong": {
			yaml:          "    auth: {client_secret: wrong}\n" + historyOf(userID(1)),
			subscriptions: noToken, history: noToken,
		},
		"the history is turned off":                {yaml: "    history: {enabled: false}", history: "history.enabled is false"},
		"no user is configured, and none is known": {history: "no user is known yet: one in history.users would be tried"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			if test.prepare != nil {
				test.prepare(h)
			}
			r := h.check(t, test.yaml, "")
			for name, reason := range map[string]string{"subscriptions": test.subscriptions, "history": test.history} {
				g := group(t, r, name)
				if reason == "" {
					assert.Equal(t, doctor.OK, g.Mark(), "%+v", g)
					continue
				}
				assert.Equal(t, []doctor.Check{{Mark: doctor.Skip, Found: reason}}, g.Checks)
			}
		})
	}
}
