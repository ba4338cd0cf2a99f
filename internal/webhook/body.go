package webhook

import (
	"errors"
	"io"
	"slices"
)

// readAtOnce bounds what one read takes before it is charged.
const readAtOnce = 32 << 10

// Why a body was not read to its end, apart from the errors of the reader itself.
var (
	errOverloaded = errors.New("too many bytes under way")
	errTooLarge   = errors.New("body over the limit")
)

// readBody reads a body of at most limit bytes and charges the share for each piece when it has arrived, so that a slow
// sender holds what it has sent (at least the minimum share), and a header that announces much holds nothing.
// The buffer doubles when it is full, so it is at most about twice as large as what was charged.
//
// It fails with errTooLarge, errOverloaded or the error of the reader.
func readBody(body io.Reader, limit int64, share *Share) ([]byte, error) {
	read := make([]byte, 0, MinimumShare)
	for {
		if len(read) == cap(read) {
			read = slices.Grow(read, len(read))
		}
		n, err := body.Read(read[len(read):min(cap(read), len(read)+readAtOnce)])
		read = read[:len(read)+n]
		switch {
		case int64(len(read)) > limit:
			return nil, errTooLarge
		case !share.Hold(int64(len(read))):
			return nil, errOverloaded
		case errors.Is(err, io.EOF):
			return read, nil
		case err != nil:
			return nil, err
		}
	}
}
