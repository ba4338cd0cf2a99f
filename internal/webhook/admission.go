package webhook

import (
	"sync"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

// MinimumShare is what every admitted request is charged, however small its body: a goroutine with its stack, the
// request and a first buffer cost about as much. It bounds the number of deliveries under way as well as their bytes.
const MinimumShare = 4 << 10

// Admission bounds the bytes of all request bodies that are under way, from their arrival until their delivery ended.
//
// Counted are the bytes read from senders, at least 4 KiB for each request, and what decoding adds to them, from before it
// begins. What else is made of them (the decrypted text) is not counted; it is a small multiple of them.
//
// A large request, of more than 64 KiB, gets no more than half of the limit together with all others of which nobody knows
// yet whether they are authentic, and leaves an eighth of the limit free. So a few large bodies of strangers can't keep out
// the notifications of usual size.
type Admission struct {
	limit int64

	mu sync.Mutex
	// used is never negative and never over limit; delivering is the part of it that deliveries hold.
	used, delivering int64
}

const (
	smallShare = 64 << 10
	// reserved is the part of the limit, as a divisor, that large shares leave to small ones, unproven the part that large
	// shares may have before they are authentic.
	reserved, unproven = 8, 2
)

// LeastInFlightBytes returns the smallest Settings.MaxInFlightBytes with which a body of maxBodySize bytes can be taken in,
// however many items it has.
func LeastInFlightBytes(maxBodySize int64) int64 {
	const absurd = 1 << 60 // beyond it the sums would overflow
	maxBodySize = min(maxBodySize, absurd)
	whole := max(maxBodySize+notification.MaxCost(maxBodySize), MinimumShare)
	if whole <= smallShare {
		return whole
	}
	return max(unproven*maxBodySize, whole+(whole+reserved-2)/(reserved-1))
}

// NewAdmission returns an Admission that lets at most limit bytes be under way at once.
func NewAdmission(limit int64) *Admission {
	return &Admission{limit: limit}
}

// InUse returns the bytes under way.
func (a *Admission) InUse() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.used
}

// Acquire takes n bytes, or none and returns false where they would exceed the limit. It never waits.
func (a *Admission) Acquire(n int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.acquire(n, a.limit)
}

// acquire is called with mu held. It takes n bytes if no more than most are under way then.
func (a *Admission) acquire(n, most int64) bool {
	if n < 0 || n > most-a.used {
		return false
	}
	a.used += n
	return true
}

// mostlyDelivering tells whether deliveries hold at least half of the limit.
func (a *Admission) mostlyDelivering() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.delivering >= a.limit-a.limit/2
}

// Admit opens the share of one request and charges it the minimum of 4 KiB. It returns false where the limit leaves no
// room for that.
func (a *Admission) Admit() (*Share, bool) {
	if !a.Acquire(MinimumShare) {
		return nil, false
	}
	return &Share{admission: a, held: MinimumShare}, true
}

// Share is what one request holds of an Admission. One goroutine at a time may use it.
type Share struct {
	admission *Admission
	// held is what was acquired; bytes read up to it are paid for.
	held                 int64
	delivering, released bool
}

// Hold makes the share cover total bytes, and returns false where the limit leaves no room for them, or after Release.
// A share never shrinks before it is released.
func (s *Share) Hold(total int64) bool {
	s.admission.mu.Lock()
	defer s.admission.mu.Unlock()
	return s.hold(total, s.admission.delivering+s.admission.limit/unproven)
}

// deliver makes the share that of a delivery of total bytes, which is authentic as far as its clientState tells. It returns
// false where the limit leaves no room for that.
func (s *Share) deliver(total int64) bool {
	s.admission.mu.Lock()
	defer s.admission.mu.Unlock()
	if !s.hold(total, s.admission.limit) {
		return false
	}
	s.delivering = true
	s.admission.delivering += s.held
	return true
}

// hold is called with the admission's mu held. A large share leads to no more than most bytes under way.
func (s *Share) hold(total, most int64) bool {
	if s.released {
		return false
	}
	if total <= s.held {
		return true
	}
	limit := s.admission.limit
	if total > smallShare {
		most = min(most, limit-limit/reserved)
	} else {
		most = limit
	}
	if !s.admission.acquire(total-s.held, most) {
		return false
	}
	s.held = total
	return true
}

// Release gives everything back. Further calls do nothing.
func (s *Share) Release() {
	if s.released {
		return
	}
	s.released = true
	s.admission.mu.Lock()
	defer s.admission.mu.Unlock()
	s.admission.used -= s.held
	if s.delivering {
		s.admission.delivering -= s.held
	}
}
