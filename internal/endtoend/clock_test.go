package endtoend_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// Tests of a wrong clock need a process whose clock is wrong, and a machine's clock is not theirs to set. Libraries that
// are loaded before a program, such as libfaketime, do nothing here, since Go asks the kernel for the time without libc.
// So the collector is built once more, from what ocb made of it, with a package time whose functions add what is in a file
// that the test and the process both have in their memory. Everything else in that binary is as in the one for users.

// textPatch is a text of package time, how often it is there, and what it becomes.
type textPatch struct {
	text, replacement string
	times             int
}

var clockPatches = []textPatch{
	{"sec, nsec, mono := runtimeNow()\n", "sec, nsec, mono := shift(runtimeNow())\n", 1},
	{"subMono(runtimeNano()-startNano, t.ext)", "subMono(shiftMonotonic(runtimeNano())-startNano, t.ext)", 1},
	{"subMono(t.ext, runtimeNano()-startNano)", "subMono(t.ext, shiftMonotonic(runtimeNano())-startNano)", 1},
}

// collectorWithClock is the path of a collector whose clock a test can set. It is built when it is first asked for, which is
// for tests to do before they run in parallel: others measure time, and a build leaves little of it.
func collectorWithClock(t *testing.T) string {
	t.Helper()
	path, err := buildCollectorWithClock()
	require.NoError(t, err)
	return path
}

var buildCollectorWithClock = sync.OnceValues(func() (string, error) {
	source := filepath.Dir(filepath.Join(root, collectorTarget))
	if _, err := os.Stat(filepath.Join(source, "go.mod")); errors.Is(err, fs.ErrNotExist) { // as $COLLECTOR is used instead
		if err := makeCollector(); err != nil {
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

// writeClockOverlay writes what replaces files of package time in a build in the given directory, and returns its path.
func writeClockOverlay(source string) (string, error) {
	asked := exec.Command("go", "env", "GOROOT") //nolint:noctx // it returns at once
	asked.Dir = source
	goroot, err := asked.Output()
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

// clock sets the clocks of the collectors of a site.
type clock struct{ shifts *[2]int64 }

// clock gives the collectors of this site a clock that can be set, and binary is where it can be.
func (h *harness) clock(t *testing.T, binary string) *clock {
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
	return &clock{(*[2]int64)(unsafe.Pointer(&page[0]))}
}

// setOffset makes the clock differ from the right time by so much from now on. As when a machine's clock is set, or when it wakes
// up, the monotonic clock does not notice.
func (c *clock) setOffset(off time.Duration) { atomic.StoreInt64(&c.shifts[0], int64(off/time.Second)) }

// advance lets time pass at once. Only timers under way do not notice.
func (c *clock) advance(d time.Duration) {
	atomic.AddInt64(&c.shifts[1], int64(d/time.Second))
	atomic.AddInt64(&c.shifts[0], int64(d/time.Second))
}
