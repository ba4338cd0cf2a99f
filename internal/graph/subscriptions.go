package graph

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Subscription is the subscription resource of Graph: https://learn.microsoft.com/graph/api/resources/subscription
type Subscription struct {
	// ID is given by Graph; a recreated subscription has a new one.
	ID string
	// Resource is what is watched, with or without a leading slash.
	Resource string
	// ChangeTypes holds created, updated and deleted in any order.
	ChangeTypes []string
	// NotificationURL and LifecycleNotificationURL are where Graph sends to.
	NotificationURL          string
	LifecycleNotificationURL string
	// Expiration is when the subscription ends. What Graph granted counts, not what was asked for.
	// In a list it is the zero time where Graph gave none that can be read.
	Expiration time.Time
	// ClientState is written and never read back: Graph does not return it.
	ClientState string
	// EncryptionCertificate is the certificate in DER, EncryptionCertificateID our label of it.
	// A list may leave out both.
	EncryptionCertificate   []byte
	EncryptionCertificateID string
}

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
			all = append(all, w.mergeInto(Subscription{}))
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
	r := call{operation: operation, method: http.MethodPost, target: "/subscriptions", body: newSubscriptionRequest(s), fresh: true}
	if err := c.do(ctx, r, &reply); err != nil {
		return Subscription{}, err
	}
	if reply.ID == "" {
		return Subscription{}, fmt.Errorf("%s: %w", operation, ErrUnreadable)
	}
	return reply.mergeInto(s), nil
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
	return reply.mergeInto(Subscription{ID: id, Expiration: expiration}), nil
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

// wireSubscription is the JSON of a subscription. Members that Graph may send as null, or not at all, are empty then.
type wireSubscription struct {
	ID                        string `json:"id,omitempty"`
	Resource                  string `json:"resource,omitempty"`
	ChangeType                string `json:"changeType,omitempty"`
	NotificationURL           string `json:"notificationUrl,omitempty"`
	LifecycleNotificationURL  string `json:"lifecycleNotificationUrl,omitempty"`
	Expiration                string `json:"expirationDateTime,omitempty"`
	ClientState               string `json:"clientState,omitempty"`
	IncludeResourceData       bool   `json:"includeResourceData,omitempty"`
	EncryptionCertificate     string `json:"encryptionCertificate,omitempty"`
	EncryptionCertificateID   string `json:"encryptionCertificateId,omitempty"`
	LatestSupportedTLSVersion string `json:"latestSupportedTlsVersion,omitempty"`
}

// newSubscriptionRequest is the request for a subscription. The TLS version is announced as 1.2, which every gateway speaks;
// the handshake itself still agrees on a later one.
func newSubscriptionRequest(s Subscription) wireSubscription {
	return wireSubscription{
		Resource:                  s.Resource,
		ChangeType:                strings.Join(s.ChangeTypes, ","),
		NotificationURL:           s.NotificationURL,
		LifecycleNotificationURL:  s.LifecycleNotificationURL,
		Expiration:                formatTime(s.Expiration),
		ClientState:               s.ClientState,
		IncludeResourceData:       true,
		EncryptionCertificate:     base64.StdEncoding.EncodeToString(s.EncryptionCertificate),
		EncryptionCertificateID:   s.EncryptionCertificateID,
		LatestSupportedTLSVersion: "v1_2",
	}
}

// mergeInto returns asked with all that Graph said laid over it.
func (w wireSubscription) mergeInto(asked Subscription) Subscription {
	s := asked
	setIfNonEmpty(&s.ID, w.ID)
	setIfNonEmpty(&s.Resource, w.Resource)
	setIfNonEmpty(&s.NotificationURL, w.NotificationURL)
	setIfNonEmpty(&s.LifecycleNotificationURL, w.LifecycleNotificationURL)
	setIfNonEmpty(&s.ClientState, w.ClientState)
	setIfNonEmpty(&s.EncryptionCertificateID, w.EncryptionCertificateID)
	if types := splitChangeType(w.ChangeType); len(types) > 0 {
		s.ChangeTypes = types
	}
	if t, ok := parseTime(w.Expiration); ok {
		s.Expiration = t
	}
	if der, err := base64.StdEncoding.DecodeString(w.EncryptionCertificate); err == nil && len(der) > 0 {
		s.EncryptionCertificate = der
	}
	return s
}

func setIfNonEmpty(field *string, value string) {
	if value != "" {
		*field = value
	}
}

func splitChangeType(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

// formatTime gives whole seconds of UTC, rounded down so that the longest lifetime allowed is not exceeded.
func formatTime(t time.Time) string {
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

// parseTime reads an RFC 3339 time with any fraction and offset. A time without offset, which OData 4 allows some services
// to send, is taken for UTC.
func parseTime(text string) (time.Time, bool) {
	text = strings.ToUpper(strings.TrimSpace(text))
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}
