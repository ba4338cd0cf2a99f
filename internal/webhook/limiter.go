package webhook

import "sync"

// MinimumReservation is the number of bytes that every request reserves, however small its body: a goroutine with its stack,
// the request and a first buffer take about as much. It also limits the number of deliveries in flight.
const MinimumReservation = 4 << 10

// ByteLimiter limits the bytes of all request bodies in flight, from their arrival until their delivery ended.
//
// It counts the bytes read from senders, at least 4 KiB for each request, and the bytes that decoding allocates, which are
// reserved before decoding starts. The decrypted text, which is a small multiple of them, is not counted.
//
// A large request (more than 64 KiB) is refused if all requests that are not verified yet would hold more than half of the
// limit and more than one body of the largest size, or if less than an eighth of the limit would remain free. This way a few
// large unauthenticated bodies cannot keep out notifications of usual size.
type ByteLimiter struct {
	limit int64
	// maxUnverified is the most that requests that are not verified yet may hold for a large reservation to grow.
	maxUnverified int64

	mu sync.Mutex
	// used is between 0 and limit; delivering is the part of it that deliveries hold.
	used, delivering int64
}

const (
	smallReservation = 64 << 10
	// limit/reservedDivisor is left to small reservations by large ones that are not verified yet, and limit/unverifiedDivisor
	// is what these may hold together.
	reservedDivisor, unverifiedDivisor = 8, 2
)

// MinInFlightBytes returns the smallest Settings.MaxInFlightBytes that lets a body of maxBodySize bytes be processed. One
// with so many items that decoding them takes more than the rest is answered 503, and read from the history in the end.
func MinInFlightBytes(maxBodySize int64) int64 {
	const maxSupported = 1 << 60 // larger values would overflow the sum
	maxBodySize = min(maxBodySize, maxSupported)
	// The part that large bodies leave to small ones.
	reserved := (maxBodySize + reservedDivisor - 2) / (reservedDivisor - 1)
	return maxBodySize + max(reserved, MinimumReservation)
}

// NewByteLimiter returns a ByteLimiter that allows at most limit bytes in flight, where no body has more than maxBodySize.
func NewByteLimiter(limit, maxBodySize int64) *ByteLimiter {
	return &ByteLimiter{limit: limit, maxUnverified: max(limit/unverifiedDivisor, maxBodySize)}
}

// InUse returns the bytes in flight.
func (l *ByteLimiter) InUse() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.used
}

// Acquire takes n bytes, or takes none and returns false if they would exceed the limit. It does not wait.
func (l *ByteLimiter) Acquire(n int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acquire(n, l.limit)
}

// acquire takes n bytes if no more than maxUsed bytes are then in flight. It must be called with mu held.
func (l *ByteLimiter) acquire(n, maxUsed int64) bool {
	if n < 0 || n > maxUsed-l.used {
		return false
	}
	l.used += n
	return true
}

// Reserve returns a reservation of MinimumReservation bytes for a request. It returns false if that would exceed the limit.
func (l *ByteLimiter) Reserve() (*Reservation, bool) {
	if !l.Acquire(MinimumReservation) {
		return nil, false
	}
	return &Reservation{limiter: l, held: MinimumReservation}, true
}

// Reservation is the part of a ByteLimiter that one request holds. It is not safe for concurrent use.
type Reservation struct {
	limiter *ByteLimiter
	// held is the number of acquired bytes.
	held                 int64
	delivering, released bool
}

// Grow increases the reservation to total bytes. It returns false if that would exceed the limit, and after Release. A
// reservation does not shrink before it is released.
func (r *Reservation) Grow(total int64) bool {
	r.limiter.mu.Lock()
	defer r.limiter.mu.Unlock()
	maxUsed := r.limiter.limit
	if total > smallReservation {
		maxUsed = min(r.limiter.delivering+r.limiter.maxUnverified, maxUsed-maxUsed/reservedDivisor)
	}
	return r.grow(total, maxUsed)
}

// deliver increases the reservation to total bytes and makes it that of a delivery, which has items with a clientState of
// ours. It returns false if that would exceed the limit.
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

// grow must be called with the limiter's mu held. It may lead to at most maxUsed bytes in flight.
func (r *Reservation) grow(total, maxUsed int64) bool {
	if r.released {
		return false
	}
	if total <= r.held {
		return true
	}
	if !r.limiter.acquire(total-r.held, maxUsed) {
		return false
	}
	r.held = total
	return true
}

// Release returns all bytes to the limiter. Further calls do nothing.
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
