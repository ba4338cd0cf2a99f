// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

func TestSimulate_DeliversUntilStopped(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tls")
	ctx, end := context.WithCancel(t.Context())
	defer end()
	p := runInBackground(ctx, t, "simulate", "-listen", "127.0.0.1:0", "-tls-dir", dir, "-turns-per-minute", "600", "-require-delivery",
		"-fault", "duplicate=0.1", "-fault", "throttle=0.000001", "-reauthorize-every", "50ms")
	graph := p.expect(`msg=listening graph_endpoint=(\S+) .*tenant_id=` + demoTenant)[1]
	c := newCollector(t, dir)
	c.subscribe(graph)
	p.expect(`msg="subscription created" id=\S+ resource=/copilot/\S+ notification_host=127.0.0.1:`)
	p.expect(`msg="reauthorizationRequired sent" subscriptions=1`)
	require.Eventually(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.decrypted) > 20
	}, 20*time.Second, time.Millisecond)
	end()
	p.expect(`msg=summary subscriptions=1 interactions=\d+ offered=[1-9]\d* acknowledged=[1-9]\d* in_flight=0 lost=0 attempts_refused=0`)
	assert.Equal(t, exitOK, <-p.done)
	c.mu.Lock()
	defer c.mu.Unlock()
	assert.Contains(t, c.decrypted[0], "appClass")
}

func TestSimulate_AwaitSubscriptionSendsEachTurn(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tls")
	ctx, end := context.WithCancel(t.Context())
	defer end()
	p := runInBackground(ctx, t, "simulate", "-listen", "127.0.0.1:0", "-tls-dir", dir, "-turns-per-minute", "600", "-await-subscription")
	graph := p.expect(`msg=listening graph_endpoint=(\S+)`)[1]
	<-time.After(500 * time.Millisecond) // for five turns
	c := newCollector(t, dir)
	c.subscribe(graph)
	require.Eventually(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.decrypted) > 4
	}, 20*time.Second, time.Millisecond)
	end()
	counts := p.expect(`msg=summary subscriptions=1 interactions=(\d+) offered=(\d+)`)
	assert.Equal(t, counts[1], counts[2])
	assert.Equal(t, exitOK, <-p.done)
}

func TestSimulate_FreesPortOnSIGTERM(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tls")
	first, command := start(t, "simulate", "-listen", fixedAddress(t), "-tls-dir", dir, "-turns-per-minute", "6000")
	graph := first.expect(`msg=listening graph_endpoint=(\S+)`)[1]
	c := newCollector(t, dir)
	c.subscribe(graph) // its connection stays open
	c.refusing.Store(true)
	first.expect(`msg=progress .*attempts_refused=[1-9]`)

	require.NoError(t, command.Signal(syscall.SIGTERM))
	begun := time.Now()
	address := strings.TrimPrefix(graph, "http://")
	require.Eventually(t, func() bool {
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
		return err == nil && listener.Close() == nil
	}, drainTime-drainTime/10, time.Millisecond, "a restart need not wait for notifications in flight")
	t.Logf("the port is free after %s", time.Since(begun))
	assert.Empty(t, first.done, "the first one still waits for notifications in flight") // while a busy machine starts the next one it may end
	again, _ := start(t, "simulate", "-listen", address)
	again.expect(`msg=listening`)
	first.expect(`msg=summary`)
	assert.Equal(t, exitOK, <-first.done)
}

// fixedAddress returns a free address whose port nobody gets who asks for any port.
func fixedAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		address := "127.0.0.1:" + strconv.Itoa(10_000+rand.IntN(10_000))
		if listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address); err == nil {
			require.NoError(t, listener.Close())
			return address
		}
	}
	require.FailNow(t, "no port is free")
	return ""
}

func TestSimulate_FailsWithoutRequiredDelivery(t *testing.T) {
	t.Parallel()
	got := runToEnd(t, "simulate", "-listen", "127.0.0.1:0", "-duration", "3s", "-turns-per-minute", "60000", "-require-delivery")
	assert.Equal(t, exitFailed, got.code)
	assert.Contains(t, got.stderr, "no interaction was acknowledged; is the collector running")
	assert.Regexp(t, `msg=summary subscriptions=0 interactions=[1-9]\d* offered=0 acknowledged=0`, got.stderr)
}

