// SPDX-License-Identifier: Apache-2.0

package graphtest

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// The largest page of the directory, and that of a request without $top: https://learn.microsoft.com/graph/api/user-list
const (
	maxUsersTop     = 999
	defaultUsersTop = 100
)

// CopilotPlan is the service plan that makes a user a licensed one: Microsoft 365 Copilot Chat.
const CopilotPlan = "3f30311c-6b1e-48a4-ab79-725b469da960"

// licensedFilter is the only filter that the emulated directory supports: users whose Copilot plan is enabled.
const licensedFilter = "assignedPlans/any(p:p/servicePlanId eq " + CopilotPlan + " and p/capabilityStatus eq 'Enabled')"

// Person is a user of the directory, with the properties of Graph's user resource that the emulator knows. What is empty is null.
// https://learn.microsoft.com/graph/api/resources/user
type Person struct {
	// ID is the object id, a GUID.
	ID string

	UserPrincipalName, DisplayName, Department, OfficeLocation, Country, JobTitle, CompanyName string

	// The properties of users that are synchronized from Active Directory.
	OnPremisesSamAccountName, OnPremisesSecurityIdentifier, OnPremisesDomainName string

	// Licensed is true if the user's Copilot plan is enabled.
	Licensed bool
	// Plans are further service plans, such as a Copilot plan that is not enabled.
	Plans []Plan
}

// Plan is a service plan assigned to a user: https://learn.microsoft.com/graph/api/resources/assignedplan
type Plan struct {
	ServicePlanID string `json:"servicePlanId"`
	Service       string `json:"service"`
	// CapabilityStatus is Enabled, Warning, Suspended, Deleted or LockedOut.
	CapabilityStatus string `json:"capabilityStatus"`
	AssignedDateTime string `json:"assignedDateTime"`
}

// assigned is the time at which all plans were assigned.
const assigned = "2025-09-01T08:00:00Z"

func copilotPlan(status string) Plan {
	return Plan{ServicePlanID: CopilotPlan, Service: "MicrosoftOffice", CapabilityStatus: status, AssignedDateTime: assigned}
}

// plans returns all assigned plans, the enabled Copilot plan last.
func (p Person) plans() []Plan {
	plans := append([]Plan{}, p.Plans...)
	if p.Licensed {
		plans = append(plans, copilotPlan("Enabled"))
	}
	return plans
}

func (p Person) licensed() bool {
	return p.Licensed || slices.ContainsFunc(p.Plans, func(plan Plan) bool {
		return plan.ServicePlanID == CopilotPlan && plan.CapabilityStatus == "Enabled"
	})
}

// properties are the properties that may be selected.
var properties = map[string]func(Person) any{
	"id":                           func(p Person) any { return p.ID },
	"userPrincipalName":            func(p Person) any { return nullable(p.UserPrincipalName) },
	"displayName":                  func(p Person) any { return nullable(p.DisplayName) },
	"department":                   func(p Person) any { return nullable(p.Department) },
	"officeLocation":               func(p Person) any { return nullable(p.OfficeLocation) },
	"country":                      func(p Person) any { return nullable(p.Country) },
	"jobTitle":                     func(p Person) any { return nullable(p.JobTitle) },
	"companyName":                  func(p Person) any { return nullable(p.CompanyName) },
	"onPremisesSamAccountName":     func(p Person) any { return nullable(p.OnPremisesSamAccountName) },
	"onPremisesSecurityIdentifier": func(p Person) any { return nullable(p.OnPremisesSecurityIdentifier) },
	"onPremisesDomainName":         func(p Person) any { return nullable(p.OnPremisesDomainName) },
	"assignedPlans":                func(p Person) any { return p.plans() },
}

// defaultProperties are those returned without $select.
const defaultProperties = "id,displayName,jobTitle,officeLocation,userPrincipalName"

