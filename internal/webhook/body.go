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
	smallPiece = MinimumReservation
	largePiece = 32 << 10
)

// Pieces and whole bodies are used again: a flood that left garbage instead would have the heap grow to twice its size.
var (
	smallPieces = sync.Pool{New: func() any { return new([smallPiece]byte) }}
	largePieces = sync.Pool{New: func() any { return new([largePiece]byte) }}
	wholes      = sync.Pool{New: func() any { return new([]byte) }}
)

// body is what was read of a request so far.
type body struct {
	pieces [][]byte // each with its piece as capacity
	length int
}

// room returns where to read to: what is left of the last piece, or a new one.
func (b *body) room() []byte {
	if n := len(b.pieces); n > 0 && len(b.pieces[n-1]) < cap(b.pieces[n-1]) {
		last := b.pieces[n-1]
		return last[len(last):cap(last)]
	}
	var piece []byte
	if b.length < largePiece {
		piece = smallPieces.Get().(*[smallPiece]byte)[:]
	} else {
		piece = largePieces.Get().(*[largePiece]byte)[:]
	}
	b.pieces = append(b.pieces, piece[:0])
	return piece
}

// grow says that n bytes were read into the room.
func (b *body) grow(n int) {
	last := &b.pieces[len(b.pieces)-1]
	*last = (*last)[:len(*last)+n]
	b.length += n
}

// whole calls use with all that was read, in one piece that is only valid during the call, and releases the body.
func (b *body) whole(use func(all []byte)) {
	if len(b.pieces) == 1 {
		use(b.pieces[0])
		b.release()
		return
	}
	all := wholes.Get().(*[]byte)
	defer wholes.Put(all)
	if cap(*all) < b.length {
		*all = make([]byte, 0, b.length)
	}
	*all = (*all)[:0]
	for _, piece := range b.pieces {
		*all = append(*all, piece...)
	}
	b.release()
	use(*all)
}

// release gives the pieces back. Further calls do nothing.
func (b *body) release() {
	for _, piece := range b.pieces {
		if cap(piece) == smallPiece {
			smallPieces.Put((*[smallPiece]byte)(piece[:smallPiece]))
		} else {
			largePieces.Put((*[largePiece]byte)(piece[:largePiece]))
		}
	}
	b.pieces, b.length = nil, 0
}

// readBody reads a body of at most limit bytes and charges the share for each piece when it has arrived, so that a slow
// sender holds what it has sent (at least the minimum share), and a header that announces much holds nothing. The pieces
// have at most about twice the room that was charged.
//
// It fails with errTooLarge, errOverloaded or the error of the reader.
func readBody(from io.Reader, limit int64, share *Reservation) (*body, error) {
	read := &body{}
	for {
		n, err := from.Read(read.room())
		read.grow(n)
		switch {
		case int64(read.length) > limit:
			err = errTooLarge
		case !share.Grow(int64(read.length)):
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
