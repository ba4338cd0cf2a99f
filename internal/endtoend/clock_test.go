// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// Tests of a wrong clock need a process whose clock is wrong, without setting the machine's clock. Preloaded libraries such
// as libfaketime have no effect, since Go asks the kernel for the time without libc. So the collector is built once more,
// from the source that ocb generated, with a package time whose functions add offsets from a file that both the test and
// the process map into memory. Everything else in that binary is as in the released one.

// textPatch replaces a text of package time, which must occur the given number of times.
type textPatch struct {
	text, replacement string
	times             int
}

var clockPatches = []textPatch{
	{"sec, nsec, mono := runtimeNow()\n", "sec, nsec, mono := shift(runtimeNow())\n", 1},
	{"subMono(runtimeNano()-startNano, t.ext)", "subMono(shiftMonotonic(runtimeNano())-startNano, t.ext)", 1},
	{"subMono(t.ext, runtimeNano()-startNano)", "subMono(t.ext, shiftMonotonic(runtimeNano())-startNano)", 1},
}

// collectorWithClock returns the path of a collector whose clock a test can set. The first call builds it. Tests call it
// before they run in parallel, since other tests measure time and a build would disturb them. They are skipped with -short.
func collectorWithClock(t *testing.T) string {
	t.Helper()
	skipIfShort(t, "it builds the collector once more")
	path, err := buildCollectorWithClock()
	require.NoError(t, err)
	return path
}

var buildCollectorWithClock = sync.OnceValues(func() (string, error) {
	source := filepath.Dir(filepath.Join(root, collectorTarget))
	if _, err := os.Stat(filepath.Join(source, "go.mod")); errors.Is(err, fs.ErrNotExist) { // as $COLLECTOR is used instead
		if err := build(collectorTarget); err != nil {
			return "", err
		}
	}
	overlay, err := writeClockOverlay(source)
	if err != nil {
		return "", err
	}
	binary, err := filepath.Abs(filepath.Join(tempDir, "otelcol-with-clock"))
	if err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-overlay="+overlay, "-o", binary, ".") //nolint:noctx // see main_test.go
	build.Dir = source
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the collector with a clock that can be set: %w\n%s", err, out)
	}
	return binary, nil
})

// writeClockOverlay writes an overlay that patches package time for a build in the given directory, and returns its path.
func writeClockOverlay(source string) (string, error) {
	query := exec.Command("go", "env", "GOROOT") //nolint:noctx // it returns immediately
	query.Dir = source
	goroot, err := query.Output()
	if err != nil {
		return "", fmt.Errorf("ask for GOROOT: %w", err)
	}
	original := filepath.Join(strings.TrimSpace(string(goroot)), "src", "time", "time.go")
	text, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	changed := string(text)
	for _, d := range clockPatches {
		if n := strings.Count(changed, d.text); n != d.times {
			return "", fmt.Errorf("%s has %q %d times, not %d: this version of Go asks for the time in another way", original, d.text, n, d.times)
		}
		changed = strings.ReplaceAll(changed, d.text, d.replacement)
	}
	replaced, err := filepath.Abs(filepath.Join(tempDir, "time.go"))
	if err != nil {
		return "", err
	}
	added, err := filepath.Abs(filepath.Join("testdata", "clock.go"))
	if err != nil {
		return "", err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		original: replaced, filepath.Join(filepath.Dir(original), "zclock.go"): added,
	}})
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(replaced), "overlay.json")
	return path, errors.Join(os.WriteFile(replaced, []byte(changed), 0o600), os.WriteFile(path, overlay, 0o600))
}

// clock sets the clocks of the collectors of a harness, and lets time pass for them and for the emulator.
type clock struct {
	shifts   *[2]int64
	emulator *graphtest.Emulator
	passed   time.Duration
}

