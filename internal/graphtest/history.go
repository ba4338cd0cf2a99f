// SPDX-License-Identifier: Apache-2.0

package graphtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// SetUnlicensed sets which users have no Copilot license: reading their history is forbidden.
func (e *Emulator) SetUnlicensed(users ...string) {
	e.history.mu.Lock()
	defer e.history.mu.Unlock()
	clear(e.history.unlicensed)
	for _, user := range users {
		e.history.unlicensed[strings.ToLower(user)] = true
	}
}

// AddHistory adds interactions to the history without notifying any subscription.
func (e *Emulator) AddHistory(interactions ...Interaction) error {
	_, err := e.addToHistory(interactions)
	return err
}

// addToHistory parses the interactions, attributes them to users and adds them to the history.
func (e *Emulator) addToHistory(interactions []Interaction) ([]parsedInteraction, error) {
	parsed := make([]parsedInteraction, 0, len(interactions))
	for _, i := range interactions {
		one, err := i.parse()
		if err != nil {
			return nil, err
		}
		e.users.attribute(&one)
		e.directory.addActive(one.UserID)
		parsed = append(parsed, one)
	}
	e.history.add(time.Now(), parsed...)
	return parsed, nil
}

// newLimiter permits bursts of one second's requests, since a client that respects the limit does not control how the network spaces
// its requests. Stats.HistoryPeak and Stats.DirectoryPeak are exact. A negative limit means none.
func newLimiter(perSecond int) *rate.Limiter {
	if perSecond < 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(perSecond), perSecond)
}

// writeThrottled refuses a request above a limit.
func writeThrottled(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	(&graphError{http.StatusTooManyRequests, "TooManyRequests", "Too many requests"}).write(w)
}

const defaultTop = 20

// historyRequest holds the query parameters of a history request. The bounds are zero without a filter.
type historyRequest struct {
	after, before time.Time
	top, skip     int
}

func (w historyRequest) matches(created time.Time) bool {
	return w.after.IsZero() || created.After(w.after) && created.Before(w.before)
}

// rangePattern is the only documented form of filter: both bounds, exclusive, with full times.
// https://learn.microsoft.com/microsoft-365/copilot/extensibility/api/ai-services/interaction-export/aiinteractionhistory-getallenterpriseinteractions
var rangePattern = regexp.MustCompile(`^createdDateTime gt (\S+) and createdDateTime lt (\S+)$`)

// serveHistory answers a request for one user's interactions, newest first.
func (e *Emulator) serveHistory(w http.ResponseWriter, r *http.Request, args []string) {
	if !e.historyLimit.Allow() {
		e.recorder.update(func(s *Stats) { s.HistoryThrottled++ })
		writeThrottled(w)
		return
	}
	user := strings.ToLower(args[0])
	request, apiErr := parseHistoryRequest(r.URL.Query())
	if apiErr == nil && !e.history.licensed(user) {
		apiErr = &graphError{http.StatusForbidden, "Forbidden", fmt.Sprintf("User '%s' does not have a valid Copilot license.", user)}
	}
	if apiErr != nil {
		apiErr.write(w)
		return
	}
	page, more := e.history.page(time.Now(), user, request)
	answer := map[string]any{"value": page, "@odata.count": len(page)}
	if more {
		answer["@odata.nextLink"] = e.nextLink(r, request.skip+request.top)
	}
	writeJSON(w, http.StatusOK, answer)
}

// nextLink returns the URL that continues the request at the item with index skip.
func (e *Emulator) nextLink(r *http.Request, skip int) string {
	query := r.URL.Query()
	query.Set("$skiptoken", strconv.Itoa(skip))
	return e.baseURL(r) + r.URL.EscapedPath() + "?" + query.Encode()
}

