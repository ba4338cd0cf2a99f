// This file and a few patched lines of time.go are compiled into the collector whose clock tests can set: see clock_test.go.

package time

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

// shifts are the offsets of the wall clock and the monotonic clock, in seconds. They are mapped from the file that the
// environment variable CLOCK names, so that a write to it moves the clocks of this process. Nil without such a file.
var shifts = mapShifts()

func mapShifts() *[2]int64 {
	path, found := syscall.Getenv("CLOCK")
	if !found {
		return nil
	}
	file, err := syscall.Open(path, syscall.O_RDONLY, 0)
	if err != nil {
		panic("open CLOCK: " + err.Error())
	}
	page, err := syscall.Mmap(file, 0, int(unsafe.Sizeof([2]int64{})), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic("map CLOCK: " + err.Error())
	}
	return (*[2]int64)(unsafe.Pointer(&page[0]))
}

// shift adds the offsets to the result of runtimeNow.
func shift(sec int64, nsec int32, mono int64) (int64, int32, int64) {
	if shifts == nil {
		return sec, nsec, mono
	}
	return sec + atomic.LoadInt64(&shifts[0]), nsec, shiftMonotonic(mono)
}

func shiftMonotonic(nano int64) int64 {
	if shifts == nil {
		return nano
	}
	return nano + atomic.LoadInt64(&shifts[1])*int64(Second)
}
