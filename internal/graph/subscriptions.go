package graph

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// maxPages is far above what 10,000 subscriptions, the most that an organization can have, need.
const maxPages = 1000

// errNoID keeps a call for one subscription from becoming a call for the collection.
var errNoID = errors.New("the subscription has no id")

// ListSubscriptions returns the subscriptions that this app registration made in the tenant, whatever they watch.
// See https://learn.microsoft.com/graph/api/subscription-list
func (c *Client) ListSubscriptions(ctx context.Context) ([]Subscription, error) {
	const operation = "list subscriptions"
	var all []Subscription
	read := map[string]bool{}
	for target := "/subscriptions"; target != ""; {
		if read[target] || len(read) == maxPages {
			return nil, fmt.Errorf("%s: %w", operation, ErrTooManyPages)
		}
		read[target] = true
		// A page without value is no page: taking it for an empty list would make the caller create what exists.
		var page struct {
			Value    *[]wireSubscription `json:"value"`
			NextLink string              `json:"@odata.nextLink"`
		}
		if err := c.do(ctx, call{operation: operation, method: http.MethodGet, target: target}, &page); err != nil {
			return nil, err
		}
		if page.Value == nil {
			return nil, fmt.Errorf("%s: %w", operation, ErrUnreadable)
		}
		for _, w := range *page.Value {
			all = append(all, w.over(Subscription{}))
		}
		target = page.NextLink
	}
	return all, nil
}

// CreateSubscription makes a subscription with resource data and returns it as granted; what Graph does not repeat is as
// asked for. Graph calls the notification URL before it answers, which can take more than 10 s.
// After an error the subscription may exist nonetheless: list before the next try.
// See https://learn.microsoft.com/graph/api/subscription-post-subscriptions
func (c *Client) CreateSubscription(ctx context.Context, s Subscription) (Subscription, error) {
	const operation = "create subscription"
	var reply wireSubscription
	r := call{operation: operation, method: http.MethodPost, target: "/subscriptions", body: creation(s), fresh: true}
	if err := c.do(ctx, r, &reply); err != nil {
		return Subscription{}, err
	}
	if reply.ID == "" {
		return Subscription{}, fmt.Errorf("%s: %w", operation, ErrUnreadable)
	}
	return reply.over(s), nil
}

// RenewSubscription asks for a later expiration, which also answers a reauthorizationRequired event, and returns what
// was granted. As for a creation the token is a new one, since Graph delivers as long as it lives:
// https://learn.microsoft.com/graph/change-notifications-lifecycle-events. Status 404 in an *Error says that the subscription is gone.
// See https://learn.microsoft.com/graph/api/subscription-update
func (c *Client) RenewSubscription(ctx context.Context, id string, expiration time.Time) (Subscription, error) {
	const operation = "renew subscription"
	if id == "" {
		return Subscription{}, fmt.Errorf("%s: %w", operation, errNoID)
	}
	var reply wireSubscription
	r := call{
		operation: operation, method: http.MethodPatch, target: "/subscriptions/" + url.PathEscape(id),
		body: wireSubscription{Expiration: formatTime(expiration)}, fresh: true,
	}
	if err := c.do(ctx, r, &reply); err != nil {
		return Subscription{}, err
	}
	return reply.over(Subscription{ID: id, Expiration: expiration}), nil
}

// DeleteSubscription ends a subscription; one that does not exist counts as deleted.
// See https://learn.microsoft.com/graph/api/subscription-delete
func (c *Client) DeleteSubscription(ctx context.Context, id string) error {
	const operation = "delete subscription"
	if id == "" {
		return fmt.Errorf("%s: %w", operation, errNoID)
	}
	err := c.do(ctx, call{operation: operation, method: http.MethodDelete, target: "/subscriptions/" + url.PathEscape(id)}, nil)
	if e, ok := errors.AsType[*Error](err); ok && e.Status == http.StatusNotFound {
		return nil
	}
	return err
}
