// SPDX-License-Identifier: Apache-2.0

package doctor_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/otelcopilot/m365copilotreceiver/internal/doctor"
	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
)

// asOther calls a function as a user other than root: root may write everywhere. Only this thread changes its user.
func asOther(t *testing.T, call func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		call()
		return
	}
	const unprivileged, root = 65534, 0
	runtime.LockOSThread()
	_, _, failed := unix.RawSyscall(unix.SYS_SETRESUID, unprivileged, unprivileged, root)
	require.Zero(t, failed)
	defer func() {
		_, _, failed = unix.RawSyscall(unix.SYS_SETRESUID, root, root, root)
		require.Zero(t, failed)
		runtime.UnlockOSThread()
	}()
	call()
}

// openTo lets everybody into the directories of a test.
func openTo(t *testing.T, directory string, mode os.FileMode) {
	t.Helper()
	require.NoError(t, os.Chmod(filepath.Dir(directory), 0o755))
	require.NoError(t, os.Chmod(directory, mode))
	t.Cleanup(func() { _ = os.Chmod(directory, 0o700) })
}

func TestStorage_UserMayWrite(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		directory, file os.FileMode
		below, keys     string
		want            string
	}{
		"the directory can't be written to":  {0o555, 0o666, "", "", "this user can't write to it: "},
		"it can't be looked into":            {0o600, 0o666, "", "", ""},
		"it can't be created":                {0o555, 0o666, "a", ", create_directory: true", "it can't be created in "},
		"it can't be, however deep it is":    {0o555, 0o666, "a/b/c", ", create_directory: true", "it can't be created in "},
		"the receiver's file can't be read":  {0o777, 0o200, "", "", "this user can't read and write the receiver's file, run the doctor as the collector's user"},
		"the receiver's file is only for it": {0o777, 0o444, "", "", "this user can't read and write the receiver's file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			directory := t.TempDir()
			writeGaps(t, directory, gap.State{Checkpoint: time.Now()})
			files, err := filepath.Glob(filepath.Join(directory, "*"))
			require.NoError(t, err)
			require.Len(t, files, 1)
			require.NoError(t, os.Chmod(files[0], test.file))
			openTo(t, directory, test.directory)
			h := newHarness(t)
			openTo(t, h.dir, 0o755)
			configs := h.configure(t, "    storage: file_storage", inDirectory(filepath.Join(directory, test.below), test.keys))
			for _, config := range configs {
				require.NoError(t, os.Chmod(config, 0o644))
			}
			asOther(t, func() {
				g := group(t, checkURIs(t, configs...), "storage")
				requireCheck(t, g, doctor.Fail, failure.StorageNotWritable, test.want)
			})
		})
	}
}
