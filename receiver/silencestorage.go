package receiver

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"
)

const silenceKey = "silence"

// keptSilence is what the next run has to know: late arrivals may tell of a silence that ended before it began. Times are
// in seconds of Unix time.
type keptSilence struct {
	Heard     int64      `json:"heard"`
	Silences  [][2]int64 `json:"silences,omitempty"`
	Explained [2]int64   `json:"explained"`
}

// load reads what an earlier run heard. Without it a silence begins with this run. It may be called again while this run
// hears something already.
func (s *silenceDetector) load(ctx context.Context) {
	var kept keptSilence
	err := s.records.get(ctx, silenceKey, &kept)
	_, damaged := errors.AsType[*corruptError](err)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && ctx.Err() == nil && !s.failing {
		s.logger.Warn("the time of the last notification can't be read", zap.Error(err))
	}
	if s.failing = err != nil && !damaged; s.failing {
		return
	}
	s.loaded = true
	if kept.Heard == 0 || damaged {
		return
	}
	s.join(kept)
}

// join is called with mu held.
func (s *silenceDetector) join(kept keptSilence) {
	at := time.Unix(kept.Heard, 0)
	var earlier []silentInterval
	for _, q := range kept.Silences {
		earlier = append(earlier, silentInterval{time.Unix(q[0], 0), time.Unix(q[1], 0)})
	}
	switch {
	case s.heard.IsZero():
		s.heard = at
	case !at.After(s.heard) && s.first.Sub(at) > maxNotificationDelay:
		earlier = append(earlier, silentInterval{at, s.first})
	}
	s.silences = slices.Concat(earlier, s.silences)
	if s.explainedTo.IsZero() && kept.Explained[1] != 0 {
		s.explainedFrom, s.explainedTo = time.Unix(kept.Explained[0], 0), time.Unix(kept.Explained[1], 0)
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
	kept, due := s.toKeep()
	if !due {
		return
	}
	err := s.records.set(ctx, silenceKey, kept)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = s.changed || err != nil
	if err != nil && !s.failing {
		s.logger.Warn("the time of the last notification can't be kept", zap.Error(err))
	}
	s.failing = err != nil
}

// toKeep returns false where the storage has it already.
func (s *silenceDetector) toKeep() (kept keptSilence, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.changed || !s.loaded || s.heard.IsZero() {
		return keptSilence{}, false
	}
	s.changed = false
	kept.Heard = s.heard.Unix()
	for _, q := range s.silences {
		kept.Silences = append(kept.Silences, [2]int64{q.from.Unix(), q.to.Unix()})
	}
	if !s.explainedTo.IsZero() {
		kept.Explained = [2]int64{s.explainedFrom.Unix(), s.explainedTo.Unix()}
	}
	return kept, true
}
