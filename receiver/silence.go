package receiver

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/history"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

const heardKey = "heard"

// silence notices that Graph could not reach the webhook, as with an ingress or a certificate that is broken: Graph still
// lists the subscription then, sends again for 4 hours, and gives up without a word. What arrives after a long silence and
// is older than Graph is ever late was sent in vain before; then the whole silence is a gap.
type silence struct {
	records records
	logger  *zap.Logger
	gaps    book
	// owed is since when a gap is going to be opened for another cause, zero for none. It may be nil.
	owed func(now time.Time) time.Time

	mu sync.Mutex // guards what follows
	// heard is when Graph reached the webhook last, whatever became of it; zero for never.
	heard time.Time
	// from and to are those of the last long silence, zero for none, and after its gap is open. One that begins while what
	// was sent in vain may still come goes on with the one before.
	from, to time.Time
	// explainedFrom and explainedTo are those of the last gap that was opened for another cause: what is late from there
	// says nothing new.
	explainedFrom, explainedTo time.Time
	changed, failing           bool
}

// load reads when something arrived last in an earlier run. Without it a silence begins with this run.
func (s *silence) load(ctx context.Context) {
	at, err := s.records.instant(ctx, heardKey)
	if err != nil {
		s.logger.Warn("the time of the last notification can't be read and is replaced", zap.Error(err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = at
}

// save is called by one at a time.
func (s *silence) save(ctx context.Context) {
	s.mu.Lock()
	heard, changed := s.heard, s.changed
	s.changed = false
	s.mu.Unlock()
	if !changed {
		return
	}
	err := s.records.setInstant(ctx, heardKey, heard)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = s.changed || err != nil
	if err != nil && !s.failing {
		s.logger.Warn("the time of the last notification can't be kept", zap.Error(err))
	}
	s.failing = err != nil
}

// needed is from when on deliveries must still be known, should the present silence, or the last one, turn out to have
// been an outage; zero for no silence.
func (s *silence) needed(now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.to.IsZero() && now.Sub(s.to) <= retrySpan:
		return s.from.Add(-lateness)
	case !s.heard.IsZero() && now.Sub(s.heard) > lateness:
		return s.heard.Add(-lateness)
	default:
		return time.Time{}
	}
}

// reached notes that Graph reached the webhook.
func (s *silence) reached(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now = now.Round(0)
	if !s.heard.IsZero() && now.Sub(s.heard) > lateness {
		if s.to.IsZero() || now.Sub(s.to) > retrySpan {
			s.from = s.heard
		}
		s.to = now
	}
	s.heard, s.changed = now, true
}

// explain says that a gap was opened which does not need this one's attention.
func (s *silence) explain(from, to time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.explainedFrom, s.explainedTo = from, to
}

// arrived looks at authentic interactions that Graph sent, but for those that it was asked to send again.
func (s *silence) arrived(ctx context.Context, received []interaction.Received, now time.Time) {
	var owed time.Time
	if s.owed != nil {
		owed = s.owed(now)
	}
	from, to, found := s.broken(received, now.Round(0), owed)
	if !found {
		return
	}
	s.logger.Warn("notifications arrive late after a silence: graph could not reach the webhook, and may have given some of them up; check the ingress, its certificate and its DNS name",
		zap.Time("from", from), zap.Time("to", to))
	s.gaps.Open(history.Gap{Reason: history.Subscription, From: from.Add(-lateness), To: to.Add(settling)})
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	_ = s.gaps.Flush(ctx) // A failure is logged there, and the gap stays known in memory.
}

// broken returns a silence that turns out to have been an outage, once.
func (s *silence) broken(received []interaction.Received, now, owed time.Time) (from, to time.Time, found bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.to.IsZero() || now.Sub(s.to) > retrySpan {
		return time.Time{}, time.Time{}, false
	}
	for i := range received {
		if !s.late(&received[i], now, owed) {
			continue
		}
		from, to = s.from, s.to
		s.from, s.to = time.Time{}, time.Time{}
		return from, to, true
	}
	return time.Time{}, time.Time{}, false
}

// late tells whether an interaction was sent in vain in the silence. It is called with mu held.
func (s *silence) late(received *interaction.Received, now, owed time.Time) bool {
	at, told := received.CreatedAt()
	if !owed.IsZero() && at.After(owed) {
		return false
	}
	within := func(from, to time.Time) bool { return !at.Before(from) && !at.After(to) }
	return told && received.Change == interaction.Created && now.Sub(at) > lateness &&
		within(s.from.Add(-lateness), s.to) && !within(s.explainedFrom, s.explainedTo)
}