func nullable(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// pick returns the selected properties alone.
func (p Person) pick(selected []string) map[string]any {
	user := make(map[string]any, len(selected))
	for _, name := range selected {
		user[name] = properties[name](p)
	}
	return user
}

// directory holds the users: those set or, before that, the first limit users with an interaction.
type directory struct {
	limit int

	mu       sync.Mutex // guards what follows
	explicit bool
	people   []*Person
	// byID holds the same by the id in lower case, licensed those of them who are licensed, nil after a change.
	byID     map[string]*Person
	licensed []*Person
}

func newDirectory(limit int) *directory { return &directory{limit: limit, byID: map[string]*Person{}} }

// SetDirectory sets all users of the directory; without arguments, it is empty. The history does not depend on the directory: see
// SetUnlicensed.
func (e *Emulator) SetDirectory(people ...Person) {
	e.directory.change(func(d *directory) {
		d.people = nil
		clear(d.byID)
		d.joinLocked(people)
	})
}

// SetUsers sets licensed users without properties as all users of the directory.
func (e *Emulator) SetUsers(ids ...string) {
	people := make([]Person, len(ids))
	for i, id := range ids {
		people[i] = Person{ID: id, Licensed: true}
	}
	e.SetDirectory(people...)
}

// Join adds users to the directory. Those who are there already have the new properties from now on.
func (e *Emulator) Join(people ...Person) {
	e.directory.change(func(d *directory) { d.joinLocked(people) })
}

// Leave removes users from the directory: it neither lists nor finds them any longer.
func (e *Emulator) Leave(ids ...string) {
	e.directory.change(func(d *directory) {
		left := map[*Person]bool{}
		for _, id := range ids {
			left[d.byID[strings.ToLower(id)]] = true
			delete(d.byID, strings.ToLower(id))
		}
		d.people = slices.DeleteFunc(d.people, func(p *Person) bool { return left[p] })
	})
}

// change changes the users, after which those with an interaction are no longer added.
func (d *directory) change(change func(*directory)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.explicit, d.licensed = true, nil
	change(d)
}

func (d *directory) joinLocked(people []Person) {
	d.licensed = nil
	for _, p := range people {
		if old, found := d.byID[strings.ToLower(p.ID)]; found {
			*old = p
			continue
		}
		d.people = append(d.people, &p)
		d.byID[strings.ToLower(p.ID)] = &p
	}
}

func (d *directory) addActive(user string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.explicit || user == "" || len(d.people) >= d.limit {
		return
	}
	if _, known := d.byID[user]; !known {
		d.joinLocked([]Person{{ID: user, Licensed: true}})
	}
}

// usersRequest holds the query parameters of a request for a page of the directory.
type usersRequest struct {
	licensed, count bool
	selected        []string
	top, skip       int
}

// serveUsers answers a request for a page of the directory: of all users or of the licensed ones.
func (e *Emulator) serveUsers(w http.ResponseWriter, r *http.Request, _ []string) {
	if e.throttled(w) {
		return
	}
	request, apiErr := parseUsersRequest(r)
	if apiErr != nil {
		apiErr.write(w)
		return
	}
	page, total := e.directory.page(request)
	answer := map[string]any{"@odata.context": e.baseURL(r) + "/v1.0/$metadata#users", "value": page}
	if request.count {
		answer["@odata.count"] = total
	}
	if request.skip+request.top < total {
		answer["@odata.nextLink"] = e.nextLink(r, request.skip+request.top)
	}
	writeJSON(w, http.StatusOK, answer)
}

// throttled reports whether it refused the request because of Settings.DirectoryLimit.
func (e *Emulator) throttled(w http.ResponseWriter) bool {
	if e.directoryLimit.Allow() {
		return false
	}
	e.recorder.update(func(s *Stats) { s.DirectoryThrottled++ })
	writeThrottled(w)
	return true
}

// parseUsersRequest refuses what the emulator does not support. The filter and $count are advanced, which Graph refuses without the
// header, and the filter without $count: https://learn.microsoft.com/graph/aad-advanced-queries
func parseUsersRequest(r *http.Request) (usersRequest, *graphError) {
	query := r.URL.Query()
	if apiErr := checkParameters(query, "$count", "$filter", "$select", "$skiptoken", "$top"); apiErr != nil {
		return usersRequest{}, apiErr
	}
	request := usersRequest{licensed: query.Has("$filter"), count: query.Get("$count") == "true"}
	if r.Header.Get("ConsistencyLevel") != "eventual" && (request.licensed || request.count) || request.licensed && !request.count {
		return usersRequest{}, &graphError{
			http.StatusBadRequest, "Request_UnsupportedQuery",
			"Unsupported or invalid query filter clause specified for property 'assignedPlans'.",
		}
	}
	if request.licensed && query.Get("$filter") != licensedFilter {
		return usersRequest{}, badQuery("Invalid filter clause.")
	}
	var topOK, skipOK bool
	request.top, topOK = parseCount(query.Get("$top"), defaultUsersTop)
	request.skip, skipOK = parseCount(query.Get("$skiptoken"), 0)
	if !topOK || !skipOK || request.top < 1 || request.top > maxUsersTop {
		return usersRequest{}, badQuery("Invalid page size specified. Must be between 1 and 999 inclusive.")
	}
	var apiErr *graphError
	request.selected, apiErr = parseSelect(query)
	return request, apiErr
}

func badQuery(message string) *graphError {
	return &graphError{http.StatusBadRequest, "Request_BadRequest", message}
}

// checkParameters refuses all parameters but those known.
func checkParameters(query url.Values, known ...string) *graphError {
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if !slices.Contains(known, name) {
			return badQuery(fmt.Sprintf("Unrecognized query argument specified: '%s'.", name))
		}
	}
	return nil
}

