package m365copilotreceiver

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// nearest names the keys that were probably meant by a key that does not exist at path: those spelled most alike of that
// place, else of the whole configuration, since a line may be indented wrongly; where none is alike, all of that place.
func nearest(key, path string, here map[string]reflect.Type) string {
	var siblings []string
	for name := range here {
		siblings = append(siblings, below(path, name))
	}
	for _, paths := range [][]string{siblings, pathsOf(reflect.TypeFor[plainConfig](), "")} {
		if alike := mostAlike(key, paths); len(alike) == 1 {
			return alike[0]
		} else if len(alike) > 0 {
			return "one of " + strings.Join(alike, ", ")
		}
	}
	return "one of " + strings.Join(slices.Sorted(maps.Keys(here)), ", ")
}

// mostAlike returns the paths whose last keys differ least from key, in at most a third of its letters.
func mostAlike(key string, paths []string) []string {
	var alike []string
	least := max(1, len(key)/3)
	for _, path := range slices.Sorted(slices.Values(paths)) {
		last := path[strings.LastIndexByte(path, '.')+1:]
		switch d := distance(letters(key), letters(last)); {
		case d < least:
			least, alike = d, []string{path}
		case d == least:
			alike = append(alike, path)
		}
	}
	return alike
}

// letters takes clientId and client-id for client_id.
func letters(key string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(key))
}

// distance is that of Levenshtein: how many letters have to be inserted, deleted or replaced.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// pathsOf returns the paths of all keys of a type, without those inside of lists.
func pathsOf(t reflect.Type, path string) []string {
	var paths []string
	for key, inner := range keysOf(t) {
		at := below(path, key)
		paths = append(append(paths, at), pathsOf(inner, at)...)
	}
	return paths
}
