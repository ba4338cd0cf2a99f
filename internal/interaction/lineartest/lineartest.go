//go:build unix

// Package lineartest checks that work takes linear time. Only tests import it.
package lineartest

import (
	"encoding/json"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Sizes returns the sizes of hostile input: 16 KiB, 128 KiB and 1 MiB, and with the race detector a sixteenth of that. Each is
// 8 times the one before: linear work takes about 8 times as long for it, quadratic work 64 times.
func Sizes() []int {
	return []int{smallest, 8 * smallest, 64 * smallest}
}

// allowedPerByte is the time for each byte that always passes: 10 times what encoding/json takes here, which is more with
// the race detector. Below it, the cost of the memory for the larger size exceeds that of the work. Quadratic work on the
// largest size takes far longer.
var allowedPerByte = sync.OnceValue(func() time.Duration {
	const size = 64 << 10
	data := []byte(Fill(size, `[`, `"a",`, `""]`))
	least := time.Hour
	for range 5 {
		least = min(least, timeOf(func() { _ = json.Unmarshal(data, new(any)) }))
	}
	return max(10*least/size, 200*time.Nanosecond)
})

// TestingT is the part of a *testing.T that Assert uses.
type TestingT interface {
	Helper()
	Errorf(format string, args ...any)
}

// Assert fails the test unless the work on each size takes less than 12 times as long as on the size before, or less than
// allowedPerByte. Prepare returns the work on an input of a size.
//
// It measures processor time, which other processes hardly affect, and takes the minimum of several runs, because every
// disturbance makes a run longer. Tests that call it must not be parallel, because the time of all goroutines counts.
//
// A size is not measured if the work on the size before was so fast that it passes even if the work is quadratic. That is
// most of the input, and the larger size takes most of the time.
func Assert(t TestingT, prepare func(size int) (do func()), sizes ...int) {
	t.Helper()
	const factor, tries, enough = 12, 30, 5 * time.Second
	for n := 1; n < len(sizes); n++ {
		size, do := sizes[n], prepare(sizes[n])
		limit := allowedPerByte() * time.Duration(size)
		took := timeOf(do)
		if took >= limit {
			fast, doLess := time.Hour, prepare(sizes[n-1])
			for try, sum := 0, took; took >= limit && (try == 0 || try < tries && sum < enough); try++ {
				if try > 0 {
					again := timeOf(do)
					took, sum = min(took, again), sum+again
				}
				fast = min(fast, timeOf(doLess))
				limit = max(limit, factor*fast)
			}
			if took >= limit {
				t.Errorf("%v for %d bytes, against %v for %d", took, size, fast, sizes[n-1])
				return // the next size would take far too long
			}
		}
		if n+1 < len(sizes) && passesIfQuadratic(do, took, size, sizes[n+1]) {
			return
		}
	}
}

// passesIfQuadratic reports whether work that took this long on a size passes on the next size even if it is quadratic.
func passesIfQuadratic(do func(), took time.Duration, size, next int) bool {
	const tries = 3
	growth := time.Duration(next / size)
	limit := allowedPerByte() * time.Duration(next)
	for range tries {
		if growth*growth*took < limit {
			return true
		}
		took = min(took, timeOf(do))
	}
	return false
}

// timeOf returns the processor time that do takes.
func timeOf(do func()) time.Duration {
	start := processTime()
	do()
	return processTime() - start
}

// processTime returns the processor time of the process so far.
func processTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// Fill returns a text of about this size: head, repetitions of body, and tail.
func Fill(size int, head, body, tail string) string {
	return head + strings.Repeat(body, size/len(body)) + tail
}
