package interaction

import (
	"strconv"
	"time"
)

// CreatedAt is when it was written, in UTC: CreatedDateTime, or the time in the id where Graph sent none.
// It is false when neither tells.
func (i *Interaction) CreatedAt() (time.Time, bool) {
	if !i.CreatedDateTime.IsZero() {
		return i.CreatedDateTime.UTC(), true
	}
	return epochMillis(i.ID)
}

// HappenedAt is when the change happened, in UTC. For an update that is the time in the etag, if there is one.
// Of a deletion Graph does not tell the time, so it is the time of creation, as for everything else.
// It is false when nothing tells.
func (r *Received) HappenedAt() (time.Time, bool) {
	if r.Change == Updated {
		if at, ok := epochMillis(r.ETag); ok {
			return at, true
		}
	}
	return r.CreatedAt()
}

// The times that an id or an etag can plausibly mean, in epoch milliseconds: Copilot is younger than the one, and this
// program hardly older than the other. Ids that are numbers of another kind fall outside.
const (
	earliest = 1_420_070_400_000 // 2015-01-01
	latest   = 4_102_444_800_000 // 2100-01-01
)

func epochMillis(digits string) (time.Time, bool) {
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return time.Time{}, false
		}
	}
	ms, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || ms < earliest || ms >= latest {
		return time.Time{}, false
	}
	return time.UnixMilli(ms).UTC(), true
}
