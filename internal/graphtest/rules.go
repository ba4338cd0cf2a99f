package graphtest

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// subscriptionRequest is what a client may send to create or change a subscription:
// https://learn.microsoft.com/graph/api/resources/subscription#properties
type subscriptionRequest struct {
	Resource                 string `json:"resource"`
	ChangeType               string `json:"changeType"`
	NotificationURL          string `json:"notificationUrl"`
	LifecycleNotificationURL string `json:"lifecycleNotificationUrl"`
	ExpirationDateTime       string `json:"expirationDateTime"`
	ClientState              string `json:"clientState"`
	IncludeResourceData      bool   `json:"includeResourceData"`
	EncryptionCertificate    string `json:"encryptionCertificate"`
	EncryptionCertificateID  string `json:"encryptionCertificateId"`
	TLSVersion               string `json:"latestSupportedTlsVersion"`
	NotificationURLAppID     string `json:"notificationUrlAppId"`
}

const maxText = 128

var (
	creatable = []string{
		"resource", "changeType", "notificationUrl", "lifecycleNotificationUrl", "expirationDateTime", "clientState",
		"includeResourceData", "encryptionCertificate", "encryptionCertificateId", "latestSupportedTlsVersion",
		"notificationUrlAppId", "@odata.type",
	}
	patchable   = []string{"expirationDateTime", "notificationUrl", "@odata.type"}
	tlsVersions = []string{"v1_0", "v1_1", "v1_2", "v1_3"}
)

func badRequest(format string, args ...any) *graphError {
	return &graphError{http.StatusBadRequest, "InvalidRequest", fmt.Sprintf(format, args...)}
}

// decode reads a request and refuses members that may not be sent.
func decode(body []byte, allowed []string) (subscriptionRequest, []string, *graphError) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return subscriptionRequest{}, nil, &graphError{http.StatusBadRequest, "BadRequest", "Unable to read JSON request payload."}
	}
	var names []string
	for name := range members {
		if !slices.Contains(allowed, name) {
			return subscriptionRequest{}, nil, badRequest("The property '%s' can't be set in this request.", name)
		}
		names = append(names, name)
	}
	var request subscriptionRequest
	if err := json.Unmarshal(body, &request); err != nil {
		return subscriptionRequest{}, nil, &graphError{http.StatusBadRequest, "BadRequest", "A property has the wrong type."}
	}
	return request, names, nil
}

// created makes a subscription of the body of POST /subscriptions, or says which rule it breaks.
func (s Settings) created(body []byte, now time.Time) (Subscription, *graphError) {
	request, _, refused := decode(body, creatable)
	if refused != nil {
		return Subscription{}, refused
	}
	for _, check := range []func(subscriptionRequest) *graphError{checkRequired, checkResource, checkTexts, checkURLs} {
		if refused := check(request); refused != nil {
			return Subscription{}, refused
		}
	}
	expiration, refused := s.expiration(request.ExpirationDateTime, request.LifecycleNotificationURL != "", now)
	if refused != nil {
		return Subscription{}, refused
	}
	certificate, refused := checkEncryption(request)
	if refused != nil {
		return Subscription{}, refused
	}
	if request.TLSVersion == "" {
		request.TLSVersion = "v1_2"
	}
	return Subscription{
		ID:                       newGUID(),
		Resource:                 request.Resource,
		ChangeType:               request.ChangeType,
		NotificationURL:          request.NotificationURL,
		LifecycleNotificationURL: request.LifecycleNotificationURL,
		ClientState:              request.ClientState,
		Expiration:               expiration,
		IncludeResourceData:      request.IncludeResourceData,
		EncryptionCertificate:    certificate,
		EncryptionCertificateID:  request.EncryptionCertificateID,
		NotificationURLAppID:     request.NotificationURLAppID,
		TLSVersion:               request.TLSVersion,
		Created:                  now,
		Authorized:               now,
	}, nil
}

func checkRequired(r subscriptionRequest) *graphError {
	for _, required := range []struct{ name, value string }{
		{"resource", r.Resource},
		{"changeType", r.ChangeType},
		{"notificationUrl", r.NotificationURL},
		{"expirationDateTime", r.ExpirationDateTime},
	} {
		if required.value == "" {
			return badRequest("'%s' is a required property for subscription creation.", required.name)
		}
	}
	return nil
}

