package graphtest

import (
	"net/http"
	"slices"
	"strconv"
	"sync"
)

// maxTop is the largest page of the directory: https://learn.microsoft.com/graph/api/user-list
const maxTop = 999

// licensedFilter is the one filter that the emulated directory knows: the users whose Copilot Chat plan is enabled.
const licensedFilter = "assignedPlans/any(p:p/servicePlanId eq 3f30311c-6b1e-48a4-ab79-725b469da960 and p/capabilityStatus eq 'Enabled')"

// directory holds the ids of the licensed users.
type directory struct {
	mu  sync.Mutex // guards what follows
	ids []string
}

// SetUsers says who has a Copilot license, for the directory alone: SetUnlicensed is for the history.
func (e *Emulator) SetUsers(ids ...string) {
	e.licensed.mu.Lock()
	defer e.licensed.mu.Unlock()
	e.licensed.ids = slices.Clone(ids)
}

// serveUsers answers the list of licensed users, which is an advanced query:
// https://learn.microsoft.com/graph/aad-advanced-queries
func (e *Emulator) serveUsers(w http.ResponseWriter, r *http.Request, _ []string) {
	query := r.URL.Query()
	top, topErr := strconv.Atoi(query.Get("$top"))
	skip, skipErr := 0, error(nil)
	if query.Has("$skiptoken") {
		skip, skipErr = strconv.Atoi(query.Get("$skiptoken"))
	}
	switch {
	case r.Header.Get("ConsistencyLevel") != "eventual" || query.Get("$count") != "true":
		(&graphError{http.StatusBadRequest, "Request_UnsupportedQuery", "Unsupported or invalid query filter clause specified for property 'assignedPlans'."}).write(w)
		return
	case query.Get("$filter") != licensedFilter || topErr != nil || skipErr != nil || top < 1 || top > maxTop || skip < 0:
		(&graphError{http.StatusBadRequest, "Request_BadRequest", "Invalid query."}).write(w)
		return
	}
	page, more := e.licensed.page(skip, top)
	answer := map[string]any{"value": page}
	if more {
		query.Set("$skiptoken", strconv.Itoa(skip+top))
		answer["@odata.nextLink"] = e.base(r) + r.URL.EscapedPath() + "?" + query.Encode()
	}
	writeJSON(w, http.StatusOK, answer)
}

func (d *directory) page(skip, top int) (page []map[string]string, more bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	page = []map[string]string{}
	for _, id := range d.ids[min(skip, len(d.ids)):min(skip+top, len(d.ids))] {
		page = append(page, map[string]string{"id": id})
	}
	return page, skip+top < len(d.ids)
}
