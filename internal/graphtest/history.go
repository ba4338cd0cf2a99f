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
)

// archive keeps what happened, the newest version of each interaction, up to limit.
type archive struct {
	limit int

	mu         sync.Mutex // guards what follows
	entries    []essence
	unlicensed map[string]bool
}

func newArchive(limit int) *archive { return &archive{limit: limit, unlicensed: map[string]bool{}} }

// add keeps deletions out: the history still shows what was deleted.
func (a *archive) add(happened ...essence) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range happened {
		if h.Change == "deleted" {
			continue
		}
		if h.Change == "updated" {
			same := func(o essence) bool { return o.id == h.id && o.session == h.session && o.UserID == h.UserID }
			if i := slices.IndexFunc(a.entries, same); i >= 0 {
				a.entries[i] = h
				continue
			}
		}
		a.entries = bounded(a.limit, a.entries, h)
	}
}

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
	for _, i := range interactions {
		one, err := i.essence()
		if err != nil {
			return err
		}
		e.users.attribute(&one)
		e.history.add(one)
	}
	return nil
}

const defaultTop = 20

// window is what a request asks of the history.
type window struct {
	after, before time.Time
	top, skip     int
}

// rangePattern is the one form of filter that is documented: both bounds, strict, with full times.
// https://learn.microsoft.com/microsoft-365/copilot/extensibility/api/ai-services/interaction-export/aiinteractionhistory-getallenterpriseinteractions
var rangePattern = regexp.MustCompile(`^createdDateTime gt (\S+) and createdDateTime lt (\S+)$`)

// serveHistory answers the export of one user's interactions, the newest first.
func (e *Emulator) serveHistory(w http.ResponseWriter, r *http.Request, args []string) {
	user := strings.ToLower(args[0])
	asked, refused := parseWindow(r.URL.Query())
	if refused != nil {
		refused.write(w)
		return
	}
	page, more, refused := e.history.read(user, asked)
	if refused != nil {
		refused.write(w)
		return
	}
	answer := map[string]any{"value": page, "@odata.count": len(page)}
	if more {
		query := r.URL.Query()
		query.Set("$skiptoken", strconv.Itoa(asked.skip+asked.top))
		answer["@odata.nextLink"] = e.base(r) + r.URL.EscapedPath() + "?" + query.Encode()
	}
	writeJSON(w, http.StatusOK, answer)
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

func (a *archive) read(user string, asked window) (page []json.RawMessage, more bool, refused *graphError) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.unlicensed[user] {
		return nil, false, &graphError{http.StatusForbidden, "Forbidden", fmt.Sprintf("User '%s' does not have a valid Copilot license.", user)}
	}
	var found []essence
	for _, entry := range a.entries {
		if entry.UserID != user || !asked.after.IsZero() && (!entry.at.After(asked.after) || !entry.at.Before(asked.before)) {
			continue
		}
		found = append(found, entry)
	}
	slices.SortStableFunc(found, func(x, y essence) int { return y.at.Compare(x.at) })
	page = []json.RawMessage{}
	for _, entry := range found[min(asked.skip, len(found)):min(asked.skip+asked.top, len(found))] {
		page = append(page, entry.JSON)
	}
	return page, asked.skip+asked.top < len(found), nil
}
