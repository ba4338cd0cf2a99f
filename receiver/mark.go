package receiver

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"go.opentelemetry.io/collector/extension/xextension/storage"

	"github.com/otelcopilot/m365copilotreceiver/internal/history"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

const (
	markKey  = "mark"
	owedKey  = "owed"
	knownKey = "known"
)

// debt is a gap that is not open yet, since its end is when a subscription lives again.
type debt struct {
	Reason history.Reason
	From   time.Time
	// Resource is the one whose subscription has to live again, empty for any.
	Resource string
}

// writtenDebt is a debt in storage.
type writtenDebt struct {
	Reason history.Reason `json:"reason"`
	// From is in seconds of Unix time.
	From     int64  `json:"from"`
	Resource string `json:"resource,omitempty"`
}

// records is what continuity keeps in storage. A client that does not answer holds nobody up for longer than a second.
type records struct{ store storage.Client }

const recordTimeout = time.Second

// damagedError is a value that is none, as opposed to a storage that fails.
type damagedError struct{ cause error }

func (e *damagedError) Error() string { return e.cause.Error() }
func (e *damagedError) Unwrap() error { return e.cause }

// instant returns a time in whole seconds, zero for none.
func (r records) instant(ctx context.Context, key string) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	value, err := r.store.Get(ctx, key)
	if err != nil || value == nil {
		return time.Time{}, err
	}
	seconds, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return time.Time{}, &damagedError{err}
	}
	return time.Unix(seconds, 0), nil
}

func (r records) setInstant(ctx context.Context, key string, at time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	return r.store.Set(ctx, key, strconv.AppendInt(nil, at.Unix(), 10))
}

func (r records) owed(ctx context.Context) ([]debt, error) {
	var written []writtenDebt
	if err := r.get(ctx, owedKey, &written); err != nil {
		return nil, err
	}
	debts := make([]debt, 0, len(written))
	for _, w := range written {
		debts = append(debts, debt{Reason: w.Reason, From: time.Unix(w.From, 0), Resource: w.Resource})
	}
	return debts, nil
}

func (r records) setOwed(ctx context.Context, debts []debt) error {
	written := make([]writtenDebt, 0, len(debts))
	for _, d := range debts {
		written = append(written, writtenDebt{Reason: d.Reason, From: d.From.Unix(), Resource: d.Resource})
	}
	return r.set(ctx, owedKey, written)
}

func (r records) known(ctx context.Context) (known []subscription.Known, err error) {
	err = r.get(ctx, knownKey, &known)
	return known, err
}

func (r records) setKnown(ctx context.Context, known []subscription.Known) error {
	return r.set(ctx, knownKey, known)
}

func (r records) get(ctx context.Context, key string, value any) error {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	text, err := r.store.Get(ctx, key)
	if err != nil || text == nil {
		return err
	}
	if err := json.Unmarshal(text, value); err != nil {
		return &damagedError{err}
	}
	return nil
}

func (r records) set(ctx context.Context, key string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode %s: %w", key, err)
	}
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	return r.store.Set(ctx, key, text)
}
