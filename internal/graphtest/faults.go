// SPDX-License-Identifier: Apache-2.0

package graphtest

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Fault describes how a call fails. The first kind that is set, in the order of the fields, applies after Delay.
type Fault struct {
	// Delay is waited for before the answer; without another kind, the answer is then the usual one.
	Delay time.Duration
	// Reset closes the connection without an answer.
	Reset bool
	// Status is answered with an error body, and with RetryAfter as the Retry-After header unless it is empty.
	Status     int
	RetryAfter string
	// Code and Message are those of the error body; if empty, they are derived from the status.
	Code, Message string
	// InvalidJSON answers 200 with truncated JSON.
	InvalidJSON bool
	// Endless answers 200 with a body that never ends.
	Endless bool

	// Times is how many calls fail; 0 means until Heal.
	Times int
	// Chance, between 0 and 1, is the probability that a call fails; 0 means always.
	Chance float64
}

// faultSet holds the faults in effect, at most one for each operation, and decides randomly which calls they affect.
type faultSet struct {
	mu       sync.Mutex // guards what follows
	rng      *rand.Rand
	faults   map[Operation]Fault
	delivery DeliveryFaults
}

func newFaultSet(seed uint64) *faultSet {
	//nolint:gosec // the faults of a test must be repeatable
	return &faultSet{rng: rand.New(rand.NewPCG(seed, 1)), faults: map[Operation]Fault{}}
}

// AnyGraph stands for every Graph operation that has no fault of its own.
const AnyGraph Operation = "any graph operation"

// Fail makes calls of the operation fail from now on. It replaces a fault set before.
func (e *Emulator) Fail(op Operation, fault Fault) {
	e.faults.mu.Lock()
	defer e.faults.mu.Unlock()
	e.faults.faults[op] = fault
}

// Heal removes the faults of the named operations, or all faults if none is named.
func (e *Emulator) Heal(operations ...Operation) {
	e.faults.mu.Lock()
	defer e.faults.mu.Unlock()
	if len(operations) == 0 {
		clear(e.faults.faults)
	}
	for _, op := range operations {
		delete(e.faults.faults, op)
	}
}

// take returns the fault that affects this call, if any, and counts it against Fault.Times.
func (b *faultSet) take(op Operation) (Fault, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fault, found := b.faults[op]
	if !found && op.isGraph() {
		op = AnyGraph
		fault, found = b.faults[op]
	}
	if !found || fault.Chance > 0 && b.rng.Float64() >= fault.Chance {
		return Fault{}, false
	}
	if fault.Times == 1 {
		delete(b.faults, op)
	} else if fault.Times > 1 {
		fault.Times--
		b.faults[op] = fault
	}
	return fault, true
}

func (b *faultSet) deliveryFaults() DeliveryFaults {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.delivery
}

func (b *faultSet) shuffle(parsed []parsedInteraction) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rng.Shuffle(len(parsed), func(i, j int) { parsed[i], parsed[j] = parsed[j], parsed[i] })
}

// roll returns true with the given probability.
func (b *faultSet) roll(chance float64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return chance > 0 && b.rng.Float64() < chance
}

// apply reports whether it answered the request; if not, the usual answer must follow.
func (f Fault) apply(w http.ResponseWriter, r *http.Request, op Operation) bool {
	if f.Delay > 0 && !sleep(r.Context(), f.Delay) {
		return true
	}
	switch {
	case f.Reset:
		if connection, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = connection.Close()
		}
	case f.Status != 0:
		f.writeError(w, op)
	case f.InvalidJSON:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write([]byte(`{"value":[{"id":`))
	case f.Endless:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		writeEndless(w, r)
	default:
		return false
	}
	return true
}

func (f Fault) writeError(w http.ResponseWriter, op Operation) {
	if f.RetryAfter != "" {
		w.Header().Set("Retry-After", f.RetryAfter)
	}
	message := f.Message
	if message == "" {
		message = "The request failed because of a fault set in the emulator."
	}
	if op.isGraph() {
		code := f.Code
		if code == "" {
			code = errorCode(f.Status)
		}
		(&graphError{f.Status, code, message}).write(w)
		return
	}
	writeJSON(w, f.Status, map[string]any{
		"error": "temporarily_unavailable", "error_description": "AADSTS90033: " + message, "error_codes": []int{90033},
	})
}

func errorCode(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "InvalidAuthenticationToken"
	case http.StatusForbidden:
		return "Forbidden"
	case http.StatusNotFound:
		return "ResourceNotFound"
	case http.StatusTooManyRequests:
		return "TooManyRequests"
	case http.StatusServiceUnavailable:
		return "ServiceUnavailable"
	default:
		return "UnknownError"
	}
}

// writeEndless writes white space, which JSON allows, until the client closes the connection.
func writeEndless(w http.ResponseWriter, r *http.Request) {
	chunk := bytes.Repeat([]byte(" "), 64<<10)
	for r.Context().Err() == nil {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

// maxCountedUsers bounds the users whose requests are counted individually.
const maxCountedUsers = 200_000

// userLoad counts the requests of one kind.
type userLoad struct {
	// last holds the times of the requests of the last second.
	last  []time.Time
	users map[string]int
}

// addHistoryRequest counts a request to the history, whatever its outcome.
func (r *recorder) addHistoryRequest(user string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.HistoryPeak = max(r.stats.HistoryPeak, r.historyLoad.add(user, time.Now()))
}

// addDirectoryRequest counts a request to the directory, for one user or, if the user is empty, a page.
func (r *recorder) addDirectoryRequest(user string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.DirectoryPeak = max(r.stats.DirectoryPeak, r.directoryLoad.add(user, time.Now()))
}

// add counts a request and returns the number of requests in the second that ends with it.
func (d *userLoad) add(user string, now time.Time) int {
	user = strings.ToLower(user)
	if _, counted := d.users[user]; user != "" && (counted || len(d.users) < maxCountedUsers) {
		d.users[user]++
	}
	for len(d.last) > 0 && now.Sub(d.last[0]) >= time.Second {
		d.last = d.last[1:] // append reallocates the rest once the capacity is used up
	}
	d.last = append(d.last, now)
	return len(d.last)
}

// HistoryRequests returns the number of requests to the history of each user, by the user's id in lower case. Each page counts,
// whatever the answer.
func (e *Emulator) HistoryRequests() map[string]int {
	e.recorder.mu.Lock()
	defer e.recorder.mu.Unlock()
	return maps.Clone(e.recorder.historyLoad.users)
}

// UserRequests returns how often each user was read from the directory alone, by the user's id in lower case, whatever the answer.
func (e *Emulator) UserRequests() map[string]int {
	e.recorder.mu.Lock()
	defer e.recorder.mu.Unlock()
	return maps.Clone(e.recorder.directoryLoad.users)
}
