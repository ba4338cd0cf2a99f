// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package doctor

import "os"

// access returns why this process can't reach a file or a directory. Whether it may write there only a write would show.
func access(path string) error {
	_, err := os.Stat(path)
	return err
}
