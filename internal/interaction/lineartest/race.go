//go:build unix && race

package lineartest

// The race detector makes the work about 30 times slower, and says nothing about how it grows.
const smallest = 1 << 10
