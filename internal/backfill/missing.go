package backfill

import "time"

// Missing returns for how much time interactions are known to be missing, each interval under its gravest reason. What was
// read once counts as filled, though its gap is closed only when its last hour has been read again.
func (f *Backfiller) Missing(now time.Time) map[Reason]time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gaps.missing(now)
}

// Needed returns from when on deliveries must still be known as such, since the time after it is read or will be; zero where
// nothing is.
func (f *Backfiller) Needed() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	from := f.gaps.earliest()
	if f.s.PollInterval > 0 && !f.gaps.polled.IsZero() && (from.IsZero() || f.gaps.polled.Before(from)) {
		from = f.gaps.polled
	}
	if from.IsZero() {
		return from
	}
	return from.Add(-Overlap)
}
