package webhook

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

// How many bodies are decoded at once. Those of strangers are gone after a few nanoseconds for each of their bytes, so the
// queue is short even if they fill all the room there is; and those of usual size do not wait for large ones.
const (
	maxDecodingSmall = 2
	maxDecodingLarge = 1
)

// decoders returns where an element is held while a body of this length is decoded.
func (h *Handler) decoders(length int) chan struct{} {
	if length > smallReservation {
		return h.decodingLarge
	}
	return h.decodingSmall
}

// decode reads the items that are ours, and charges the share for them before it makes them. What belongs to strangers is
// counted and leaves nothing. The collection is nil where there is nothing to deliver, and then there is the answer.
func (h *Handler) decode(ctx context.Context, read *body, share *Reservation, arrived time.Time) (*notification.Collection, answer) {
	defer read.release()
	waiting, cancel := context.WithTimeout(ctx, h.settings.timeLeft(arrived))
	defer cancel()
	ours, err := h.settings.Decrypter.ClientStates(waiting)
	if err != nil {
		return nil, answer{status: http.StatusServiceUnavailable, outcome: Failed}
	}
	decoders := h.decoders(read.length)
	select {
	case decoders <- struct{}{}:
	case <-waiting.Done():
		h.overloaded(arrived)
		return nil, answer{status: http.StatusServiceUnavailable, outcome: Overloaded}
	}
	defer func() { <-decoders }()
	var collection *notification.Collection
	var instead answer
	read.whole(func(all []byte) { collection, instead = h.decodeWhole(ctx, all, ours, share, arrived) })
	return collection, instead
}

func (h *Handler) decodeWhole(
	ctx context.Context, all []byte, ours func([]byte) bool, share *Reservation, arrived time.Time,
) (*notification.Collection, answer) {
	envelope, err := notification.Inspect(all, ours)
	if err != nil {
		if limit, ok := errors.AsType[*notification.LimitError](err); ok {
			h.settings.Rejections.Reject(ctx, limit.Rejected)
		}
		return nil, answer{status: http.StatusBadRequest, outcome: Malformed, closes: true}
	}
	if envelope.Foreign > 0 {
		h.settings.Rejections.Reject(ctx, []notification.Rejection{notification.ForeignItems(envelope.Foreign)})
	}
	if envelope.OwnItems() == 0 {
		return nil, answer{status: http.StatusAccepted, closes: true}
	}
	if !share.deliver(int64(len(all)) + envelope.Cost()) {
		h.settings.Overloaded(arrived)
		return nil, answer{status: http.StatusServiceUnavailable, outcome: Overloaded}
	}
	return envelope.Decode(), answer{}
}
