package graphtest

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// SetUnlicensed names the users without a Copilot license: their history is forbidden.
func (e *Emulator) SetUnlicensed(users ...string) {
	e.history.mu.Lock()
	defer e.history.mu.Unlock()
	clear(e.history.unlicensed)
	for _, user := range users {
		e.history.unlicensed[strings.ToLower(user)] = true
	}
}

// AddHistory puts interactions into the history alone: nobody is notified.
func (e *Emulator) AddHistory(interactions ...Interaction) error {
	_, err := e.happen(interactions)
	return err
}

// happen reads the interactions, finds out whose they are and puts them into the history.
func (e *Emulator) happen(interactions []Interaction) ([]essence, error) {
	happened := make([]essence, 0, len(interactions))
	for _, i := range interactions {
		one, err := i.essence()
		if err != nil {
			return nil, err
		}
		e.users.attribute(&one)
		e.directory.converse(one.UserID)
		happened = append(happened, one)
	}
	e.history.add(time.Now(), happened...)
	return happened, nil
}

// newHistoryLimiter lets a second's worth of requests come at once, since a client that keeps to the limit is not at fault for
// how its requests travel. Stats.HistoryPeak is exact.
func newHistoryLimiter(perSecond int) *rate.Limiter {
	if perSecond < 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(perSecond), perSecond)
}

const defaultTop = 20

// window is what a request asks of the history.
type window struct {
	after, before time.Time
	top, skip     int
}

func (w window) has(created time.Time) bool {
	return w.after.IsZero() || created.After(w.after) && created.Before(w.before)
}

// rangePattern is the one form of filter that is documented: both bounds, strict, with full times.
// https://learn.microsoft.com/microsoft-365/copilot/extensibility/api/ai-services/interaction-export/aiinteractionhistory-getallenterpriseinteractions
var rangePattern = regexp.MustCompile(`^createdDateTime gt (\S+) and createdDateTime lt (\S+)$`)

// serveHistory answers the export of one user's interactions, the newest first.
func (e *Emulator) serveHistory(w http.ResponseWriter, r *http.Request, args []string) {
	if !e.historyLimit.Allow() {
		e.records.update(func(s *Stats) { s.HistoryThrottled++ })
		w.Header().Set("Retry-After", "1")
		(&graphError{http.StatusTooManyRequests, "TooManyRequests", "Too many requests"}).write(w)
		return
	}
	user := strings.ToLower(args[0])
	asked, refused := parseWindow(r.URL.Query())
	if refused == nil && !e.history.licensed(user) {
		refused = &graphError{http.StatusForbidden, "Forbidden", fmt.Sprintf("User '%s' does not have a valid Copilot license.", user)}
	}
	if refused != nil {
		refused.write(w)
		return
	}
	page, more := e.history.read(time.Now(), user, asked)
	answer := map[string]any{"value": page, "@odata.count": len(page)}
	if more {
		answer["@odata.nextLink"] = e.nextLink(r, asked.skip+asked.top)
	}
	writeJSON(w, http.StatusOK, answer)
}

// nextLink repeats the request from the item with number skip on.
func (e *Emulator) nextLink(r *http.Request, skip int) string {
	query := r.URL.Query()
	query.Set("$skiptoken", strconv.Itoa(skip))
	return e.base(r) + r.URL.EscapedPath() + "?" + query.Encode()
}

func parseWindow(query url.Values) (window, *graphError) {
	asked := window{top: defaultTop}
	for name, number := range map[string]*int{"$top": &asked.top, "$skiptoken": &asked.skip} {
		if !query.Has(name) {
			continue
		}
		n, err := strconv.Atoi(query.Get(name))
		if err != nil || n < 0 || n == 0 && name == "$top" {
			return window{}, &graphError{http.StatusBadRequest, "BadRequest", fmt.Sprintf("Invalid value for %s.", name)}
		}
		*number = n
	}
	if !query.Has("$filter") {
		return asked, nil
	}
	bounds := rangePattern.FindStringSubmatch(query.Get("$filter"))
	if bounds == nil {
		return window{}, errFilter
	}
	for i, at := range []*time.Time{&asked.after, &asked.before} {
		parsed, err := time.Parse(time.RFC3339, bounds[i+1])
		if err != nil {
			return window{}, errFilter
		}
		*at = parsed
	}
	return asked, nil
}

// errFilter is what Graph answers to a filter with one bound or with dates alone.
var errFilter = &graphError{http.StatusInternalServerError, "InternalServerError", "Failed to execute request."}
