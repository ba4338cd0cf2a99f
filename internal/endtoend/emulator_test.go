// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

const (
	tenant = "6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10"
	client = "1a2b3c4d-5e6f-4a0b-8c1d-2e3f4a5b6c7d"
	secret = "the-right-secret"

	waitTimeout = 30 * time.Second

	// validFor is the validity of certificates of which the receiver has nothing to warn.
	validFor = 365 * 24 * time.Hour
)

// deadline returns a context for what must happen soon.
func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	t.Cleanup(cancel)
	return ctx
}

// newEmulator starts an emulated tenant. It returns the URL of Graph and Entra ID, and a certificate for the webhook that Graph
// trusts.
func newEmulator(tb testing.TB, change ...func(*graphtest.Settings)) (emulator *graphtest.Emulator, url string, webhook graphtest.Pair) {
	tb.Helper()
	pair, err := graphtest.ServerCertificate(365 * 24 * time.Hour)
	require.NoError(tb, err)
	roots := x509.NewCertPool()
	require.True(tb, roots.AppendCertsFromPEM(pair.Certificate))
	settings := graphtest.Settings{
		TenantID: tenant, ClientID: client, ClientSecret: secret, RootCAs: roots, NoListLimit: true,
		RetryDelay: 100 * time.Millisecond, MaxRetryDelay: time.Second,
	}
	for _, c := range change {
		c(&settings)
	}
	emulator = graphtest.New(settings)
	url, err = emulator.Start("")
	require.NoError(tb, err)
	tb.Cleanup(emulator.Close)
	return emulator, url, pair
}

// user returns the object id of the nth user.
func user(n int) string { return fmt.Sprintf("b2a7c9e4-5d31-4f0c-8e62-%012d", n) }

// prompts returns n prompts of the last ten minutes by the given number of users.
func prompts(tb testing.TB, n, users int) []graphtest.Interaction {
	tb.Helper()
	all := make([]graphtest.Interaction, n)
	for i := range all {
		all[i] = prompt(tb, i, user(i%users), time.Now().Add(-time.Minute-time.Duration(i%500)*time.Second))
	}
	return all
}

// prompt returns the first interaction of the nth conversation.
func prompt(tb testing.TB, n int, user string, at time.Time) graphtest.Interaction {
	tb.Helper()
	return promptIn(tb, n, user, at, nil)
}

// promptIn returns the same in an app class, nil for none.
func promptIn(tb testing.TB, n int, user string, at time.Time, appClass any) graphtest.Interaction {
	tb.Helper()
	text, err := json.Marshal(map[string]any{
		"id": strconv.FormatInt(at.UnixMilli(), 10), "sessionId": "19:" + strconv.Itoa(n), "requestId": strconv.Itoa(n),
		"interactionType": "userPrompt", "createdDateTime": at.UTC().Format(time.RFC3339Nano), "appClass": appClass,
		"from": map[string]any{"user": map[string]any{"id": user}},
	})
	require.NoError(tb, err)
	return graphtest.Interaction{JSON: text}
}

// interactionKeys returns the keys by which the backend counts interactions.
func interactionKeys(tb testing.TB, interactions ...graphtest.Interaction) []string {
	tb.Helper()
	all := make([]string, len(interactions))
	for i, each := range interactions {
		var name struct{ ID, SessionID string }
		require.NoError(tb, json.Unmarshal(each.JSON, &name))
		all[i] = name.SessionID + " " + name.ID
	}
	return all
}

// lastPort is the last port that freeAddress returned. The system assigns no ports below 32768 to connections or to listeners
// of port 0, so that a released port, as in a restart, stays free.
var lastPort atomic.Int32

// freeAddress returns an address that no other test gets.
func freeAddress(tb testing.TB) string {
	tb.Helper()
	lastPort.CompareAndSwap(0, 20_000+rand.Int32N(5_000))
	for range 1000 {
		address := "127.0.0.1:" + strconv.Itoa(int(lastPort.Add(1)))
		if isFree(tb, address) {
			return address
		}
	}
	require.FailNow(tb, "no port is free")
	return ""
}

// isFree listens briefly. No process may be started meanwhile, since it would hold the listener for an instant.
func isFree(tb testing.TB, address string) bool {
	tb.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	listener, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", address)
	if err != nil {
		return false
	}
	require.NoError(tb, listener.Close())
	return true
}
