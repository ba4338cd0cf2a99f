// SPDX-License-Identifier: Apache-2.0

//go:build unix && !linux

package main

import "syscall"

// ownGroup puts a program into a process group of its own, so that Ctrl-C reaches this process alone, which then stops the others in
// order.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
