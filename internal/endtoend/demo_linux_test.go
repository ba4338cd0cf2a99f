// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// maxDemoMemory is what all processes of the demonstration may take together, in KiB.
const maxDemoMemory = 1.5 * (1 << 20)

// All that happened before the demonstration is in the log view, in little memory; and nothing is left of it afterwards.
// It is not parallel, because a demonstration that starts takes all processors for some seconds.
func TestDemo_ShowsAllHistory(t *testing.T) {
	skipIfShort(t, "it starts databases")
	d := startDemo(t)
	newest := d.newestOfHistory(t)
	text, err := newest.MarshalText()
	require.NoError(t, err)
	query := `{event_name="microsoft.copilot.interaction"} _time:<=` + string(text) + ` | stats count_uniq(log.record.uid) as n`
	awaitEqual(t, true, func() bool { return d.queryLogs(t, query)[0]["n"] == strconv.Itoa(d.publishedUntil(t, newest)) }, waitTimeout)

	children := childrenOf(t, d.command.Process.Pid)
	require.Len(t, children, 6)
	memory := residentMemory(t, d.command.Process.Pid)
	for _, child := range children {
		memory += residentMemory(t, child)
	}
	t.Logf("memory of all processes: %d MiB", memory/1024)
	assert.Less(t, float64(memory), maxDemoMemory)

	d.end(t)
	assert.Equal(t, 0, d.command.ProcessState.ExitCode())
	for _, child := range children {
		assert.NoDirExists(t, procPath(child, ""))
	}
	left, err := os.ReadDir(d.temporary)
	require.NoError(t, err)
	assert.Empty(t, left)
}

// newestOfHistory returns the time of the last interaction of the history.
func (d *demoHarness) newestOfHistory(t *testing.T) (newest time.Time) {
	t.Helper()
	for _, one := range d.published(t) {
		if one.History {
			newest = latest(newest, one.Created)
		}
	}
	return newest
}

// publishedUntil returns how many interactions were created until a time. The first of the day that goes on are created some seconds before
// they are published, and may be among them.
func (d *demoHarness) publishedUntil(t *testing.T, end time.Time) (n int) {
	t.Helper()
	for _, one := range d.published(t) {
		if !one.Created.After(end) {
			n++
		}
	}
	require.Greater(t, n, 10_000)
	return n
}

func procPath(pid int, file string) string { return filepath.Join("/proc", strconv.Itoa(pid), file) }

// childrenOf returns the processes that a process has started and that run.
func childrenOf(t *testing.T, parent int) (children []int) {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(t, err)
	for _, path := range processes {
		pid, err := strconv.Atoi(filepath.Base(path))
		require.NoError(t, err)
		if value, found := statusOf(pid, "PPid"); found && value == strconv.Itoa(parent) {
			children = append(children, pid)
		}
	}
	return children
}

// residentMemory returns the memory that a process takes, with what it shares with others, in KiB.
func residentMemory(t *testing.T, pid int) (kib int) {
	t.Helper()
	value, found := statusOf(pid, "VmRSS")
	require.True(t, found)
	kib, err := strconv.Atoi(strings.TrimSuffix(value, " kB"))
	require.NoError(t, err)
	return kib
}

// statusOf returns a value of /proc/PID/status; false if the process has ended.
func statusOf(pid int, name string) (value string, found bool) {
	text, err := os.ReadFile(procPath(pid, "status"))
	if err != nil {
		return "", false // it has ended, maybe while the file was read
	}
	for line := range strings.Lines(string(text)) {
		if key, rest, _ := strings.Cut(line, ":"); key == name {
			return strings.TrimSpace(rest), true
		}
	}
	return "", false
}
