package graph

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	opHistory = "read history"
	// historyTop is the page size that Microsoft recommends.
	historyTop = "100"
	// maxHistoryBody bounds a page of 100 interactions, whose cards can be large.
	maxHistoryBody = 64 << 20
	// filterTimeFormat is the form that the filter accepts: date and time in whole seconds of UTC.
	filterTimeFormat = "2006-01-02T15:04:05Z"
)

// HistoryPage is one page of a user's interactions, the newest first as far as is known.
type HistoryPage struct {
	// Items are aiInteraction resources in the JSON that Graph sent.
	Items []json.RawMessage
	// Next is the link to the following page; empty on the last.
	Next string
}

// History reads one page of a user's interactions that were created after from and before to. Both bounds are exclusive and
// sent in whole seconds: from is rounded down and to is rounded up. An interaction created at from exactly, on a whole second,
// is therefore not returned, so callers need a margin. next is the link of the previous page, empty for the first page; it is
// followed unchanged, and only on the endpoint's own host (ErrForeignHost). The call needs the application permission
// AiEnterpriseInteraction.Read.All. An *Error names no user and quotes no values; Unlicensed, Forbidden and Unsupported
// classify it.
// See https://learn.microsoft.com/microsoft-365/copilot/extensibility/api/ai-services/interaction-export/aiinteractionhistory-getallenterpriseinteractions
func (c *Client) History(ctx context.Context, user string, from, to time.Time, next string) (HistoryPage, error) {
	var page struct {
		Value    *[]json.RawMessage `json:"value"`
		NextLink string             `json:"@odata.nextLink"`
	}
	r := call{operation: opHistory, method: http.MethodGet, target: next, limit: maxHistoryBody}
	if next == "" {
		r.target = historyTarget(user, from, to)
	}
	if err := c.do(ctx, r, &page); err != nil {
		return HistoryPage{}, redact(err, user)
	}
	if page.Value == nil {
		return HistoryPage{}, fmt.Errorf("%s: %w", opHistory, ErrUnreadable)
	}
	return HistoryPage{Items: *page.Value, Next: page.NextLink}, nil
}

func historyTarget(user string, from, to time.Time) string {
	end := to.UTC().Truncate(time.Second)
	if end.Before(to) {
		end = end.Add(time.Second)
	}
	query := url.Values{
		"$top":    {historyTop},
		"$filter": {"createdDateTime gt " + from.UTC().Format(filterTimeFormat) + " and createdDateTime lt " + end.Format(filterTimeFormat)},
	}
	// Graph's own links write a space as %20.
	return "/copilot/users/" + url.PathEscape(user) + "/interactionHistory/getAllEnterpriseInteractions?" +
		strings.ReplaceAll(query.Encode(), "+", "%20")
}

const (
	opUsers = "list users"
	// maxUsersBody is larger than a page of 999 users with all of their properties, even if Graph ignores $select.
	maxUsersBody = 32 << 20
	// copilotPlan is the service plan of Microsoft 365 Copilot Chat, which every license that includes the history contains.
	copilotPlan = "3f30311c-6b1e-48a4-ab79-725b469da960"
)

// UserPage is one page of user ids.
type UserPage struct {
	// IDs are Entra object ids.
	IDs []string
	// Next is the link to the following page; empty on the last.
	Next string
}

// LicensedUsers reads one page of the users with a Copilot license. It filters by the service plan, since several products
// contain it. next is the link of the previous page, empty for the first page; it is followed only on the endpoint's own host
// (ErrForeignHost). The call needs the application permission User.Read.All; without it, Forbidden reports true for the error.
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

var errEndless = errors.New("the list has too many pages, or its links form a cycle")

// AllPages reads pages until one has no link to the next: read gets the link of the page before, empty for the first page. It
// fails after limit pages, and where a link repeats.
func AllPages(limit int, read func(next string) (string, error)) error {
	next, seen := "", map[string]bool{}
	for range limit {
		var err error
		if next, err = read(next); err != nil || next == "" {
			return err
		}
		if seen[next] {
			return errEndless
		}
		seen[next] = true
	}
	return errEndless
}
