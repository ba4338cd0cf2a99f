// SPDX-License-Identifier: Apache-2.0

//go:build unix

package doctor

import (
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// access returns why this process can't read and write a file, or look for files in a directory and create them. Nothing is touched.
func access(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	mode := uint32(unix.R_OK | unix.W_OK)
	if info.IsDir() {
		mode = unix.W_OK | unix.X_OK
	}
	if err := unix.Access(path, mode); err != nil {
		return &fs.PathError{Op: "access", Path: path, Err: err}
	}
	return nil
}