func TestSimulate_SucceedsWithoutCollector(t *testing.T) {
	t.Parallel()
	got := runToEnd(t, "simulate", "-listen", "127.0.0.1:0", "-duration", "10ms", "-tls-dir", t.TempDir())
	assert.Equal(t, exitOK, got.code)
	assert.NotContains(t, got.stderr, "warning")
}

func TestWarnRemote_ForNonLoopbackAddress(t *testing.T) {
	t.Parallel()
	for _, address := range []string{":0", "0.0.0.0:0", "192.0.2.1:8080", "graph.example:80"} {
		var stderr testWriter
		require.NoError(t, warnRemote(address, &stderr))
		assert.Contains(t, string(stderr), "can be reached from other machines", address)
	}
	for _, address := range []string{"127.0.0.1:0", "[::1]:80", "localhost:8080"} {
		var stderr testWriter
		require.NoError(t, warnRemote(address, &stderr))
		assert.Empty(t, stderr, address)
	}
}

func TestFaultFlag_String(t *testing.T) {
	t.Parallel()
	f := faultFlag{}
	require.NoError(t, f.Set("throttle=0.1"))
	require.NoError(t, f.Set("drop=1"))
	assert.Equal(t, "drop=1,throttle=0.1", f.String())
}

type testWriter []byte

func (w *testWriter) Write(p []byte) (int, error) {
	*w = append(*w, p...)
	return len(p), nil
}

func TestSimulate_ReportsUnusableTLSDir(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	got := runToEnd(t, "simulate", "-listen", "127.0.0.1:0", "-tls-dir", filepath.Join(file, "below"), "-duration", "1ms")
	assert.Equal(t, exitFailed, got.code)
	assert.Contains(t, got.stderr, "the certificate of the webhook")
}

func TestTurnSchedule_FollowsRate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rate     float64
		interval time.Duration
		elapsed  time.Duration
		due      int
	}{
		{60, time.Second, 3 * time.Second, 3},
		{1, time.Minute, 59 * time.Second, 0},
		{6000, 10 * time.Millisecond, time.Second, 100},
		{600_000, 10 * time.Millisecond, 10 * time.Millisecond, 100},
	} {
		interval, due := turnSchedule(c.rate)
		assert.Equal(t, c.interval, interval)
		assert.Equal(t, c.due, due(c.elapsed), "%g a minute", c.rate)
	}
}

func TestWatchSubscriptions_LogsChanges(t *testing.T) {
	t.Parallel()
	var lines lockedBuffer
	emulator := graphtest.New(graphtest.Settings{TenantID: demoTenant, ClientID: demoClient})
	defer emulator.Close()
	ctx, end := context.WithCancel(t.Context())
	watched := make(chan struct{})
	go func() {
		watchSubscriptions(ctx, emulator, slog.New(slog.NewTextHandler(&lines, nil)))
		close(watched)
	}()
	awaitLine := func(text string) {
		require.Eventually(t, func() bool { return strings.Contains(lines.String(), text) }, 20*time.Second, time.Millisecond, text)
	}
	s, err := emulator.AddSubscription(graphtest.Subscription{
		Resource: "copilot/interactionHistory/getAllEnterpriseInteractions", ChangeType: "created", NotificationURL: "https://collector.example/x",
		Expiration: time.Now().Add(time.Hour),
	})
	require.NoError(t, err)
	awaitLine(`msg="subscription created" id=` + s.ID + ` resource=copilot/interactionHistory/getAllEnterpriseInteractions notification_host=collector.example`)
	require.NoError(t, emulator.ExpireSubscription(s.ID, time.Now().Add(2*time.Hour)))
	awaitLine(`msg="subscription renewed" id=` + s.ID)
	require.NoError(t, emulator.RemoveSubscription(ctx, s.ID, false))
	awaitLine(`msg="subscription ended" id=` + s.ID)
	end()
	<-watched
}

