package receiver

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/health"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// silenceDetector notices that Graph could not reach the webhook, as with an ingress or a certificate that is broken: Graph still
// lists the subscription then, retries for 4 hours, and gives up without notice. If an interaction arrives after a long
// silence and is older than Graph's maximum delay, earlier attempts failed; then the whole silence is a gap.
type silenceDetector struct {
	state  stateRecords
	logger *zap.Logger
	gaps   gapStore
	// pendingGapSince returns since when a gap is going to be opened for another cause, zero for none. It may be nil.
	pendingGapSince func(now time.Time) time.Time

	mu sync.Mutex // guards what follows
	// lastReached is when Graph reached the webhook last, whatever the outcome, firstReached when it first did in this run;
	// zero for never.
	lastReached, firstReached time.Time
	// loaded is true once the state of an earlier run was read; until then it is not overwritten.
	loaded bool
	// silences are the long ones that ended so recently that interactions of failed attempts may still arrive, the oldest
	// first: at most five.
	silences []silentInterval
	// explainedFrom and explainedTo delimit the last gap that was opened for another cause: late interactions of that time
	// need no further gap.
	explainedFrom, explainedTo time.Time
	changed                    bool
	failure                    health.Reminder
}

// silentInterval is an interval in which nothing arrived.
type silentInterval struct{ from, to time.Time }

// needed returns the time from which the dedupe cache must be retained in case the current silence, or the last one, turns
// out to have been an outage; zero for no silence.
func (s *silenceDetector) needed(now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(now)
	switch {
	case len(s.silences) > 0:
		return s.silences[0].from.Add(-maxNotificationDelay)
	case !s.lastReached.IsZero() && now.Sub(s.lastReached) > maxNotificationDelay:
		return s.lastReached.Add(-maxNotificationDelay)
	default:
		return time.Time{}
	}
}

// reached notes that Graph reached the webhook.
func (s *silenceDetector) reached(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now = now.Round(0)
	s.forget(now)
	if !s.lastReached.IsZero() && now.Sub(s.lastReached) > maxNotificationDelay {
		s.silences = append(s.silences, silentInterval{s.lastReached, now})
	}
	if s.firstReached.IsZero() {
		s.firstReached = now
	}
	s.lastReached, s.changed = now, true
}

// forget drops silences that ended so long ago that Graph no longer retries. It is called with mu held.
func (s *silenceDetector) forget(now time.Time) {
	s.silences = slices.DeleteFunc(s.silences, func(q silentInterval) bool { return now.Sub(q.to) > graphRetryWindow })
}

// explain notes that a gap was opened for another cause.
func (s *silenceDetector) explain(from, to time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.explainedFrom, s.explainedTo, s.changed = from, to, true
}

// arrived checks authentic interactions that Graph sent, except those that it was asked to retry.
func (s *silenceDetector) arrived(ctx context.Context, received []interaction.Received, now time.Time) {
	s.mu.Lock()
	suspicious := len(s.silences) > 0
	s.mu.Unlock()
	if !suspicious {
		return
	}
	var pendingSince time.Time
	if s.pendingGapSince != nil {
		pendingSince = s.pendingGapSince(now)
	}
	from, to, found := s.findOutage(received, now.Round(0), pendingSince)
	if !found {
		return
	}
	s.logger.Warn("notifications arrive late after a silence: graph could not reach the webhook, and may have given some of them up; check the ingress, its certificate and its DNS name",
		zap.Time("from", from), zap.Time("to", to))
	s.gaps.Open(backfill.Gap{Reason: backfill.Subscription, From: from.Add(-maxNotificationDelay), To: to.Add(subscriptionWarmup)})
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	_ = s.gaps.Flush(ctx) // A failure is logged there, and the gap stays known in memory.
}

