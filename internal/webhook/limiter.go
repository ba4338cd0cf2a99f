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
	// reservedDivisor is the part of the limit, as a divisor, that large shares leave to small ones, unproven the part that large
	// shares may have before they are authentic.
	reservedDivisor, unverifiedDivisor = 8, 2
)

// MinInFlightBytes returns the smallest Settings.MaxInFlightBytes with which a body of maxBodySize bytes can be taken in,
// however many items it has.
func MinInFlightBytes(maxBodySize int64) int64 {
	const maxSupported = 1 << 60 // beyond it the sums would overflow
	maxBodySize = min(maxBodySize, maxSupported)
	whole := max(maxBodySize+notification.MaxCost(maxBodySize), MinimumReservation)
	if whole <= smallReservation {
		return whole
	}
	return max(unverifiedDivisor*maxBodySize, whole+(whole+reservedDivisor-2)/(reservedDivisor-1))
}

// NewByteLimiter returns an Admission that lets at most limit bytes be under way at once.
func NewByteLimiter(limit int64) *ByteLimiter {
	return &ByteLimiter{limit: limit}
}

// InUse returns the bytes under way.
func (l *ByteLimiter) InUse() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.used
}

// Acquire takes n bytes, or none and returns false where they would exceed the limit. It never waits.
func (l *ByteLimiter) Acquire(n int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acquire(n, l.limit)
}

// acquire is called with mu held. It takes n bytes if no more than most are under way then.
func (l *ByteLimiter) acquire(n, maxUsed int64) bool {
	if n < 0 || n > maxUsed-l.used {
		return false
	}
	l.used += n
	return true
}

// mostlyDelivering tells whether deliveries hold at least half of the limit.
func (l *ByteLimiter) mostlyDelivering() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.delivering >= l.limit-l.limit/2
}

// Reserve opens the share of one request and charges it the minimum of 4 KiB. It returns false where the limit leaves no
// room for that.
func (l *ByteLimiter) Reserve() (*Reservation, bool) {
	if !l.Acquire(MinimumReservation) {
		return nil, false
	}
	return &Reservation{limiter: l, held: MinimumReservation}, true
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
func (r *Reservation) Grow(total int64) bool {
	r.limiter.mu.Lock()
	defer r.limiter.mu.Unlock()
	return r.grow(total, r.limiter.delivering+r.limiter.limit/unverifiedDivisor)
}

// deliver makes the share that of a delivery of total bytes, which is authentic as far as its clientState tells. It returns
// false where the limit leaves no room for that.
func (r *Reservation) deliver(total int64) bool {
	r.limiter.mu.Lock()
	defer r.limiter.mu.Unlock()
	if !r.grow(total, r.limiter.limit) {
		return false
	}
	r.delivering = true
	r.limiter.delivering += r.held
	return true
}

// grow is called with the admission's mu held. A large share leads to no more than most bytes under way.
func (r *Reservation) grow(total, maxUsed int64) bool {
	if r.released {
		return false
	}
	if total <= r.held {
		return true
	}
	limit := r.limiter.limit
	if total > smallReservation {
		maxUsed = min(maxUsed, limit-limit/reservedDivisor)
	} else {
		maxUsed = limit
	}
	if !r.limiter.acquire(total-r.held, maxUsed) {
		return false
	}
	r.held = total
	return true
}

// Release gives everything back. Further calls do nothing.
func (r *Reservation) Release() {
	if r.released {
		return
	}
	r.released = true
	r.limiter.mu.Lock()
	defer r.limiter.mu.Unlock()
	r.limiter.used -= r.held
	if r.delivering {
		r.limiter.delivering -= r.held
	}
}
