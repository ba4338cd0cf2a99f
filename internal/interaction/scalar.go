package interaction

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// text reads a string of valid JSON, or a number as its decimal digits, since ids are numbers in all but type.
// Everything else is empty.
func text(value json.RawMessage) string {
	switch c := kind(value); {
	case c == '"':
		if plain := value[1 : len(value)-1]; !bytes.ContainsRune(plain, '\\') && utf8.Valid(plain) {
			return string(plain)
		}
		var s string
		_ = json.Unmarshal(value, &s) // cannot fail on a valid string
		return s
	case c == '-' || c >= '0' && c <= '9':
		return decimal(string(value))
	default:
		return ""
	}
}

// decimal writes out a whole number in scientific notation, as some encoders write epoch milliseconds.
func decimal(number string) string {
	if !strings.ContainsAny(number, ".eE") {
		return number
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return number
	}
	return strconv.FormatFloat(f, 'f', 0, 64)
}

// number reads a 32 bit integer that is written as a number or as a string. Everything else is 0.
func number(value json.RawMessage) int32 {
	n, err := strconv.ParseInt(strings.TrimSpace(text(value)), 10, 32)
	if err != nil {
		return 0
	}
	return int32(n)
}

// instant reads a time of RFC 3339, with a fraction of any length and any offset. Everything else is zero, as are
// years that nanoseconds since 1970 in 64 bits cannot tell, for every user of the time counts in those.
func instant(value json.RawMessage) time.Time {
	t, err := time.Parse(time.RFC3339, strings.ToUpper(strings.TrimSpace(text(value))))
	if err != nil || t.Year() < 1970 || t.Year() >= 2262 {
		return time.Time{}
	}
	return t.UTC()
}