// clock makes this harness run binary, a collector with a clock that can be set, and returns that clock.
func (h *collectorHarness) clock(t *testing.T, binary string) *clock {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "clock"))
	require.NoError(t, err)
	size := int(unsafe.Sizeof([2]int64{}))
	require.NoError(t, file.Truncate(int64(size)))
	page, err := syscall.Mmap(int(file.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	t.Cleanup(func() { require.NoError(t, syscall.Munmap(page)) })
	h.binary, h.environment = binary, append(h.environment, "CLOCK="+file.Name())
	return &clock{shifts: (*[2]int64)(unsafe.Pointer(&page[0])), emulator: h.emulator}
}

// setOffset sets the difference of the wall clock from the right time. As when a machine's clock is set, the monotonic clock is not
// affected.
func (c *clock) setOffset(off time.Duration) { atomic.StoreInt64(&c.shifts[0], int64(off/time.Second)) }

// advance lets time pass. Running timers are not affected.
func (c *clock) advance(d time.Duration) {
	atomic.AddInt64(&c.shifts[1], int64(d/time.Second))
	c.suspend(d)
}

// suspend lets time pass while the collector's host is suspended, which stops its monotonic clock.
func (c *clock) suspend(d time.Duration) {
	c.passed += d
	c.emulator.SetClock(c.passed)
	atomic.AddInt64(&c.shifts[0], int64(d/time.Second))
}

func TestClock_TenMinutesBehindLosesNothing(t *testing.T) {
	binary := collectorWithClock(t)
	t.Parallel()
	h := newCollectorHarness(t, "receivers: {m365_copilot: {subscription: {check_interval: 5m}}}", withDirectory)
	clock := h.clock(t, binary)
	clock.setOffset(-10 * time.Minute)
	h.run(t)
	h.awaitSubscribed(t)
	kept := prompt(t, 0, user(0), time.Now())
	h.publish(t, kept)
	h.awaitAcknowledged(t, 1)
	clock.setOffset(0) // between two checks, so that it is a pause like any other
	h.advanceToHourlyPass(t, clock)
	h.backend.await(t, interactionKeys(t, kept), waitTimeout)
}

func TestClock_WrongTimeZoneLosesNothing(t *testing.T) {
	binary := collectorWithClock(t)
	t.Parallel()
	h := newCollectorHarness(t, "receivers: {m365_copilot: {subscription: {lifetime: 60h}}}", withDirectory, withShortTokens)
	clock := h.clock(t, binary)
	clock.setOffset(8 * time.Hour)
	collector := h.run(t)
	h.awaitSubscribed(t)
	kept := prompt(t, 0, user(0), time.Now())
	h.publish(t, kept)
	h.awaitAcknowledged(t, 1)
	collector.awaitLine(t, "history read", 90*time.Second) // by Graph's clock the minute of the item must be over
	clock.setOffset(0)
	h.backend.await(t, interactionKeys(t, kept), waitTimeout)
}

func TestClock_FourMinutesBehindBackfillsRefused(t *testing.T) {
	binary := collectorWithClock(t)
	t.Parallel()
	h := newCollectorHarness(t, withoutQueue, withDirectory, withShortRetry)
	clock := h.clock(t, binary)
	clock.setOffset(-4 * time.Minute) // and tokens are taken
	h.run(t)
	h.awaitSubscribed(t)
	h.backend.stop()
	refused := prompt(t, 0, user(0), time.Now())
	h.publish(t, refused)
	h.awaitLost(t, 1)
	h.backend.start(t)
	clock.advance(4*time.Hour + 31*time.Minute)
	h.backend.await(t, interactionKeys(t, refused), waitTimeout)
}

// A clock that is ten days ahead when the collector stops leaves times in the state that lie in the future, or makes all that is
// missing look older than max_gap. With the right clock the next run finds everything, once.
func TestClock_TenDaysAheadAtShutdownLosesNothing(t *testing.T) {
	binary := collectorWithClock(t)
	t.Parallel()
	const ahead = 10 * 24 * time.Hour
	for name, test := range map[string]struct {
		interval string
		// before is the clock's offset at the start, checks how many checks follow once it is ten days ahead.
		before time.Duration
		checks int
	}{
		"since the start":            {"1s", ahead, 2},
		"for several checks":         {"1s", 0, 3},
		"since the last check alone": {"1h", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newCollectorHarness(t, "receivers: {m365_copilot: {subscription: {check_interval: "+test.interval+"}}}", withDirectory, func(settings *graphtest.Settings) {
				settings.RetryFor = 3 * time.Second
				// So that Graph grants what a clock ten days ahead asks for, and its tokens are valid by that clock.
				settings.MaxLifetime, settings.ValidationTokenLifetime = 20*24*time.Hour, 20*24*time.Hour
			})
			clock := h.clock(t, binary)
			clock.setOffset(test.before)
			first := h.run(t)
			h.awaitSubscribed(t)
			in := prompts(t, 60, 5)
			h.publish(t, in[:20]...)
			h.backend.await(t, interactionKeys(t, in[:20]...), waitTimeout)
			clock.setOffset(ahead)
			ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
			defer cancel()
			require.NoError(t, h.emulator.WaitRequests(ctx, graphtest.OpList, len(h.emulator.Requests(graphtest.OpList))+test.checks))
			first.terminate(t)

			h.publish(t, in[20:40]...)
			require.NoError(t, h.emulator.Wait(ctx, func(stats graphtest.Stats) bool { return stats.Lost >= 20 }), "graph stops retrying")
			for _, subscription := range h.emulator.Subscriptions() {
				require.NoError(t, h.emulator.ExpireSubscription(subscription.ID, time.Now()))
			}
			clock.setOffset(0)
			second := h.run(t)
			h.backend.await(t, interactionKeys(t, in[:40]...), waitTimeout)
			second.awaitLine(t, "history read", waitTimeout)
			h.awaitSubscribed(t)
			h.publish(t, in[40:]...)
			h.backend.await(t, interactionKeys(t, in...), waitTimeout)
			assert.Zero(t, h.backend.duplicates())
			for _, run := range []*process{first, second} {
				assert.Empty(t, run.linesWith("these interactions are lost"), "nothing is given up")
			}
		})
	}
}