func TestSimulate_LogsFailedSends(t *testing.T) {
	t.Parallel()
	var lines lockedBuffer
	emulator := graphtest.New(graphtest.Settings{TenantID: demoTenant, ClientID: demoClient})
	_, err := emulator.AddSubscription(graphtest.Subscription{
		Resource: "copilot/interactionHistory/getAllEnterpriseInteractions", ChangeType: "created", NotificationURL: "https://127.0.0.1:1/",
		LifecycleNotificationURL: "https://127.0.0.1:1/", Expiration: time.Now().Add(time.Hour),
	})
	require.NoError(t, err)
	emulator.Close()
	log := slog.New(slog.NewTextHandler(&lines, nil))
	reauthorize(t.Context(), emulator, log)
	assert.Contains(t, lines.String(), `msg="reauthorizationRequired was not sent"`)
	ctx, end := context.WithCancel(t.Context())
	published := make(chan struct{})
	go func() {
		turns := graphtest.NewTurns(1, graphtest.TurnSettings{TenantID: demoTenant})
		publishTurns(ctx, emulator, turns.Next, nil, options{turnsPerMinute: maxTurnsPerMinute}, log)
		close(published)
	}()
	require.Eventually(t, func() bool { return strings.Contains(lines.String(), `msg="a turn was not published"`) }, 20*time.Second, time.Millisecond)
	end()
	<-published
}

type lockedBuffer struct {
	mu     sync.Mutex // guards what follows
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

func TestSimulate_RolesFlag(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"as they come": {nil, []string{"AiEnterpriseInteraction.Read.All", "User.Read.All"}},
		"others":       {[]string{"-roles", "A, B"}, []string{"A", "B"}},
		"none":         {[]string{"-roles", ""}, []string{}},
	} {
		o, err := parseSimulate(c.args, io.Discard, io.Discard)
		require.NoError(t, err, name)
		assert.Equal(t, c.want, o.settings.Roles, name)
	}
}

func TestSimulate_HasCompanyOfLicensedUsers(t *testing.T) {
	t.Parallel()
	for _, users := range []int{1, 2, 3, 4, 5, 100} {
		emulator := graphtest.New(graphtest.Settings{TenantID: demoTenant, ClientID: demoClient})
		t.Cleanup(emulator.Close)
		assert.Len(t, setCompany(emulator, options{users: users}), users)
	}
	ctx, end := context.WithCancel(t.Context())
	defer end()
	p := runInBackground(ctx, t, "simulate", "-listen", "127.0.0.1:0", "-users", "5")
	graph := p.expect(`msg=listening graph_endpoint=(\S+)`)[1]
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, graph+"/v1.0/users?$select=displayName,department", http.NoBody)
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+(&fakeCollector{t: t}).login(graph))
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	var page struct {
		Value []struct{ DisplayName, Department string }
	}
	require.NoError(t, json.NewDecoder(response.Body).Decode(&page))
	assert.Len(t, page.Value, 7, "5 of them are licensed")
	assert.NotEmpty(t, page.Value[0].DisplayName)
	end()
	p.expect(`msg=summary .*directory_requests=1`)
	assert.Equal(t, exitOK, <-p.done)
}

func TestSimulate_EnforcesRoles(t *testing.T) {
	t.Parallel()
	ctx, end := context.WithCancel(t.Context())
	defer end()
	p := runInBackground(ctx, t, "simulate", "-listen", "127.0.0.1:0", "-roles", "User.Read.All")
	graph := p.expect(`msg=listening graph_endpoint=(\S+)`)[1]
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, graph+"/v1.0/copilot/users/x/interactionHistory/getAllEnterpriseInteractions", http.NoBody)
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+(&fakeCollector{t: t}).login(graph))
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	assert.Equal(t, http.StatusForbidden, response.StatusCode)
	end()
	p.expect(`msg=summary .*history_requests=1`)
	assert.Equal(t, exitOK, <-p.done)
}
