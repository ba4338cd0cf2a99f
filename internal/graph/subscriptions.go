// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"cmp"
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
	// EncryptionCertificate is the certificate of a creation in DER, and EncryptionCertificateID the receiver's own label for
	// it, which a list may omit.
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
	for listed, err := range Pages(maxSubscriptionPages, read) {
		if err != nil {
			return nil, err
		}
		for _, w := range listed {
			all = append(all, w.subscription())
		}
	}
	return all, nil
}

// CreateSubscription creates a subscription with resource data and returns it with the id and the expiration that were granted.
// Graph calls the notification URL before it answers, which can take more than 10 s.
// After an error the subscription may exist nonetheless, so list before the next attempt.
// See https://learn.microsoft.com/graph/api/subscription-post-subscriptions
func (c *Client) CreateSubscription(ctx context.Context, s Subscription) (Subscription, error) {
	r := call{operation: "create subscription", method: http.MethodPost, target: "/subscriptions", body: requestOf(s), fresh: true}
	var reply wireSubscription
	if err := c.do(ctx, r, &reply); err != nil {
		return Subscription{}, err
	}
	if reply.ID == "" {
		return Subscription{}, fmt.Errorf("%s: %w", r.operation, ErrUnreadable)
	}
	s.ID, s.Expiration = reply.ID, reply.expiration(s.Expiration)
	return s, nil
}

// RenewSubscription requests a later expiration, which also answers a reauthorizationRequired event, and returns the id with the
// expiration that was granted. Like a creation it uses a fresh token, since Graph delivers only while that token is valid:
// https://learn.microsoft.com/graph/change-notifications-lifecycle-events. An *Error with status 404 means that the
// subscription no longer exists.
// See https://learn.microsoft.com/graph/api/subscription-update
func (c *Client) RenewSubscription(ctx context.Context, id string, expiration time.Time) (Subscription, error) {
	r := call{
		operation: "renew subscription", method: http.MethodPatch, target: "/subscriptions/" + url.PathEscape(id),
		body: wireSubscription{Expiration: formatTime(expiration)}, fresh: true,
	}
	var reply wireSubscription
	if err := c.do(ctx, r, &reply); err != nil {
		return Subscription{}, err
	}
	return Subscription{ID: id, Expiration: reply.expiration(expiration)}, nil
}

// DeleteSubscription deletes a subscription. One that does not exist counts as deleted.
// See https://learn.microsoft.com/graph/api/subscription-delete
func (c *Client) DeleteSubscription(ctx context.Context, id string) error {
	r := call{operation: "delete subscription", method: http.MethodDelete, target: "/subscriptions/" + url.PathEscape(id)}
	err := c.do(ctx, r, nil)
	if refused, ok := errors.AsType[*Error](err); ok && refused.Status == http.StatusNotFound {
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

// requestOf returns the body of a creation. It announces TLS 1.2, which every gateway supports; the handshake
// still negotiates a later version.
func requestOf(s Subscription) wireSubscription {
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

// subscription returns what Graph sent, without what is not valid.
func (w wireSubscription) subscription() Subscription {
	return Subscription{
		ID:                       w.ID,
		Resource:                 w.Resource,
		ChangeTypes:              strings.FieldsFunc(w.ChangeType, func(r rune) bool { return r == ',' || r == ' ' }),
		NotificationURL:          w.NotificationURL,
		LifecycleNotificationURL: w.LifecycleNotificationURL,
		Expiration:               w.expiration(time.Time{}),
		EncryptionCertificateID:  w.EncryptionCertificateID,
	}
}

// expiration returns the time that Graph sent, or another one if it sent none.
func (w wireSubscription) expiration(otherwise time.Time) time.Time {
	t, err := time.Parse(time.RFC3339, w.Expiration)
	if err != nil {
		return otherwise
	}
	return t.UTC()
}

// formatTime returns whole seconds of UTC, rounded down so that the maximum lifetime is not exceeded.
func formatTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
