// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"errors"
	"io"
	"runtime"
	"sync"
)

// errOverloaded means that too many bytes are in flight.
var errOverloaded = errors.New("too many bytes in flight")

// readBody reads a body whose announced length is -1 if unknown. The reservation grows with the bytes that arrived, so that a
// slow sender holds what it has sent (at least minReservation), and a large Content-Length reserves nothing. It fails with
// errOverloaded or the error of the reader.
func readBody(from io.Reader, announced int64, reservation *reservation) ([]byte, error) {
	body := make([]byte, 0, minReservation)
	for {
		n, err := from.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		length := int64(len(body))
		switch {
		case !reservation.grow(length):
			return nil, errOverloaded
		case errors.Is(err, io.EOF):
			return body, nil
		case err != nil:
			return nil, err
		case len(body) == cap(body):
			more := length
			if length < smallReservation {
				more = 3 * length // a body of usual size is copied only once or twice
			}
			if announced >= length {
				more = min(more, announced-length+1) // the last read needs room, although it returns only io.EOF
			}
			body = append(make([]byte, 0, length+more), body...)
		}
		if length > smallReservation {
			// A fast sender would keep the processor for a whole time slice of 10 ms. With hundreds of such senders a
			// notification of usual size would wait for seconds.
			runtime.Gosched()
		}
	}
}

const (
	// minReservation is the number of bytes that every request reserves, however small its body: a goroutine with its stack,
	// the request and a first buffer take about as much. It also limits the number of deliveries in flight.
	minReservation = 4 << 10
	// smallReservation is more than the body of a notification of usual size.
	smallReservation = 64 << 10
	// Large bodies in which no item of ours was found yet may hold limit/largeDivisor together, or one body of the largest size, and leave
	// at least limit/reservedDivisor to the others.
	largeDivisor, reservedDivisor = 4, 8
)

// MinInFlightBytes returns the smallest Settings.MaxInFlightBytes that lets a body of maxBodySize bytes be processed. One
// with so many items that decoding them takes more than the rest is rejected, and read from the history.
func MinInFlightBytes(maxBodySize int64) int64 {
	const maxSupported = 1 << 60 // larger values would overflow the sum
	maxBodySize = min(maxBodySize, maxSupported)
	reserved := (maxBodySize + reservedDivisor - 2) / (reservedDivisor - 1)
	return maxBodySize + max(reserved, minReservation)
}

// byteLimiter limits the bytes of all requests in flight, from their arrival until their delivery ended: those read from
// senders, and those that decoding allocates, which are reserved before it starts. The decrypted text, which is a small
// multiple of them, is not counted.
//
// Large requests (more than 64 KiB) are limited further until an item of ours was found in them, so that a few large bodies of
// strangers cannot keep out notifications of usual size.
type byteLimiter struct {
	limit, largeLimit int64

	mu sync.Mutex
	// used is what all requests hold, large what the large ones do in which no item of ours was found yet.
	used, large int64
}

// newByteLimiter returns a limiter for bodies of at most maxBodySize bytes.
func newByteLimiter(limit, maxBodySize int64) *byteLimiter {
	return &byteLimiter{limit: limit, largeLimit: max(limit/largeDivisor, maxBodySize)}
}

// reservation is the part of a byteLimiter that one request holds. It is not safe for concurrent use.
type reservation struct {
	limiter *byteLimiter
	// held and large are its parts of the limiter's used and large.
	held, large int64
	// own is whether an item of ours was found in the body.
	own bool
}

// reserve returns a reservation of minReservation bytes. It returns false, without waiting, if that would exceed the limit.
func (l *byteLimiter) reserve() (*reservation, bool) {
	r := &reservation{limiter: l}
	return r, r.grow(minReservation)
}

// grow increases the reservation to total bytes. It returns false, without waiting, if that would exceed a limit. A
// reservation does not shrink before it is released.
func (r *reservation) grow(total int64) bool {
	total = max(total, r.held)
	large := int64(0)
	if total > smallReservation && !r.own {
		large = total
	}
	l := r.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	more, moreLarge := total-r.held, large-r.large
	if more > l.limit-l.used || moreLarge > l.largeLimit-l.large {
		return false
	}
	l.used, l.large = l.used+more, l.large+moreLarge
	r.held, r.large = total, large
	return true
}

// growOwn increases the reservation of a request with items of ours to total bytes, as grow does.
func (r *reservation) growOwn(total int64) bool {
	r.own = true
	return r.grow(total)
}

// release returns all bytes to the limiter. It is called once.
func (r *reservation) release() {
	r.limiter.mu.Lock()
	defer r.limiter.mu.Unlock()
	r.limiter.used -= r.held
	r.limiter.large -= r.large
}
