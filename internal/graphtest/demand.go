package graphtest

import (
	"maps"
	"strings"
	"time"
)

// mostUsersCounted bounds the users whose history requests are counted one by one.
const mostUsersCounted = 200_000

// demand is how the history was asked for.
type demand struct {
	// last are the requests of the last second.
	last  []time.Time
	users map[string]int
}

// historyAsked counts a request to the history, whatever becomes of it.
func (r *recorder) historyAsked(user string) {
	user = strings.ToLower(user)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.HistoryPeak = max(r.stats.HistoryPeak, r.demand.ask(user, time.Now()))
}

// ask returns how many requests there were in the second that ends with this one.
func (d *demand) ask(user string, now time.Time) int {
	if _, counted := d.users[user]; counted || len(d.users) < mostUsersCounted {
		d.users[user]++
	}
	for len(d.last) > 0 && now.Sub(d.last[0]) >= time.Second {
		d.last = d.last[1:] // append moves what is left once the room behind it is used up
	}
	d.last = append(d.last, now)
	return len(d.last)
}

// HistoryRequests returns how often the history of each user was asked for, page by page and whatever the answer, by the
// user's id in lower case.
func (e *Emulator) HistoryRequests() map[string]int {
	e.records.mu.Lock()
	defer e.records.mu.Unlock()
	return maps.Clone(e.records.demand.users)
}
