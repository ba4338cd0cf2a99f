package graph

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Subscription is the subscription resource of Graph: https://learn.microsoft.com/graph/api/resources/subscription
type Subscription struct {
	// ID is assigned by Graph; a recreated subscription has a new one.
	ID string
	// Resource is the path of the subscribed resource, with or without a leading slash.
	Resource string
	// ChangeTypes holds created, updated and deleted in any order.
	ChangeTypes []string
	// NotificationURL receives the changes and LifecycleNotificationURL the lifecycle events.
	NotificationURL          string
	LifecycleNotificationURL string
	// Expiration is when the subscription ends, as granted by Graph, which may differ from the requested time.
	// In a list it is the zero time if Graph sent none that can be parsed.
	Expiration time.Time
	// ClientState is write-only: Graph does not return it.
	ClientState string
	// EncryptionCertificate is the certificate in DER, and EncryptionCertificateID the receiver's own label for it.
	// A list may omit both.
	EncryptionCertificate   []byte
	EncryptionCertificateID string
}

// maxSubscriptionPages is far more than the pages of 10,000 subscriptions, the limit of an organization.
const maxSubscriptionPages = 1000

// ListSubscriptions returns all subscriptions of this app registration in the tenant, for any resource.
// See https://learn.microsoft.com/graph/api/subscription-list
func (c *Client) ListSubscriptions(ctx context.Context) ([]Subscription, error) {
	read := func(next string) (Page[wireSubscription], error) {
		r := call{operation: "list subscriptions", method: http.MethodGet, target: cmp.Or(next, "/subscriptions")}
		return readPage[wireSubscription](ctx, c, r)
	}
	var all []Subscription
	for listed, err := range pages(maxSubscriptionPages, read) {
		if err != nil {
			return nil, err
		}
		for _, w := range listed {
			all = append(all, w.mergeInto(Subscription{}))
		}
	}
	return all, nil
}

// CreateSubscription creates a subscription with resource data and returns it as granted; properties that the response omits
// are as requested. Graph calls the notification URL before it answers, which can take more than 10 s.
// After an error the subscription may exist nonetheless, so list before the next attempt.
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

// RenewSubscription requests a later expiration, which also answers a reauthorizationRequired event, and returns what was
// granted. Like a creation it uses a fresh token, since Graph delivers only while that token is valid:
// https://learn.microsoft.com/graph/change-notifications-lifecycle-events. An *Error with status 404 means that the
// subscription no longer exists.
// See https://learn.microsoft.com/graph/api/subscription-update
func (c *Client) RenewSubscription(ctx context.Context, id string, expiration time.Time) (Subscription, error) {
	var reply wireSubscription
	r := call{
		operation: "renew subscription", method: http.MethodPatch, target: "/subscriptions/" + url.PathEscape(id),
		body: wireSubscription{Expiration: formatTime(expiration)}, fresh: true,
	}
	if err := c.do(ctx, r, &reply); err != nil {
		return Subscription{}, err
	}
	return reply.mergeInto(Subscription{ID: id, Expiration: expiration}), nil
}

// DeleteSubscription deletes a subscription. One that does not exist counts as deleted.
// See https://learn.microsoft.com/graph/api/subscription-delete
func (c *Client) DeleteSubscription(ctx context.Context, id string) error {
	r := call{operation: "delete subscription", method: http.MethodDelete, target: "/subscriptions/" + url.PathEscape(id)}
	err := c.do(ctx, r, nil)
	if answered(err, http.StatusNotFound, "") {
		return nil
	}
	return err
}

// wireSubscription is the JSON form of a subscription. Members that Graph omits or sends as null are empty.
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

// newSubscriptionRequest returns the body of a creation. It announces TLS 1.2, which every gateway supports; the handshake
// still negotiates a later version.
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

// mergeInto returns requested, overwritten by every property that Graph sent.
func (w wireSubscription) mergeInto(requested Subscription) Subscription {
	s := requested
	s.ID = cmp.Or(w.ID, s.ID)
	s.Resource = cmp.Or(w.Resource, s.Resource)
	s.NotificationURL = cmp.Or(w.NotificationURL, s.NotificationURL)
	s.LifecycleNotificationURL = cmp.Or(w.LifecycleNotificationURL, s.LifecycleNotificationURL)
	s.ClientState = cmp.Or(w.ClientState, s.ClientState)
	s.EncryptionCertificateID = cmp.Or(w.EncryptionCertificateID, s.EncryptionCertificateID)
	if types := strings.FieldsFunc(w.ChangeType, func(r rune) bool { return r == ',' || r == ' ' }); len(types) > 0 {
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

// formatTime returns whole seconds of UTC, rounded down so that the maximum lifetime is not exceeded.
func formatTime(t time.Time) string {
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

// parseTime parses an RFC 3339 time with any fraction and offset. A time without an offset, which OData 4 permits, is
// taken as UTC.
func parseTime(text string) (time.Time, bool) {
	text = strings.ToUpper(strings.TrimSpace(text))
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}
