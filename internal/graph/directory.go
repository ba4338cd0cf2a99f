package graph

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

const (
	opUsers = "list users"
	// maxUsersBody is above a page of 999 users with all that Graph may say of them, whatever was asked for.
	maxUsersBody = 32 << 20
	// copilotPlan is the service plan of Microsoft 365 Copilot Chat, which every license for the history contains.
	copilotPlan = "3f30311c-6b1e-48a4-ab79-725b469da960"
)

// UserPage is one page of user ids.
type UserPage struct {
	// IDs are Entra object ids.
	IDs []string
	// Next is the link to the following page; empty on the last.
	Next string
}

// LicensedUsers reads one page of the users with a Copilot license, by its service plan, since several products have it. next
// is the link of the page before, empty for the first; it is followed on the endpoint's own host alone (ErrForeignHost). It
// needs the application permission User.Read.All: without it, Forbidden tells so of the error.
// See https://learn.microsoft.com/graph/api/user-list and https://learn.microsoft.com/graph/aad-advanced-queries
func (c *Client) LicensedUsers(ctx context.Context, next string) (UserPage, error) {
	r := call{operation: opUsers, method: http.MethodGet, target: next, limit: maxUsersBody, header: map[string]string{"ConsistencyLevel": "eventual"}}
	if next == "" {
		query := url.Values{
			"$filter": {"assignedPlans/any(p:p/servicePlanId eq " + copilotPlan + " and p/capabilityStatus eq 'Enabled')"},
			"$count":  {"true"}, "$select": {"id"}, "$top": {"999"},
		}
		r.target = "/users?" + strings.ReplaceAll(query.Encode(), "+", "%20")
	}
	var page struct {
		Value *[]struct {
			ID string `json:"id"`
		} `json:"value"`
		NextLink string `json:"@odata.nextLink"`
	}
	if err := c.do(ctx, r, &page); err != nil {
		return UserPage{}, err
	}
	if page.Value == nil {
		return UserPage{}, fmt.Errorf("%s: %w", opUsers, ErrUnreadable)
	}
	users := UserPage{Next: page.NextLink}
	for _, user := range *page.Value {
		if user.ID != "" {
			users.IDs = append(users.IDs, user.ID)
		}
	}
	return users, nil
}
