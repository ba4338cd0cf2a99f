// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package main

import "syscall"

// ownGroup changes nothing: Ctrl-C reaches all programs at once.
func ownGroup() *syscall.SysProcAttr { return nil }
