// This file and a few changed lines of time.go are compiled into the collector whose clock tests can set: see clock_test.go.

package time

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

// shifts are the seconds by which the clock of the wall and the monotonic clock are off. They are in the file that the
// environment variable CLOCK names, and whoever writes to it moves the clocks of this process. Nil is without such a file.
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

// shift takes what runtimeNow returns and returns the same with both clocks moved.
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
