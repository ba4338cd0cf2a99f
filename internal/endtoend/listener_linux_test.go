// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The receiver is in a pipeline of logs and one of metrics, and the Collector knows each as a component of its own.
func TestListener_DeathEndsCollector(t *testing.T) {
	t.Parallel()
	h := newCollectorHarness(t, "")
	p := h.run(t)
	h.awaitSubscribed(t)

	p.closeListener(t, h.webhook)

	select {
	case <-p.ended:
	case <-time.After(waitTimeout):
		require.FailNow(t, "the collector continues without a listener")
	}
	assert.Positive(t, p.command.ProcessState.ExitCode(), "a supervisor restarts what failed")
	assert.Len(t, p.linesWith("Asynchronous error received"), 1)
	assert.Contains(t, p.linesWith("Asynchronous error received")[0], "webhook.endpoint: the listener on "+h.webhook+" failed")
}

// closeListener shuts down the listening socket of the process at an address, as the kernel does when the interface goes away.
func (p *process) closeListener(t *testing.T, address string) {
	t.Helper()
	process, err := unix.PidfdOpen(p.command.Process.Pid, 0)
	require.NoError(t, err)
	defer func() { _ = unix.Close(process) }()
	descriptor, err := unix.PidfdGetfd(process, p.listener(t, address), 0)
	require.NoError(t, err)
	defer func() { _ = unix.Close(descriptor) }()
	require.NoError(t, unix.Shutdown(descriptor, unix.SHUT_RDWR))
}

// listener returns the descriptor with which the process listens at an IPv4 address.
func (p *process) listener(t *testing.T, address string) (descriptor int) {
	t.Helper()
	own := fmt.Sprintf("/proc/%d/", p.command.Process.Pid)
	sockets, err := os.ReadFile(own + "net/tcp")
	require.NoError(t, err)
	at, err := net.ResolveTCPAddr("tcp", address)
	require.NoError(t, err)
	port := fmt.Sprintf(":%04X", at.Port)
	const listening = "0A"
	for line := range strings.Lines(string(sockets)) {
		fields := strings.Fields(line)
		if !strings.HasSuffix(fields[1], port) || fields[3] != listening {
			continue
		}
		inode := "socket:[" + fields[9] + "]"
		links, err := filepath.Glob(own + "fd/*")
		require.NoError(t, err)
		for _, link := range links {
			if target, err := os.Readlink(link); err == nil && target == inode {
				_, err := fmt.Sscan(filepath.Base(link), &descriptor)
				require.NoError(t, err)
				return descriptor
			}
		}
	}
	require.FailNow(t, "the process does not listen", "at %s", address)
	return 0
}
