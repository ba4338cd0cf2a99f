//go:build unix

// Package lineartest checks in tests that work takes linear time.
package lineartest

import (
	"encoding/json"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Sizes are those of a hostile input. Each is 8 times the one before: linear work takes about 8 times as long for it,
// quadratic work 64 times.
func Sizes() []int {
	return []int{16 << 10, 128 << 10, 1 << 20}
}

// allowedPerByte is how long a byte may take in any case: 10 times as long as encoding/json takes for one here, which is more
// with the race detector. Below it, the memory that the larger size needs weighs more than the work; quadratic work on
// the largest size takes far longer.
var allowedPerByte = sync.OnceValue(func() time.Duration {
	const size = 64 << 10
	data := []byte(Fill(size, `[`, `"a",`, `""]`))
	least := time.Hour
	for range 5 {
		least = min(least, timeOf(func() { _ = json.Unmarshal(data, new(any)) }))
	}
	return max(10*least/size, 200*time.Nanosecond)
})

// Assert wants each size to take less than 12 times as long as the one before, or to be done at once. It compares
// processor time, which other processes hardly change, and the least of some tries, since whatever disturbs a
// measurement makes it longer. These tests are not parallel, for the time of every goroutine counts.
func Assert(t *testing.T, prepare func(size int) (do func()), sizes ...int) {
	t.Helper()
	const factor, tries, enough = 12, 30, 5 * time.Second
	for n := range len(sizes) - 1 {
		small, large := prepare(sizes[n]), prepare(sizes[n+1])
		limit := allowedPerByte() * time.Duration(sizes[n+1])
		slow, fast := timeOf(large), time.Hour
		for try, sum := 0, slow; slow >= limit && (try == 0 || try < tries && sum < enough); try++ {
			if try > 0 {
				took := timeOf(large)
				slow, sum = min(slow, took), sum+took
			}
			fast = min(fast, timeOf(small))
			limit = max(limit, factor*fast)
		}
		if slow >= limit {
			t.Errorf("%v for %d bytes, against %v for %d", slow, sizes[n+1], fast, sizes[n])
			return // the next size would take far too long
		}
	}
}

func timeOf(do func()) time.Duration {
	start := processTime()
	do()
	return processTime() - start
}

func processTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// Fill is a text of this size, of the same thing over and over between a head and a tail.
func Fill(size int, head, body, tail string) string {
	return head + strings.Repeat(body, size/len(body)) + tail
}
