package translate

// otherValue stands for every value of an attribute past its bound.
const otherValue = "other"

// cardinalityLimiter lets the first values through and replaces all later ones, so that the number of series is bounded.
type cardinalityLimiter struct {
	seen map[string]struct{}
	most int
}

func newCardinalityLimiter(most int) cardinalityLimiter {
	return cardinalityLimiter{seen: map[string]struct{}{}, most: most}
}

// bound returns the value itself, or other when it is new and the bound is reached. An empty value is none.
func (d *cardinalityLimiter) bound(value string) string {
	if value == "" {
		return ""
	}
	if _, known := d.seen[value]; known {
		return value
	}
	if len(d.seen) >= d.most {
		return otherValue
	}
	d.seen[value] = struct{}{}
	return value
}