// findOutage returns a silence that turns out to have been an outage, once.
func (s *silenceDetector) findOutage(received []interaction.Received, now, pendingSince time.Time) (from, to time.Time, found bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.forget(now); len(s.silences) == 0 {
		return time.Time{}, time.Time{}, false
	}
	from, to = s.silences[0].from, s.silences[len(s.silences)-1].to
	for i := range received {
		at, late := createdLate(&received[i], now)
		within := func(from, to time.Time) bool { return !at.Before(from) && !at.After(to) }
		explained := within(s.explainedFrom, s.explainedTo) || !pendingSince.IsZero() && at.After(pendingSince)
		if late && within(from.Add(-maxNotificationDelay), to) && !explained {
			s.silences, s.changed = nil, true
			return from, to, true
		}
	}
	return time.Time{}, time.Time{}, false
}

// createdLate returns when an interaction was created, and whether that is longer ago than Graph's maximum delay.
func createdLate(received *interaction.Received, now time.Time) (at time.Time, late bool) {
	at, known := received.CreatedAt()
	return at, known && received.Change == interaction.Created && now.Sub(at) > maxNotificationDelay
}

const silenceKey = "silence"

// storedSilence is the state for the next run, since late interactions may reveal a silence that ended before it began.
// Times are in seconds of Unix time.
type storedSilence struct {
	LastReached int64      `json:"last_reached"`
	Silences    [][2]int64 `json:"silences,omitempty"`
	Explained   [2]int64   `json:"explained"`
}

// load reads the state of an earlier run. Without it a silence begins with this run. It may be called again after
// notifications have arrived in this run.
func (s *silenceDetector) load(ctx context.Context) {
	var stored storedSilence
	err := s.state.get(ctx, silenceKey, &stored)
	_, damaged := errors.AsType[*corruptError](err)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && ctx.Err() == nil && s.failure.Failed() {
		s.logger.Warn("the time of the last notification can't be read", zap.Error(err))
	}
	if err != nil && !damaged {
		return
	}
	s.failure.Recovered()
	s.loaded = true
	if stored.LastReached == 0 || damaged {
		return
	}
	s.join(stored)
}

// join is called with mu held.
func (s *silenceDetector) join(stored storedSilence) {
	at := time.Unix(stored.LastReached, 0)
	var earlier []silentInterval
	for _, q := range stored.Silences {
		earlier = append(earlier, silentInterval{time.Unix(q[0], 0), time.Unix(q[1], 0)})
	}
	switch {
	case s.lastReached.IsZero():
		s.lastReached = at
	case !at.After(s.lastReached) && s.firstReached.Sub(at) > maxNotificationDelay:
		earlier = append(earlier, silentInterval{at, s.firstReached})
	}
	s.silences = slices.Concat(earlier, s.silences)
	if s.explainedTo.IsZero() && stored.Explained[1] != 0 {
		s.explainedFrom, s.explainedTo = time.Unix(stored.Explained[0], 0), time.Unix(stored.Explained[1], 0)
	}
}

// save is called by one at a time.
func (s *silenceDetector) save(ctx context.Context) {
	s.mu.Lock()
	loaded := s.loaded
	s.mu.Unlock()
	if !loaded {
		s.load(ctx)
	}
	stored, due := s.snapshot()
	if !due {
		return
	}
	err := s.state.set(ctx, silenceKey, stored)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = s.changed || err != nil
	if err == nil {
		s.failure.Recovered()
	} else if s.failure.Failed() {
		s.logger.Warn("the time of the last notification can't be stored", zap.Error(err))
	}
}

// snapshot returns false if nothing has changed since it was stored.
func (s *silenceDetector) snapshot() (stored storedSilence, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.changed || !s.loaded || s.lastReached.IsZero() {
		return storedSilence{}, false
	}
	s.changed = false
	stored.LastReached = s.lastReached.Unix()
	for _, q := range s.silences {
		stored.Silences = append(stored.Silences, [2]int64{q.from.Unix(), q.to.Unix()})
	}
	if !s.explainedTo.IsZero() {
		stored.Explained = [2]int64{s.explainedFrom.Unix(), s.explainedTo.Unix()}
	}
	return stored, true
}
