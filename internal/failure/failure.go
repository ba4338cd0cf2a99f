// SPDX-License-Identifier: Apache-2.0

// Package failure lists what can go wrong, by what fixes it: each failure has a code that stays the same in all versions, and a
// hint that tells the operator what to do. Log lines, component status and documentation name a failure by its code.
package failure

import (
	"errors"
	"fmt"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Code identifies a failure, such as COP101. A code is never reused for another failure.
type Code string

// Failure is what the operator is told about an error.
type Failure struct {
	// Code is empty if the failure is none of those listed.
	Code Code
	// Hint is one sentence with a suggested fix.
	Hint string
}

// New returns the failure of a code. The arguments are those of the verbs in its hint.
func New(code Code, args ...any) Failure {
	hint := hints()[code]
	if len(args) > 0 {
		hint = fmt.Sprintf(hint, args...)
	}
	return Failure{Code: code, Hint: hint}
}

// Of returns the failure of an error: that of the first error in its tree with a method Failure, else the zero Failure.
func Of(err error) Failure {
	if failed, ok := errors.AsType[interface {
		error
		Failure() Failure
	}](err); ok {
		return failed.Failure()
	}
	return Failure{}
}

// With returns the error with a failure, nil for nil. The text of the error stays the same.
func With(err error, failure Failure) error {
	if err == nil {
		return nil
	}
	return &failedError{error: err, failure: failure}
}

// Explain returns the error with the code and the hint of its failure in its text, for readers who see nothing else: the
// Collector logs the text of an error that ends it. Joined errors are explained one by one.
func Explain(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, one := range joined.Unwrap() {
			all = append(all, Explain(one))
		}
		return errors.Join(all...)
	}
	if f := Of(err); f.Code != "" {
		return fmt.Errorf("%w (%s: %s)", err, f.Code, f.Hint)
	}
	return err
}

// WithDefault returns the error with the failure of a code unless it has one already, nil for nil. The caller knows the area of the
// error, and so where to look.
func WithDefault(err error, code Code) error {
	if Of(err).Code != "" {
		return err
	}
	return With(err, New(code))
}

type failedError struct {
	error
	failure Failure
}

func (e *failedError) Unwrap() error    { return e.error }
func (e *failedError) Failure() Failure { return e.failure }

// Level returns the level of the log line of a failure that lasts: an error if nothing arrives until somebody changes the
// configuration or the tenant, as for tokens, permissions and subscriptions, else a warning.
func (f Failure) Level() zapcore.Level {
	if strings.HasPrefix(string(f.Code), "COP2") || strings.HasPrefix(string(f.Code), "COP3") {
		return zapcore.ErrorLevel
	}
	return zapcore.WarnLevel
}

// Fields returns the log fields code and hint of a failure, none of the zero Failure.
func (f Failure) Fields() []zap.Field {
	if f.Code == "" {
		return nil
	}
	return []zap.Field{zap.String("code", string(f.Code)), zap.String("hint", f.Hint)}
}