func checkResource(r subscriptionRequest) *graphError {
	if _, ok := parseResource(r.Resource); !ok {
		return badRequest("Resource '%s' is not supported, or its filter is not.", r.Resource)
	}
	seen := map[string]bool{}
	for change := range strings.SplitSeq(r.ChangeType, ",") {
		if seen[change] || !slices.Contains([]string{"created", "updated", "deleted"}, change) {
			return badRequest("Invalid 'changeType' attribute: '%s'.", r.ChangeType)
		}
		seen[change] = true
	}
	return nil
}

func checkTexts(r subscriptionRequest) *graphError {
	if len(r.ClientState) > maxText {
		return badRequest("clientState can't be longer than %d characters.", maxText)
	}
	if len(r.EncryptionCertificateID) > maxText {
		return badRequest("encryptionCertificateId can't be longer than %d characters.", maxText)
	}
	if r.TLSVersion != "" && !slices.Contains(tlsVersions, r.TLSVersion) {
		return badRequest("latestSupportedTlsVersion must be one of %s.", strings.Join(tlsVersions, ", "))
	}
	return nil
}

func checkURLs(r subscriptionRequest) *graphError {
	if refused := checkURL("notificationUrl", r.NotificationURL); refused != nil {
		return refused
	}
	if r.LifecycleNotificationURL == "" {
		return nil
	}
	return checkURL("lifecycleNotificationUrl", r.LifecycleNotificationURL)
}

func checkURL(name, text string) *graphError {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Fragment != "" || u.User != nil {
		return badRequest("%s is not a valid URL.", name)
	}
	if u.Scheme != "https" {
		return badRequest("%s must use HTTPS.", name)
	}
	return nil
}

// expiration reads the time asked for and grants the one within the limits:
// https://learn.microsoft.com/graph/api/resources/subscription#subscription-lifetime
func (s Settings) expiration(text string, lifecycle bool, now time.Time) (time.Time, *graphError) {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, badRequest("expirationDateTime is not a date and time with an offset.")
	}
	lifetime := at.Sub(now)
	switch {
	case lifetime <= 0:
		return time.Time{}, badRequest("Subscription expiration must be in the future.")
	case lifetime > s.MaxLifetime:
		return time.Time{}, badRequest("Subscription expiration can only be %.0f minutes in the future.", s.MaxLifetime.Minutes())
	case lifetime > s.MaxLifetimeWithoutLifecycle && !lifecycle:
		return time.Time{}, badRequest("lifecycleNotificationUrl is a required property for subscription creation on this " +
			"resource when the expirationDateTime value is set to greater than 1 hour")
	case lifetime < s.MinLifetime:
		at = now.Add(s.MinLifetime)
	}
	return at.UTC(), nil
}

// checkEncryption returns the certificate in DER:
// https://learn.microsoft.com/graph/change-notifications-with-resource-data#creating-a-subscription
func checkEncryption(r subscriptionRequest) ([]byte, *graphError) {
	if !r.IncludeResourceData {
		if r.EncryptionCertificate != "" || r.EncryptionCertificateID != "" {
			return nil, badRequest("encryptionCertificate needs includeResourceData.")
		}
		return nil, nil
	}
	if r.EncryptionCertificate == "" || r.EncryptionCertificateID == "" {
		return nil, badRequest("encryptionCertificate and encryptionCertificateId are required with includeResourceData.")
	}
	der, err := base64.StdEncoding.DecodeString(r.EncryptionCertificate)
	if err != nil {
		return nil, badRequest("encryptionCertificate is not base64.")
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, badRequest("encryptionCertificate is not an X.509 certificate in DER.")
	}
	key, ok := certificate.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, badRequest("encryptionCertificate must hold an RSA key.")
	}
	if bits := key.N.BitLen(); bits < 2048 || bits > 4096 {
		return nil, badRequest("The RSA key of encryptionCertificate has %d bits; 2048 to 4096 are supported.", bits)
	}
	return der, nil
}
