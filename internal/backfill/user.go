package backfill

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

// user is a user in 16 bytes, so that 100,000 of them fit into 1.6 MB: the object id itself where it is a GUID, else a hash.
type user [16]byte

func (u user) compare(o user) int { return bytes.Compare(u[:], o[:]) }

// parseGUID reads the usual form of a GUID, in any case.
func parseGUID(id string) (u user, ok bool) {
	if len(id) != 36 || id[8] != '-' || id[13] != '-' || id[18] != '-' || id[23] != '-' {
		return user{}, false
	}
	digits := id[:8] + id[9:13] + id[14:18] + id[19:23] + id[24:]
	if _, err := hex.Decode(u[:], []byte(digits)); err != nil {
		return user{}, false
	}
	return u, true
}

// String returns the GUID in lower case.
func (u user) String() string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// parseUser reads what a configuration calls a user. Graph also takes user principal names, which are no GUIDs.
func parseUser(name string) (u user, guid bool) {
	if u, guid = parseGUID(name); guid {
		return u, true
	}
	sum := sha256.Sum256([]byte(strings.ToLower(name)))
	return user(sum[:16]), false
}

// sortUsers returns the users in order, each once. It reuses the slice.
func sortUsers(users []user) []user {
	slices.SortFunc(users, user.compare)
	return slices.Compact(users)
}

// names knows the configured users that are no GUIDs.
type names map[user]string

// parseUsers reads the configured users.
func parseUsers(configured []string) ([]user, names) {
	users := make([]user, 0, len(configured))
	named := names{}
	for _, name := range configured {
		u, guid := parseUser(name)
		if !guid {
			named[u] = name
		}
		users = append(users, u)
	}
	return sortUsers(users), named
}

// of returns what a URL calls a user.
func (n names) of(u user) string {
	if name, found := n[u]; found {
		return name
	}
	return u.String()
}
