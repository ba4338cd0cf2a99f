package webhook

import (
	"sync"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

// MinimumReservation is what every admitted request is charged, however small its body: a goroutine with its stack, the
// request and a first buffer cost about as much. It bounds the number of deliveries under way as well as their bytes.
const MinimumReservation = 4 << 10

// ByteLimiter bounds the bytes of all request bodies that are under way, from their arrival until their delivery ended.
//
// Counted are the bytes read from senders, at least 4 KiB for each request, and what decoding adds to them, from before it
// begins. What else is made of them (the decrypted text) is not counted; it is a small multiple of them.
//
// A large request, of more than 64 KiB, gets no more than half of the limit together with all others of which nobody knows
// yet whether they are authentic, and leaves an eighth of the limit free. So a few large bodies of strangers can't keep out
// the notifications of usual size.
type ByteLimiter struct {
	limit int64

	mu sync.Mutex
	// used is never negative and never over limit; delivering is the part of it that deliveries hold.
	used, delivering int64
}

const (
	smallReservation = 64 << 10
	// reserved is the part of the limit, as a divisor, that large shares leave to small ones, unproven the part that large
	// shares may have before they are authentic.
	reserved, unproven = 8, 2
)

// MinInFlightBytes returns the smallest Settings.MaxInFlightBytes with which a body of maxBodySize bytes can be taken in,
// however many items it has.
func MinInFlightBytes(maxBodySize int64) int64 {
	const absurd = 1 << 60 // beyond it the sums would overflow
	maxBodySize = min(maxBodySize, absurd)
	whole := max(maxBodySize+notification.MaxCost(maxBodySize), MinimumReservation)
	if whole <= smallReservation {
		return whole
	}
	return max(unproven*maxBodySize, whole+(whole+reserved-2)/(reserved-1))
}

// NewByteLimiter returns an Admission that lets at most limit bytes be under way at once.
func NewByteLimiter(limit int64) *ByteLimiter {
	return &ByteLimiter{limit: limit}
}

// InUse returns the bytes under way.
func (a *ByteLimiter) InUse() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.used
}

// Acquire takes n bytes, or none and returns false where they would exceed the limit. It never waits.
func (a *ByteLimiter) Acquire(n int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.acquire(n, a.limit)
}

// acquire is called with mu held. It takes n bytes if no more than most are under way then.
func (a *ByteLimiter) acquire(n, most int64) bool {
	if n < 0 || n > most-a.used {
		return false
	}
	a.used += n
	return true
}

// mostlyDelivering tells whether deliveries hold at least half of the limit.
func (a *ByteLimiter) mostlyDelivering() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.delivering >= a.limit-a.limit/2
}

// Admit opens the share of one request and charges it the minimum of 4 KiB. It returns false where the limit leaves no
// room for that.
func (a *ByteLimiter) Admit() (*Reservation, bool) {
	if !a.Acquire(MinimumReservation) {
		return nil, false
	}
	return &Reservation{limiter: a, held: MinimumReservation}, true
}

// Reservation is what one request holds of an Admission. One goroutine at a time may use it.
type Reservation struct {
	limiter *ByteLimiter
	// held is what was acquired; bytes read up to it are paid for.
	held                 int64
	delivering, released bool
}

// Grow makes the share cover total bytes, and returns false where the limit leaves no room for them, or after Release.
// A share never shrinks before it is released.
func (s *Reservation) Grow(total int64) bool {
	s.limiter.mu.Lock()
	defer s.limiter.mu.Unlock()
	return s.grow(total, s.limiter.delivering+s.limiter.limit/unproven)
}

// deliver makes the share that of a delivery of total bytes, which is authentic as far as its clientState tells. It returns
// false where the limit leaves no room for that.
func (s *Reservation) deliver(total int64) bool {
	s.limiter.mu.Lock()
	defer s.limiter.mu.Unlock()
	if !s.grow(total, s.limiter.limit) {
		return false
	}
	s.delivering = true
	s.limiter.delivering += s.held
	return true
}

// grow is called with the admission's mu held. A large share leads to no more than most bytes under way.
func (s *Reservation) grow(total, most int64) bool {
	if s.released {
		return false
	}
	if total <= s.held {
		return true
	}
	limit := s.limiter.limit
	if total > smallReservation {
		most = min(most, limit-limit/reserved)
	} else {
		most = limit
	}
	if !s.limiter.acquire(total-s.held, most) {
		return false
	}
	s.held = total
	return true
}

// Release gives everything back. Further calls do nothing.
func (s *Reservation) Release() {
	if s.released {
		return
	}
	s.released = true
	s.limiter.mu.Lock()
	defer s.limiter.mu.Unlock()
	s.limiter.used -= s.held
	if s.delivering {
		s.limiter.delivering -= s.held
	}
}
