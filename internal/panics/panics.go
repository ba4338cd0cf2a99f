// Package panics turns a panic into an error that is safe to log, so that it costs one delivery and not the process.
package panics

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Error is a panic of a function that Catch called.
type Error struct {
	// Value says what the panic was about. Only what the Go runtime says of its own panics is quoted, such as an index
	// out of range. Any other value may hold what the code worked on, such as the text of a conversation: its type is named.
	Value string
	// Stack is that of the goroutine at the panic, as debug.Stack formats it: places, and addresses in place of arguments.
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