// parseSelect returns the properties to return.
func parseSelect(query url.Values) ([]string, *graphError) {
	text := defaultProperties
	if query.Has("$select") {
		text = query.Get("$select")
	}
	selected := strings.Split(text, ",")
	for _, name := range selected {
		if properties[name] == nil {
			return nil, badQuery(fmt.Sprintf("Parsing OData Select and Expand failed: Could not find a property named '%s' on type "+
				"'microsoft.graph.user'.", name))
		}
	}
	return selected, nil
}

// parseCount parses a non-negative parameter, absent if text is empty.
func parseCount(text string, absent int) (int, bool) {
	if text == "" {
		return absent, true
	}
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= 0
}

// page returns the users of a page, and the number of users on all pages.
func (d *directory) page(request usersRequest) (page []map[string]any, total int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	people := d.people
	if request.licensed {
		people = d.licensedLocked()
	}
	page = []map[string]any{}
	for _, p := range people[min(request.skip, len(people)):min(request.skip+request.top, len(people))] {
		page = append(page, p.pick(request.selected))
	}
	return page, len(people)
}

func (d *directory) licensedLocked() []*Person {
	if d.licensed == nil {
		d.licensed = slices.DeleteFunc(slices.Clone(d.people), func(p *Person) bool { return !p.licensed() })
	}
	return d.licensed
}

// serveUser answers a request for one user.
func (e *Emulator) serveUser(w http.ResponseWriter, r *http.Request, args []string) {
	if e.throttled(w) {
		return
	}
	query := r.URL.Query()
	apiErr := checkParameters(query, "$select")
	selected, selectErr := parseSelect(query)
	if apiErr == nil {
		apiErr = selectErr
	}
	user, found := e.directory.find(args[0], selected)
	if apiErr == nil && !found {
		apiErr = &graphError{http.StatusNotFound, "Request_ResourceNotFound", fmt.Sprintf("Resource '%s' does not exist or one of its "+
			"queried reference-property objects are not present.", args[0])}
	}
	if apiErr != nil {
		apiErr.write(w)
		return
	}
	user["@odata.context"] = e.baseURL(r) + "/v1.0/$metadata#users/$entity"
	writeJSON(w, http.StatusOK, user)
}

func (d *directory) find(id string, selected []string) (map[string]any, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, found := d.byID[strings.ToLower(id)]
	if !found {
		return nil, false
	}
	return p.pick(selected), true
}
