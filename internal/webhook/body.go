package webhook

import (
	"errors"
	"io"
	"runtime"
	"sync"
)

// Why a body was not read to its end, apart from the errors of the reader itself.
var (
	errOverloaded = errors.New("too many bytes under way")
	errTooLarge   = errors.New("body over the limit")
)

// A body is read into small pieces at first, so that a slow sender holds little more memory than it has sent, and into
// large ones later. A piece is the most that one read takes before it is charged.
const (
	smallChunk = MinimumReservation
	largeChunk = 32 << 10
)

// Pieces and whole bodies are used again: a flood that left garbage instead would have the heap grow to twice its size.
var (
	smallChunks = sync.Pool{New: func() any { return new([smallChunk]byte) }}
	largeChunks = sync.Pool{New: func() any { return new([largeChunk]byte) }}
	buffers     = sync.Pool{New: func() any { return new([]byte) }}
)

// body is what was read of a request so far.
type body struct {
	chunks [][]byte // each with its piece as capacity
	length int
}

// free returns where to read to: what is left of the last piece, or a new one.
func (b *body) free() []byte {
	if n := len(b.chunks); n > 0 && len(b.chunks[n-1]) < cap(b.chunks[n-1]) {
		last := b.chunks[n-1]
		return last[len(last):cap(last)]
	}
	var chunk []byte
	if b.length < largeChunk {
		chunk = smallChunks.Get().(*[smallChunk]byte)[:]
	} else {
		chunk = largeChunks.Get().(*[largeChunk]byte)[:]
	}
	b.chunks = append(b.chunks, chunk[:0])
	return chunk
}

// grow says that n bytes were read into the room.
func (b *body) grow(n int) {
	last := &b.chunks[len(b.chunks)-1]
	*last = (*last)[:len(*last)+n]
	b.length += n
}

// withBytes calls use with all that was read, in one piece that is only valid during the call, and releases the body.
func (b *body) withBytes(use func(all []byte)) {
	if len(b.chunks) == 1 {
		use(b.chunks[0])
		b.release()
		return
	}
	all := buffers.Get().(*[]byte)
	defer buffers.Put(all)
	if cap(*all) < b.length {
		*all = make([]byte, 0, b.length)
	}
	*all = (*all)[:0]
	for _, chunk := range b.chunks {
		*all = append(*all, chunk...)
	}
	b.release()
	use(*all)
}

// release gives the pieces back. Further calls do nothing.
func (b *body) release() {
	for _, chunk := range b.chunks {
		if cap(chunk) == smallChunk {
			smallChunks.Put((*[smallChunk]byte)(chunk[:smallChunk]))
		} else {
			largeChunks.Put((*[largeChunk]byte)(chunk[:largeChunk]))
		}
	}
	b.chunks, b.length = nil, 0
}

// readBody reads a body of at most limit bytes and charges the share for each piece when it has arrived, so that a slow
// sender holds what it has sent (at least the minimum share), and a header that announces much holds nothing. The pieces
// have at most about twice the room that was charged.
//
// It fails with errTooLarge, errOverloaded or the error of the reader.
func readBody(from io.Reader, limit int64, reservation *Reservation) (*body, error) {
	read := &body{}
	for {
		n, err := from.Read(read.free())
		read.grow(n)
		switch {
		case int64(read.length) > limit:
			err = errTooLarge
		case !reservation.Grow(int64(read.length)):
			err = errOverloaded
		case errors.Is(err, io.EOF):
			return read, nil
		}
		if err != nil {
			read.release()
			return nil, err
		}
		if read.length > smallReservation {
			// A sender that is faster than this reads would keep the processor for a whole time slice, 10 ms; with hundreds of
			// such senders a notification of usual size would wait for seconds.
			runtime.Gosched()
		}
	}
}
