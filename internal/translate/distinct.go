package translate

// otherValue stands for every value of an attribute past its bound.
const otherValue = "other"

// distinct lets the first values through and replaces all later ones, so that the number of series is bounded.
type distinct struct {
	seen map[string]struct{}
	most int
}

func newDistinct(most int) distinct {
	return distinct{seen: map[string]struct{}{}, most: most}
}

// bound returns the value itself, or other when it is new and the bound is reached. An empty value is none.
func (d *distinct) bound(value string) string {
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
