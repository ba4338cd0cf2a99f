package graph

import (
	"encoding/base64"
	"strings"
	"time"
)

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

// creation is the request for a subscription. The TLS version is announced as 1.2, which every gateway speaks;
// the handshake itself still agrees on a later one.
func creation(s Subscription) wireSubscription {
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

// over returns asked with all that Graph said laid over it.
func (w wireSubscription) over(asked Subscription) Subscription {
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
