package history

import "time"

// Missing returns for how much time interactions are known to be missing, each interval under its gravest reason. What was
// read once counts as filled, though its gap is closed only when its last hour has been read again.
func (f *Filler) Missing(now time.Time) map[Reason]time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ledger.missing(now)
}

// Needed returns from when on deliveries must still be known as such, since the time after it is read or will be; zero where
// nothing is.
func (f *Filler) Needed() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	from := f.ledger.earliest()
	if f.s.PollInterval > 0 && !f.ledger.polled.IsZero() && (from.IsZero() || f.ledger.polled.Before(from)) {
		from = f.ledger.polled
	}
	if from.IsZero() {
		return from
	}
	return from.Add(-Overlap)
}
