//go:build unix && !race

package lineartest

const smallest = 16 << 10