// advanceToHourlyPass lets an hour pass, and opens one more gap so that the collector checks what is due.
func (h *collectorHarness) advanceToHourlyPass(t *testing.T, clock *clock) {
	t.Helper()
	clock.advance(61 * time.Minute)
	c, err := h.emulator.Collection(prompt(t, 1, user(0), time.Now().Add(-30*time.Minute)))
	require.NoError(t, err)
	c.ValidationTokens = []string{h.emulator.Token(func(claims map[string]any) { claims["exp"] = shifted(claims["exp"], -48*time.Hour) })}
	_, err = h.emulator.Post(t.Context(), c)
	require.NoError(t, err)
}

// withShortTokens makes Graph send validation tokens that are invalid after an hour.
func withShortTokens(settings *graphtest.Settings) {
	settings.ValidationTokenLifetime = 30 * time.Minute
}

// hourlyChecks disables frequent checks of the subscription, so that the collector reacts to notifications only.
const hourlyChecks = "receivers: {m365_copilot: {subscription: {check_interval: 1h}}}"

// A clock an hour ahead is reported, and the notifications that it rejects are backfilled hourly.
func TestClock_OneHourAheadBackfillsHourly(t *testing.T) {
	binary := collectorWithClock(t)
	t.Parallel()
	h := newCollectorHarness(t, hourlyChecks, withDirectory, withShortTokens)
	clock := h.clock(t, binary)
	clock.setOffset(time.Hour)
	collector := h.run(t)
	h.awaitSubscribed(t)
	in := prompts(t, 290, 5) // of five minutes
	h.publish(t, in[:10]...)
	line := collector.awaitLine(t, "notification rejected", waitTimeout)
	assert.Contains(t, line, "token_expired")
	assertTimes(t, line, time.Now().Add(30*time.Minute), time.Now().Add(time.Hour))
	h.backend.await(t, interactionKeys(t, in[:10]...), waitTimeout)
	assert.Contains(t, collector.awaitLine(t, "history read", 90*time.Second), `"reasons": ["unverified"]`)

	h.publish(t, in[10:200]...)
	h.awaitAcknowledged(t, 200)
	clock.advance(time.Hour)
	h.publish(t, in[200:]...) // it is these that have the collector look, since its timers do not know that it is time
	h.awaitAcknowledged(t, 290)
	h.backend.await(t, interactionKeys(t, in...), waitTimeout)
	assert.Equal(t, map[string]int{"history": 290}, h.backend.recordsBySource(), "no notification was accepted, and each was found once")

	clock.setOffset(0)
	fresh := prompt(t, 290, user(0), time.Now())
	h.publish(t, fresh)
	h.backend.await(t, interactionKeys(t, fresh), waitTimeout)
	assert.Equal(t, map[string]int{"history": 290, "notification": 1}, h.backend.recordsBySource())
}

