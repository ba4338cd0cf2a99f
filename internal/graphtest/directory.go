package graphtest

import (
	"net/http"
	"slices"
	"strconv"
	"sync"
)

// The largest page of the directory, and that of a request without $top: https://learn.microsoft.com/graph/api/user-list
const (
	maxUsersTop     = 999
	defaultUsersTop = 100
)

// licensedFilter is the one filter that the emulated directory knows: the users whose Copilot Chat plan is enabled.
const licensedFilter = "assignedPlans/any(p:p/servicePlanId eq 3f30311c-6b1e-48a4-ab79-725b469da960 and p/capabilityStatus eq 'Enabled')"

// directory holds the ids of the licensed users: those that were set, else the first limit of those who conversed.
type directory struct {
	limit int

	mu        sync.Mutex // guards what follows
	set       bool
	ids       []string
	conversed []string
	known     map[string]bool
}

func newDirectory(limit int) *directory { return &directory{limit: limit, known: map[string]bool{}} }

// SetUsers says who has a Copilot license in the directory, nobody for none. Until it is called, everybody has one who ever
// conversed. The history does not mind the directory: see SetUnlicensed.
func (e *Emulator) SetUsers(ids ...string) {
	e.directory.mu.Lock()
	defer e.directory.mu.Unlock()
	e.directory.set, e.directory.ids = true, slices.Clone(ids)
}

func (d *directory) converse(user string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if user == "" || d.known[user] || len(d.conversed) >= d.limit {
		return
	}
	d.known[user] = true
	d.conversed = append(d.conversed, user)
}

// directoryUser is a user with the one property that may be selected.
type directoryUser struct {
	ID string `json:"id"`
}

type directoryPage struct {
	Count    int             `json:"@odata.count"`
	NextLink string          `json:"@odata.nextLink,omitempty"`
	Value    []directoryUser `json:"value"`
}

// serveUsers answers the list of licensed users, which is an advanced query: without the header and $count it is refused.
// https://learn.microsoft.com/graph/aad-advanced-queries
func (e *Emulator) serveUsers(w http.ResponseWriter, r *http.Request, _ []string) {
	query := r.URL.Query()
	top, topOK := number(query.Get("$top"), defaultUsersTop)
	skip, skipOK := number(query.Get("$skiptoken"), 0)
	switch {
	case r.Header.Get("ConsistencyLevel") != "eventual" || query.Get("$count") != "true":
		(&graphError{http.StatusBadRequest, "Request_UnsupportedQuery", "Unsupported or invalid query filter clause specified for property 'assignedPlans'."}).write(w)
		return
	case query.Get("$filter") != licensedFilter || query.Get("$select") != "id" || !topOK || !skipOK || top < 1 || top > maxUsersTop:
		(&graphError{http.StatusBadRequest, "Request_BadRequest", "Invalid query."}).write(w)
		return
	}
	page, more := e.directory.page(skip, top)
	if more {
		page.NextLink = e.nextLink(r, skip+top)
	}
	writeJSON(w, http.StatusOK, page)
}

// number reads a parameter that is not negative.
func number(text string, absent int) (int, bool) {
	if text == "" {
		return absent, true
	}
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= 0
}

func (d *directory) page(skip, top int) (page directoryPage, more bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	ids := d.conversed
	if d.set {
		ids = d.ids
	}
	page = directoryPage{Count: len(ids), Value: []directoryUser{}}
	for _, id := range ids[min(skip, len(ids)):min(skip+top, len(ids))] {
		page.Value = append(page.Value, directoryUser{id})
	}
	return page, skip+top < len(ids)
}
