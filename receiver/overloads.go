package receiver

import (
	"maps"
	"slices"
	"time"
)

const (
	// stillRetried is how long after an overload Graph has surely come again at least once.
	stillRetried = 30 * time.Minute
	// overloadSpacing is the shortest time between two gaps for the sake of overloads: what was in them nobody knows, and
	// anybody can cause one.
	overloadSpacing = time.Hour
)

// overloadDetector are the minutes in which requests were turned away unread. Graph sends them again for 4 hours, so what was in
// them is lost only if it was overloaded again then. It decides and does nothing; whoever has it guards it.
type overloadDetector struct {
	minutes map[int64]bool // since 1970
	looked  time.Time
	// opened are those whose gaps are open and may not be written down yet. They stay among the minutes until they are.
	opened []int64
}

// add tells whether the minute is new.
func (o *overloadDetector) add(now time.Time) bool {
	minute := now.Unix() / 60
	known := o.minutes[minute]
	o.minutes[minute] = true
	return !known
}

// lost returns the minutes of so long ago that Graph has given up in which something may be lost, and forgets the others.
func (o *overloadDetector) lost(now time.Time, after time.Duration) []int64 {
	if now.Sub(o.looked) < overloadSpacing && !now.Before(o.looked) {
		return nil
	}
	o.looked = now
	minutes := slices.Sorted(maps.Keys(o.minutes))
	o.opened = nil
	for i, minute := range minutes {
		at := time.Unix(60*minute, 0)
		if now.Sub(at) < after {
			break
		}
		again := func(later int64) bool {
			since := time.Unix(60*later, 0).Sub(at)
			return since >= stillRetried && since <= after
		}
		if slices.ContainsFunc(minutes[i+1:], again) {
			o.opened = append(o.opened, minute)
		} else {
			delete(o.minutes, minute)
		}
	}
	return o.opened
}

// written says that the gaps that are open are written down.
func (o *overloadDetector) written() {
	for _, minute := range o.opened {
		delete(o.minutes, minute)
	}
	o.opened = nil
}