// A clock an hour behind is reported, and the notifications that it rejected are backfilled once it is set.
func TestClock_OneHourBehindBackfillsOnceSet(t *testing.T) {
	binary := collectorWithClock(t)
	t.Parallel()
	h := newCollectorHarness(t, "", withDirectory)
	clock := h.clock(t, binary)
	clock.setOffset(-time.Hour)
	collector := h.run(t)
	h.awaitSubscribed(t)
	in := prompts(t, 20, 5)
	h.publish(t, in[:10]...)
	line := collector.awaitLine(t, "notification rejected", waitTimeout)
	assert.Contains(t, line, "token_not_yet_valid")
	assertTimes(t, line, time.Now(), time.Now().Add(-time.Hour))
	h.awaitAcknowledged(t, 10)
	assert.Empty(t, h.backend.recordsBySource(), "no notification was accepted, and by this clock none of it has happened yet")

	clock.setOffset(0)
	h.publish(t, in[10:]...)
	h.backend.await(t, interactionKeys(t, in...), waitTimeout)
	collector.awaitLine(t, `"unverified"`, waitTimeout)
	assert.Zero(t, h.backend.duplicates())
}

func TestClock_TooFarAheadToSubscribeIsReported(t *testing.T) {
	binary := collectorWithClock(t)
	t.Parallel()
	h := newCollectorHarness(t, "")
	clock := h.clock(t, binary)
	clock.setOffset(61 * time.Minute) // and a subscription of 71 hours is requested, of at most 72
	collector := h.run(t)
	line := collector.awaitLine(t, "subscription fails", waitTimeout)
	assert.Contains(t, line, "set the clock of the collector's host")
	assert.Empty(t, h.emulator.Subscriptions())
	clock.setOffset(0)
	collector.awaitLine(t, "subscription failure is over", waitTimeout)
	h.awaitSubscribed(t)
	in := prompts(t, 10, 2)
	h.publish(t, in...)
	h.backend.await(t, interactionKeys(t, in...), waitTimeout)
}

// awaitAcknowledged waits until the collector has accepted or rejected n interactions.
func (h *collectorHarness) awaitAcknowledged(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	require.NoError(t, h.emulator.WaitDelivered(ctx, n))
}

var utc = regexp.MustCompile(`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)

// assertTimes asserts that a line contains these times, within a minute, and the hint to check the clock.
func assertTimes(t *testing.T, line string, want ...time.Time) {
	t.Helper()
	assert.Contains(t, line, "check the clock of this machine")
	found := utc.FindAllString(line, -1)
	require.Len(t, found, len(want), line)
	for i := range want {
		at, err := time.Parse(time.RFC3339, found[i])
		require.NoError(t, err)
		assert.WithinDuration(t, want[i], at, time.Minute)
	}
}

func TestClock_OneHourOffIsReported(t *testing.T) {
	t.Parallel()
	for reason, shift := range map[string]time.Duration{"token_expired": -25 * time.Hour, "token_not_yet_valid": time.Hour} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			h := newCollectorHarness(t, "")
			collector := h.run(t)
			h.awaitSubscribed(t)
			c, err := h.emulator.Collection(prompts(t, 1, 1)...)
			require.NoError(t, err)
			c.ValidationTokens = []string{h.emulator.Token(func(claims map[string]any) {
				for _, name := range []string{"iat", "nbf", "exp"} {
					claims[name] = shifted(claims[name], shift)
				}
			})}
			status, err := h.emulator.Post(t.Context(), c)
			require.NoError(t, err)
			assert.Equal(t, 202, status)
			line := collector.awaitLine(t, reason, waitTimeout)
			assert.Contains(t, line, "clock")
		})
	}
}

func shifted(claim any, by time.Duration) any {
	switch seconds := claim.(type) {
	case int64:
		return seconds + int64(by.Seconds())
	case float64:
		return seconds + by.Seconds()
	default:
		return claim
	}
}
