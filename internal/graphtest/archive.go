package graphtest

import (
	"encoding/json"
	"slices"
	"sync"
	"time"
)

// archive keeps what happened by user, at most limit interactions.
type archive struct {
	limit int
	// lag passes before what happened is shown.
	lag time.Duration

	mu         sync.Mutex // guards what follows
	users      map[string][]*kept
	order      []string // whose the interactions are, the oldest first
	unlicensed map[string]bool
}

// kept is an interaction with its versions, the newest last. Before the newest is shown, an older one is.
type kept struct {
	id, session string
	versions    []version
}

type version struct {
	created, shown time.Time
	json           json.RawMessage
}

func newArchive(s Settings) *archive {
	return &archive{limit: s.HistorySize, lag: s.HistoryLag, users: map[string][]*kept{}, unlicensed: map[string]bool{}}
}

// add leaves deletions out: the history still shows what was deleted.
// https://learn.microsoft.com/microsoftteams/export-teams-content-copilot
func (a *archive) add(now time.Time, happened ...essence) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range happened {
		v := version{created: h.at, shown: now.Add(a.lag), json: h.JSON}
		switch h.Change {
		case "deleted":
		case "updated":
			if k := a.findLocked(h); k != nil {
				k.update(v, now)
				continue
			}
			a.addLocked(h, v)
		default:
			a.addLocked(h, v)
		}
	}
}

func (a *archive) findLocked(h essence) *kept {
	for _, k := range a.users[h.UserID] {
		if k.id == h.id && k.session == h.session {
			return k
		}
	}
	return nil
}

func (a *archive) addLocked(h essence, v version) {
	a.users[h.UserID] = append(a.users[h.UserID], &kept{h.id, h.session, []version{v}})
	if a.order = append(a.order, h.UserID); len(a.order) <= a.limit {
		return
	}
	oldest := a.order[0]
	a.order = a.order[1:]
	if a.users[oldest] = a.users[oldest][1:]; len(a.users[oldest]) == 0 {
		delete(a.users, oldest)
	}
}

// update drops the versions that none will see any more.
func (k *kept) update(v version, now time.Time) {
	if i := k.current(now); i > 0 {
		k.versions = slices.Delete(k.versions, 0, i)
	}
	k.versions = append(k.versions, v)
}

// current is the index of the newest version that is shown, -1 for none.
func (k *kept) current(now time.Time) int {
	for i, v := range slices.Backward(k.versions) {
		if !v.shown.After(now) {
			return i
		}
	}
	return -1
}

// read returns a page of the user's interactions, the newest first.
func (a *archive) read(now time.Time, user string, asked window) (page []json.RawMessage, more bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var found []version
	for _, k := range a.users[user] {
		if i := k.current(now); i >= 0 && asked.has(k.versions[i].created) {
			found = append(found, k.versions[i])
		}
	}
	slices.SortStableFunc(found, func(x, y version) int { return y.created.Compare(x.created) })
	page = []json.RawMessage{}
	for _, v := range found[min(asked.skip, len(found)):min(asked.skip+asked.top, len(found))] {
		page = append(page, v.json)
	}
	return page, asked.skip+asked.top < len(found)
}

func (a *archive) licensed(user string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.unlicensed[user]
}
