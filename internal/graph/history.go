package graph

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

const (
	opHistory = "read history"
	// maxHistoryBody bounds a page of 100 interactions, whose cards can be large.
	maxHistoryBody = 64 << 20
	// boundFormat is what the filter takes: full times in whole seconds.
	boundFormat = "2006-01-02T15:04:05Z"
)

// HistoryPage is one page of a user's interactions, the newest first as far as is known.
type HistoryPage struct {
	// Items are aiInteraction resources as Graph sent them.
	Items []json.RawMessage
	// Next is the link to the following page; empty on the last.
	Next string
}

// History reads one page of a user's interactions that were created after from and before to, both in whole seconds:
// from is rounded down and to is rounded up. next is the link of the page before, empty for the first.
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
		return HistoryPage{}, withoutUser(err, user)
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
		"$top":    {"100"},
		"$filter": {"createdDateTime gt " + from.UTC().Format(boundFormat) + " and createdDateTime lt " + end.Format(boundFormat)},
	}
	// Graph's own links write a space as %20.
	return "/copilot/users/" + url.PathEscape(user) + "/interactionHistory/getAllEnterpriseInteractions?" +
		strings.ReplaceAll(query.Encode(), "+", "%20")
}

// withoutUser takes the user's id out of what Graph said, since errors are logged.
func withoutUser(err error, user string) error {
	if refused, ok := errors.AsType[*Error](err); ok {
		refused.Message = scrubUser(refused.Message, user)
	}
	return err
}

func scrubUser(message, user string) string {
	if user == "" {
		return message
	}
	return regexp.MustCompile("(?i)"+regexp.QuoteMeta(user)).ReplaceAllLiteralString(message, "[user]")
}

// Unlicensed tells whether Graph refused a user's history because that user has none: no Copilot license, or not known.
func Unlicensed(err error) bool {
	refused, ok := errors.AsType[*Error](err)
	if !ok || Unsupported(err) {
		return false
	}
	said := strings.ToLower(refused.Message)
	return refused.Status == http.StatusNotFound || refused.Status == http.StatusForbidden && strings.Contains(said, "valid copilot license")
}

// Forbidden tells whether Graph refused for another reason than the user's license: a missing permission or consent.
func Forbidden(err error) bool {
	refused, ok := errors.AsType[*Error](err)
	return ok && refused.Status == http.StatusForbidden && !Unlicensed(err)
}

// Unsupported tells whether this Graph does not have the call at all, as in a cloud without Copilot.
func Unsupported(err error) bool {
	refused, ok := errors.AsType[*Error](err)
	return ok && refused.Status == http.StatusNotFound && strings.Contains(strings.ToLower(refused.Message), "requested api is not supported")
}
