// SPDX-License-Identifier: Apache-2.0

// Package panics converts a panic to an error that is safe to log, so that one delivery fails instead of the process.
package panics

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Error is a panic in a function that Catch called.
type Error struct {
	// Value describes the value of the panic. It is the message only for panics of the Go runtime, such as an index out of
	// range. Any other value may contain processed data, such as the text of a conversation, so only its type is given.
	Value string
	// Stack is the stack of the goroutine at the panic as formatted by debug.Stack, which contains arguments only as addresses.
	Stack []byte
}

func (e *Error) Error() string { return "panic: " + e.Value }

// Catch calls f and returns its error, or an *Error if it panics.
func Catch(f func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &Error{Value: describe(value), Stack: debug.Stack()}
		}
	}()
	return f()
}

func describe(value any) string {
	if own, ok := value.(runtime.Error); ok {
		return own.Error()
	}
	return fmt.Sprintf("a value of type %T", value)
}