func parseHistoryRequest(query url.Values) (historyRequest, *graphError) {
	request := historyRequest{top: defaultTop}
	for name, number := range map[string]*int{"$top": &request.top, "$skiptoken": &request.skip} {
		if !query.Has(name) {
			continue
		}
		n, err := strconv.Atoi(query.Get(name))
		if err != nil || n < 0 || n == 0 && name == "$top" {
			return historyRequest{}, &graphError{http.StatusBadRequest, "BadRequest", fmt.Sprintf("Invalid value for %s.", name)}
		}
		*number = n
	}
	if !query.Has("$filter") {
		return request, nil
	}
	bounds := rangePattern.FindStringSubmatch(query.Get("$filter"))
	if bounds == nil {
		return historyRequest{}, errFilter
	}
	for i, at := range []*time.Time{&request.after, &request.before} {
		parsed, err := time.Parse(time.RFC3339, bounds[i+1])
		if err != nil {
			return historyRequest{}, errFilter
		}
		*at = parsed
	}
	return request, nil
}

// errFilter is Graph's answer to a filter with only one bound or with dates without times.
var errFilter = &graphError{http.StatusInternalServerError, "InternalServerError", "Failed to execute request."}

// historyStore keeps the latest limit interactions by user.
type historyStore struct {
	limit int
	// lag is the delay after which an interaction or a change becomes visible.
	lag time.Duration

	mu         sync.Mutex // guards what follows
	users      map[string][]*storedInteraction
	order      []string // the user of each interaction, oldest first
	unlicensed map[string]bool
}

// storedInteraction is an interaction with its versions, newest last. An older version is shown until the newest becomes visible.
type storedInteraction struct {
	id, session string
	versions    []version
}

type version struct {
	created, shown time.Time
	json           json.RawMessage
}

func newHistoryStore(s Settings) *historyStore {
	return &historyStore{limit: s.HistorySize, lag: s.HistoryLag, users: map[string][]*storedInteraction{}, unlicensed: map[string]bool{}}
}

// add ignores deletions: the history still shows deleted interactions.
// https://learn.microsoft.com/microsoftteams/export-teams-content-copilot
func (s *historyStore) add(now time.Time, parsed ...parsedInteraction) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range parsed {
		v := version{created: h.at, shown: now.Add(s.lag), json: h.JSON}
		switch h.Change {
		case "deleted":
		case "updated":
			if k := s.findLocked(h); k != nil {
				k.update(v, now)
				continue
			}
			s.addLocked(h, v)
		default:
			s.addLocked(h, v)
		}
	}
}

func (s *historyStore) findLocked(h parsedInteraction) *storedInteraction {
	for _, k := range s.users[h.UserID] {
		if k.id == h.id && k.session == h.session {
			return k
		}
	}
	return nil
}

func (s *historyStore) addLocked(h parsedInteraction, v version) {
	s.users[h.UserID] = append(s.users[h.UserID], &storedInteraction{h.id, h.session, []version{v}})
	if s.order = append(s.order, h.UserID); len(s.order) <= s.limit {
		return
	}
	oldest := s.order[0]
	s.order = s.order[1:]
	if s.users[oldest] = s.users[oldest][1:]; len(s.users[oldest]) == 0 {
		delete(s.users, oldest)
	}
}

// update adds a version and drops those that will never be shown again.
func (k *storedInteraction) update(v version, now time.Time) {
	if i := k.current(now); i > 0 {
		k.versions = slices.Delete(k.versions, 0, i)
	}
	k.versions = append(k.versions, v)
}

// current returns the index of the newest visible version, -1 if none is.
func (k *storedInteraction) current(now time.Time) int {
	for i, v := range slices.Backward(k.versions) {
		if !v.shown.After(now) {
			return i
		}
	}
	return -1
}

// page returns a page of the user's interactions, newest first.
func (s *historyStore) page(now time.Time, user string, request historyRequest) (page []json.RawMessage, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []version
	for _, k := range s.users[user] {
		if i := k.current(now); i >= 0 && request.matches(k.versions[i].created) {
			found = append(found, k.versions[i])
		}
	}
	slices.SortStableFunc(found, func(x, y version) int { return y.created.Compare(x.created) })
	page = []json.RawMessage{}
	for _, v := range found[min(request.skip, len(found)):min(request.skip+request.top, len(found))] {
		page = append(page, v.json)
	}
	return page, request.skip+request.top < len(found)
}

func (s *historyStore) licensed(user string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.unlicensed[user]
}
