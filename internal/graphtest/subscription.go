package graphtest

import (
	"bytes"
	"slices"
	"strings"
	"time"
)

// Subscription is a subscription as Graph holds it, the secret included, so that a test can use and abuse it.
type Subscription struct {
	ID                       string
	Resource                 string
	ChangeType               string
	NotificationURL          string
	LifecycleNotificationURL string
	ClientState              string
	Expiration               time.Time
	IncludeResourceData      bool
	// EncryptionCertificate is in DER; nil without resource data.
	EncryptionCertificate   []byte
	EncryptionCertificateID string
	NotificationURLAppID    string
	TLSVersion              string

	Created time.Time
	// Patched and Reauthorized are the times of the last such call; zero: never.
	Patched, Reauthorized time.Time
	// Authorized is when the subscription was last created, patched or reauthorized; zero: its authorization has ended.
	Authorized time.Time
}

// timeFormat has seven digits of a second, as Graph writes times.
const timeFormat = "2006-01-02T15:04:05.0000000Z07:00"

// wants tells whether the subscription is told of such a change.
func (s Subscription) wants(change string) bool {
	return slices.Contains(strings.Split(s.ChangeType, ","), change)
}

// sameChanges compares change types as sets.
func sameChanges(a, b string) bool {
	x, y := strings.Split(a, ","), strings.Split(b, ",")
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}

// body is the resource as Graph returns it: the certificate and the client state are never in it.
func (s Subscription) body(settings Settings, hideCertificateID bool) map[string]any {
	var certificateID any
	if s.EncryptionCertificateID != "" && !hideCertificateID {
		certificateID = s.EncryptionCertificateID
	}
	return map[string]any{
		"id":                        s.ID,
		"resource":                  s.Resource,
		"applicationId":             settings.ClientID,
		"changeType":                s.ChangeType,
		"clientState":               nil,
		"notificationUrl":           s.NotificationURL,
		"notificationQueryOptions":  nil,
		"lifecycleNotificationUrl":  orNull(s.LifecycleNotificationURL),
		"expirationDateTime":        s.Expiration.UTC().Format(timeFormat),
		"creatorId":                 settings.servicePrincipalID(),
		"includeResourceData":       s.IncludeResourceData,
		"latestSupportedTlsVersion": s.TLSVersion,
		"encryptionCertificate":     nil,
		"encryptionCertificateId":   certificateID,
		"notificationUrlAppId":      orNull(s.NotificationURLAppID),
		"notificationContentType":   "application/json",
	}
}

// servicePrincipalID is made of the application's id: it only has to be another GUID.
func (s Settings) servicePrincipalID() string {
	swapped := bytes.Map(func(r rune) rune {
		if i := strings.IndexRune("0123456789abcdef", r); i >= 0 {
			return rune("0123456789abcdef"[15-i])
		}
		return r
	}, []byte(strings.ToLower(s.ClientID)))
	return string(swapped)
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}
