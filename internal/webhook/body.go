package webhook

import (
	"errors"
	"io"
	"runtime"
	"sync"
)

// The errors of readBody, apart from those of the reader.
var (
	errOverloaded = errors.New("too many bytes in flight")
	errTooLarge   = errors.New("body over the limit")
)

// A body is read into small chunks at first, so that a slow sender holds little more memory than it has sent, and into large
// chunks later. A chunk limits the bytes of one read, which are reserved after it.
const (
	smallChunk = MinimumReservation
	largeChunk = 32 << 10
)

// Chunks and contiguous bodies are pooled. As garbage they would make the heap grow to twice the size in a flood of requests.
var (
	smallChunks = sync.Pool{New: func() any { return new([smallChunk]byte) }}
	largeChunks = sync.Pool{New: func() any { return new([largeChunk]byte) }}
	buffers     = sync.Pool{New: func() any { return new([]byte) }}
)

// body is the part of a request body that was read so far.
type body struct {
	chunks [][]byte // each has the capacity of its chunk
	length int
}

// free returns the buffer for the next read: the rest of the last chunk, or a new chunk.
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

// grow adds n bytes that were read into free.
func (b *body) grow(n int) {
	last := &b.chunks[len(b.chunks)-1]
	*last = (*last)[:len(*last)+n]
	b.length += n
}

// withBytes calls use with the body as one slice, which is only valid during the call, and releases the body.
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

// release returns the chunks to their pools. Further calls do nothing.
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

// readBody reads a body of at most limit bytes. The reservation grows with the bytes that arrived, so that a slow sender holds
// what it has sent (at least MinimumReservation), and a large Content-Length reserves nothing. The chunks take at most about
// twice the reserved bytes.
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
			// A fast sender would keep the processor for a whole time slice of 10 ms. With hundreds of such senders a
			// notification of usual size would wait for seconds.
			runtime.Gosched()
		}
	}
}
