package graph

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

const (
	opUsers, opUser = "list users", "read user"
	// copilotPlan is the service plan of Microsoft 365 Copilot Chat, which every license that includes the history contains.
	copilotPlan = "3f30311c-6b1e-48a4-ab79-725b469da960"
)

// UserPage is one page of users. Their properties that were not selected are empty, whatever Graph sent.
type UserPage = Page[interaction.Person]

// LicensedUsers reads one page of the users with a Copilot license, at most 999, with their ids and the given properties, by their
// names in Graph. It filters by the service plan, since several products contain it. next is the link of the previous page, empty
// for the first page; it is followed only on the endpoint's own host (ErrForeignHost). The call needs the application permission
// User.Read.All; without it, Forbidden reports true for the error.
// See https://learn.microsoft.com/graph/api/user-list and https://learn.microsoft.com/graph/aad-advanced-queries
func (c *Client) LicensedUsers(ctx context.Context, next string, properties []string) (UserPage, error) {
	r := call{operation: opUsers, method: http.MethodGet, target: next, header: map[string]string{"ConsistencyLevel": "eventual"}}
	if next == "" {
		r.target = "/users?" + encodeQuery(url.Values{
			"$filter": {"assignedPlans/any(p:p/servicePlanId eq " + copilotPlan + " and p/capabilityStatus eq 'Enabled')"},
			"$count":  {"true"}, "$select": {selection(properties)}, "$top": {"999"},
		})
	}
	sent, err := readPage[sentUser](ctx, c, r)
	if err != nil {
		return UserPage{}, err
	}
	page := UserPage{Items: make([]interaction.Person, 0, len(sent.Items)), Next: sent.Next}
	for _, user := range sent.Items {
		if person := user.person(properties); person.ID != "" {
			person.Licensed = true
			page.Items = append(page.Items, person)
		}
	}
	return page, nil
}

// User reads a user by the Entra object id, with the given properties, by their names in Graph. Licensed is true if the user's
// Copilot service plan is enabled. The call needs the application permission User.Read.All; Forbidden and UnknownUser classify its
// error, which has no text of Graph's message. See https://learn.microsoft.com/graph/api/user-get
func (c *Client) User(ctx context.Context, id string, properties []string) (interaction.Person, error) {
	var sent sentUser
	query := encodeQuery(url.Values{"$select": {selection(append(slices.Clone(properties), "assignedPlans"))}})
	r := call{operation: opUser, method: http.MethodGet, target: "/users/" + url.PathEscape(id) + "?" + query}
	if err := c.do(ctx, r, &sent); err != nil {
		return interaction.Person{}, err
	}
	// https://learn.microsoft.com/graph/api/resources/assignedplan
	var plans []struct {
		ServicePlanID    string `json:"servicePlanId"`
		CapabilityStatus string `json:"capabilityStatus"`
	}
	person := sent.person(properties)
	if !strings.EqualFold(person.ID, id) || json.Unmarshal(sent["assignedPlans"], &plans) != nil {
		return interaction.Person{}, fmt.Errorf("%s: %w", opUser, ErrUnreadable)
	}
	for _, plan := range plans {
		person.Licensed = person.Licensed || strings.EqualFold(plan.ServicePlanID, copilotPlan) && plan.CapabilityStatus == "Enabled"
	}
	return person, nil
}

func selection(properties []string) string {
	return strings.Join(append([]string{"id"}, properties...), ",")
}

// sentUser is a user as Graph sent it, by the names of the properties.
type sentUser map[string]json.RawMessage

// person returns the id and the selected properties. One that is no text, as null, stays empty: it must not hide all other users.
func (u sentUser) person(properties []string) (p interaction.Person) {
	for name, property := range map[string]*string{
		"userPrincipalName": &p.UserPrincipalName, "displayName": &p.DisplayName, "department": &p.Department,
		"officeLocation": &p.OfficeLocation, "country": &p.Country, "jobTitle": &p.JobTitle, "companyName": &p.CompanyName,
		"onPremisesSamAccountName":     &p.OnPremisesSamAccountName,
		"onPremisesSecurityIdentifier": &p.OnPremisesSecurityIdentifier,
		"onPremisesDomainName":         &p.OnPremisesDomainName,
	} {
		if slices.Contains(properties, name) {
			_ = json.Unmarshal(u[name], property)
		}
	}
	_ = json.Unmarshal(u["id"], &p.ID) // without one the callers leave it out
	return p
}
