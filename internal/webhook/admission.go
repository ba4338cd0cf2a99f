package webhook

import "sync"

// MinimumShare is what every admitted request is charged, however small its body: a goroutine with its stack, the
// request and a first buffer cost about as much. It bounds the number of deliveries under way as well as their bytes.
const MinimumShare = 4 << 10

// Admission bounds the bytes of all request bodies that are under way, from their arrival until their delivery ended.
//
// Counted are the bytes read from senders, at least 4 KiB for each request. What is made of them (the spare room of a
// buffer, the decrypted text) is not counted; it is a small multiple of them.
type Admission struct {
	limit int64

	mu sync.Mutex
	// used is never negative and never over limit.
	used int64
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
	if n < 0 || n > a.limit-a.used {
		return false
	}
	a.used += n
	return true
}

func (a *Admission) giveBack(n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.used -= n
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
	held     int64
	released bool
}

// Hold makes the share cover total bytes, and returns false where the limit leaves no room for them, or after Release.
// A share never shrinks before it is released.
func (s *Share) Hold(total int64) bool {
	if s.released {
		return false
	}
	if total <= s.held {
		return true
	}
	if !s.admission.Acquire(total - s.held) {
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
	s.admission.giveBack(s.held)
}
