// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"context"
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

// UserPage is one page of users.
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
	page, err := readPage[interaction.Person](ctx, c, r)
	for i := range page.Items {
		page.Items[i].Licensed = true
	}
	return page, err
}

// User reads a user by the Entra object id, with the given properties, by their names in Graph. Licensed is true if the user's
// Copilot service plan is enabled. The call needs the application permission User.Read.All; Forbidden and UnknownUser classify its
// error, which has no text of Graph's message. See https://learn.microsoft.com/graph/api/user-get
func (c *Client) User(ctx context.Context, id string, properties []string) (interaction.Person, error) {
	var user struct {
		interaction.Person
		// https://learn.microsoft.com/graph/api/resources/assignedplan
		AssignedPlans []struct {
			ServicePlanID    string `json:"servicePlanId"`
			CapabilityStatus string `json:"capabilityStatus"`
		} `json:"assignedPlans"`
	}
	query := encodeQuery(url.Values{"$select": {selection(append(slices.Clone(properties), "assignedPlans"))}})
	r := call{operation: opUser, method: http.MethodGet, target: "/users/" + url.PathEscape(id) + "?" + query}
	if err := c.do(ctx, r, &user); err != nil {
		return interaction.Person{}, err
	}
	if !strings.EqualFold(user.ID, id) {
		return interaction.Person{}, fmt.Errorf("%s: %w", opUser, ErrUnreadable)
	}
	for _, plan := range user.AssignedPlans {
		user.Licensed = user.Licensed || strings.EqualFold(plan.ServicePlanID, copilotPlan) && plan.CapabilityStatus == "Enabled"
	}
	return user.Person, nil
}

func selection(properties []string) string {
	return strings.Join(append([]string{"id"}, properties...), ",")
}
