package receiver

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"go.opentelemetry.io/collector/extension/xextension/storage"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
)

const (
	checkpointKey  = "mark"
	pendingGapsKey = "owed"
	knownKey       = "known"
)

// pendingGap is a gap that is not open yet, since its end is when a subscription lives again.
type pendingGap struct {
	Reason backfill.Reason
	From   time.Time
	// Resource is the one whose subscription has to live again, empty for any.
	Resource string
}

// storedGap is a debt in storage.
type storedGap struct {
	Reason backfill.Reason `json:"reason"`
	// From is in seconds of Unix time.
	From     int64  `json:"from"`
	Resource string `json:"resource,omitempty"`
}

// stateRecords is what continuity keeps in storage. A client that does not answer holds nobody up for longer than a second.
type stateRecords struct{ store storage.Client }

const recordTimeout = time.Second

// corruptError is a value that is none, as opposed to a storage that fails.
type corruptError struct{ cause error }

func (e *corruptError) Error() string { return e.cause.Error() }
func (e *corruptError) Unwrap() error { return e.cause }

// instant returns a time in whole seconds, zero for none.
func (r stateRecords) instant(ctx context.Context, key string) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	value, err := r.store.Get(ctx, key)
	if err != nil || value == nil {
		return time.Time{}, err
	}
	seconds, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return time.Time{}, &corruptError{err}
	}
	return time.Unix(seconds, 0), nil
}

func (r stateRecords) setInstant(ctx context.Context, key string, at time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	return r.store.Set(ctx, key, strconv.AppendInt(nil, at.Unix(), 10))
}

func (r stateRecords) pendingGaps(ctx context.Context) ([]pendingGap, error) {
	var written []storedGap
	if err := r.get(ctx, pendingGapsKey, &written); err != nil {
		return nil, err
	}
	debts := make([]pendingGap, 0, len(written))
	for _, w := range written {
		debts = append(debts, pendingGap{Reason: w.Reason, From: time.Unix(w.From, 0), Resource: w.Resource})
	}
	return debts, nil
}

func (r stateRecords) setPendingGaps(ctx context.Context, debts []pendingGap) error {
	written := make([]storedGap, 0, len(debts))
	for _, d := range debts {
		written = append(written, storedGap{Reason: d.Reason, From: d.From.Unix(), Resource: d.Resource})
	}
	return r.set(ctx, pendingGapsKey, written)
}

func (r stateRecords) known(ctx context.Context) (known []subscription.Known, err error) {
	err = r.get(ctx, knownKey, &known)
	return known, err
}

func (r stateRecords) setKnown(ctx context.Context, known []subscription.Known) error {
	return r.set(ctx, knownKey, known)
}

func (r stateRecords) get(ctx context.Context, key string, value any) error {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	text, err := r.store.Get(ctx, key)
	if err != nil || text == nil {
		return err
	}
	if err := json.Unmarshal(text, value); err != nil {
		return &corruptError{err}
	}
	return nil
}

func (r stateRecords) set(ctx context.Context, key string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode %s: %w", key, err)
	}
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	return r.store.Set(ctx, key, text)
}
