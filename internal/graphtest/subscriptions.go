// SPDX-License-Identifier: Apache-2.0

package graphtest

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const maxBodyBytes = 1 << 20

var errGone = &graphError{http.StatusNotFound, "ResourceNotFound", "The object was not found."}

// serveList answers https://learn.microsoft.com/graph/api/subscription-list
func (e *Emulator) serveList(w http.ResponseWriter, r *http.Request, _ []string) {
	if !e.settings.NoListLimit {
		if wait := e.subs.admitList(time.Now()); wait > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(wait.Seconds())+1))
			(&graphError{http.StatusTooManyRequests, "TooManyRequests", "Too many requests"}).write(w)
			return
		}
	}
	subs := e.subs.active()
	first, _ := strconv.Atoi(r.URL.Query().Get("$skiptoken"))
	first = min(max(first, 0), len(subs))
	last := len(subs)
	answer := map[string]any{"@odata.context": e.baseURL(r) + "/v1.0/$metadata#subscriptions"}
	if size := e.settings.ListPageSize; size > 0 && first+size < last {
		last = first + size
		answer["@odata.nextLink"] = e.baseURL(r) + "/v1.0/subscriptions?" + url.Values{"$skiptoken": {strconv.Itoa(last)}}.Encode()
	}
	value := []map[string]any{}
	for _, s := range subs[first:last] {
		value = append(value, s.body(e.settings, e.settings.HideCertificateIDs))
	}
	answer["value"] = value
	writeJSON(w, http.StatusOK, answer)
}

// serveCreate answers https://learn.microsoft.com/graph/api/subscription-post-subscriptions
func (e *Emulator) serveCreate(w http.ResponseWriter, r *http.Request, _ []string) {
	body, apiErr := readJSON(w, r)
	if apiErr != nil {
		apiErr.write(w)
		return
	}
	s, apiErr := e.settings.newSubscription(body, time.Now())
	if apiErr == nil {
		apiErr = e.subs.conflict(s)
	}
	if apiErr == nil {
		apiErr = e.validate(r.Context(), s.NotificationURL, s.LifecycleNotificationURL)
	}
	if apiErr == nil {
		apiErr = e.subs.add(s)
	}
	if apiErr != nil {
		apiErr.write(w)
		return
	}
	answer := s.body(e.settings, false)
	answer["@odata.context"] = e.baseURL(r) + "/v1.0/$metadata#subscriptions/$entity"
	writeJSON(w, http.StatusCreated, answer)
}

// serveGet answers https://learn.microsoft.com/graph/api/subscription-get
func (e *Emulator) serveGet(w http.ResponseWriter, _ *http.Request, args []string) {
	s, ok := e.subs.get(args[0])
	if !ok {
		errGone.write(w)
		return
	}
	writeJSON(w, http.StatusOK, s.body(e.settings, e.settings.HideCertificateIDs))
}

// serveRenew answers https://learn.microsoft.com/graph/api/subscription-update
func (e *Emulator) serveRenew(w http.ResponseWriter, r *http.Request, args []string) {
	body, apiErr := readJSON(w, r)
	if apiErr != nil {
		apiErr.write(w)
		return
	}
	s, ok := e.subs.get(args[0])
	if !ok {
		errGone.write(w)
		return
	}
	now := time.Now()
	patched, apiErr := e.settings.patchedSubscription(s, body, now)
	if apiErr == nil && patched.NotificationURL != s.NotificationURL {
		apiErr = e.validate(r.Context(), patched.NotificationURL)
	}
	if apiErr != nil {
		apiErr.write(w)
		return
	}
	s, ok = e.subs.change(s.ID, func(s *Subscription) {
		s.Expiration, s.NotificationURL = patched.Expiration, patched.NotificationURL
		e.recordConflict(s.ID, s.Reauthorized, now)
		s.Patched, s.Authorized = now, now
	})
	if !ok {
		errGone.write(w)
		return
	}
	writeJSON(w, http.StatusOK, s.body(e.settings, false))
}

// patchedSubscription returns the subscription after a PATCH with this body. Only two properties can be changed: Microsoft's
// documentation contradicts itself about the certificate, so clients must not rely on changing it.
func (s Settings) patchedSubscription(sub Subscription, body []byte, now time.Time) (Subscription, *graphError) {
	request, names, apiErr := decode(body, patchableProperties)
	if apiErr != nil {
		return Subscription{}, apiErr
	}
	if !slices.Contains(names, "expirationDateTime") && !slices.Contains(names, "notificationUrl") {
		return Subscription{}, badRequest("expirationDateTime or notificationUrl is required to update a subscription.")
	}
	if slices.Contains(names, "expirationDateTime") {
		sub.Expiration, apiErr = s.expiration(request.ExpirationDateTime, sub.LifecycleNotificationURL != "", now)
		if apiErr != nil {
			return Subscription{}, apiErr
		}
	}
	if slices.Contains(names, "notificationUrl") {
		if apiErr := checkURL("notificationUrl", request.NotificationURL); apiErr != nil {
			return Subscription{}, apiErr
		}
		sub.NotificationURL = request.NotificationURL
	}
	return sub, nil
}

// serveReauthorize answers https://learn.microsoft.com/graph/api/subscription-reauthorize
func (e *Emulator) serveReauthorize(w http.ResponseWriter, _ *http.Request, args []string) {
	now := time.Now()
	_, ok := e.subs.change(args[0], func(s *Subscription) {
		e.recordConflict(s.ID, s.Patched, now)
		s.Reauthorized, s.Authorized = now, now
	})
	if !ok {
		errGone.write(w)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// recordConflict records a violation that Microsoft warns of: a PATCH and a reauthorize of one subscription within 10 minutes.
// https://learn.microsoft.com/graph/change-notifications-lifecycle-events
func (e *Emulator) recordConflict(id string, other, now time.Time) {
	if !other.IsZero() && now.Sub(other) < e.settings.MinReauthorizeInterval {
		e.recorder.addViolation("PATCH and reauthorize of subscription " + id + " within " + e.settings.MinReauthorizeInterval.String())
	}
}

// serveDelete answers https://learn.microsoft.com/graph/api/subscription-delete
func (e *Emulator) serveDelete(w http.ResponseWriter, _ *http.Request, args []string) {
	if _, ok := e.subs.remove(args[0]); !ok {
		errGone.write(w)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// readJSON reads a body of limited size that must be declared as JSON.
func readJSON(w http.ResponseWriter, r *http.Request) ([]byte, *graphError) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return nil, &graphError{
			http.StatusBadRequest, "BadRequest",
			"Write requests (excluding DELETE) must contain the Content-Type header declaration.",
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	if err != nil {
		return nil, &graphError{http.StatusBadRequest, "BadRequest", "The request body can't be read."}
	}
	return body, nil
}

// Subscription is a subscription as Graph stores it, including its client state, so that a test can forge notifications.
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
	// Patched and Reauthorized are the times of the last such call; zero means never.
	Patched, Reauthorized time.Time
	// Authorized is when the subscription was last created, patched or reauthorized; zero means that its authorization has ended.
	Authorized time.Time
}

// timeFormat has seven fractional digits, as Graph writes times.
const timeFormat = "2006-01-02T15:04:05.0000000Z07:00"

// wants reports whether the subscription covers this type of change.
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

// body returns the resource as Graph returns it: never with the certificate and the client state.
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
		"lifecycleNotificationUrl":  nilIfEmpty(s.LifecycleNotificationURL),
		"expirationDateTime":        s.Expiration.UTC().Format(timeFormat),
		"creatorId":                 settings.servicePrincipalID(),
		"includeResourceData":       s.IncludeResourceData,
		"latestSupportedTlsVersion": s.TLSVersion,
		"encryptionCertificate":     nil,
		"encryptionCertificateId":   certificateID,
		"notificationUrlAppId":      nilIfEmpty(s.NotificationURLAppID),
		"notificationContentType":   "application/json",
	}
}

// servicePrincipalID derives a GUID from the application's id; it only has to be a different one.
func (s Settings) servicePrincipalID() string {
	swapped := bytes.Map(func(r rune) rune {
		if i := strings.IndexRune("0123456789abcdef", r); i >= 0 {
			return rune("0123456789abcdef"[15-i])
		}
		return r
	}, []byte(strings.ToLower(s.ClientID)))
	return string(swapped)
}

func nilIfEmpty(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// registry holds the subscriptions, oldest first.
type registry struct {
	recorder *recorder

	mu    sync.Mutex // guards what follows
	subs  []Subscription
	lists []time.Time // times of the list requests within listWindow
}

func newRegistry(recorder *recorder) *registry { return &registry{recorder: recorder} }

// removeExpired removes the subscriptions that have expired.
func (g *registry) removeExpired() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.removeExpiredLocked()
}

func (g *registry) removeExpiredLocked() {
	before := len(g.subs)
	now := time.Now()
	g.subs = slices.DeleteFunc(g.subs, func(s Subscription) bool { return !s.Expiration.After(now) })
	if len(g.subs) != before {
		g.notifyLocked()
	}
}

// notifyLocked wakes the callers that wait for a subscription. The lock order is the registry's before the recorder's.
func (g *registry) notifyLocked() {
	n := len(g.subs)
	g.recorder.update(func(s *Stats) { s.Subscriptions = n })
}

func (g *registry) active() []Subscription {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.removeExpiredLocked()
	return slices.Clone(g.subs)
}

func (g *registry) get(id string) (Subscription, bool) {
	for _, s := range g.active() {
		if s.ID == id {
			return s, true
		}
	}
	return Subscription{}, false
}

// conflict returns why the subscription can't be added: the same one exists already, or the quota is used up.
// https://learn.microsoft.com/graph/change-notifications-overview#latency and its quotas
func (g *registry) conflict(s Subscription) *graphError {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.conflictLocked(s)
}

func (g *registry) conflictLocked(s Subscription) *graphError {
	g.removeExpiredLocked()
	wanted, _ := parseResource(s.Resource)
	for _, other := range g.subs {
		cached, _ := parseResource(other.Resource)
		if cached == wanted && sameChanges(other.ChangeType, s.ChangeType) {
			return &graphError{
				http.StatusConflict, "Conflict",
				fmt.Sprintf("Subscription Id <%s> already exists for the requested combination", other.ID),
			}
		}
	}
	for _, other := range g.subs {
		if cached, _ := parseResource(other.Resource); cached.user == wanted.user {
			return &graphError{
				http.StatusForbidden, "Forbidden",
				"The application has reached the maximum number of subscriptions (1) for this resource in the tenant.",
			}
		}
	}
	return nil
}

// add adds the subscription unless it conflicts with one that was added meanwhile.
func (g *registry) add(s Subscription) *graphError {
	g.mu.Lock()
	defer g.mu.Unlock()
	if apiErr := g.conflictLocked(s); apiErr != nil {
		return apiErr
	}
	g.subs = append(g.subs, s)
	g.notifyLocked()
	return nil
}

// change applies f to the subscription; it returns false if there is none with this id.
func (g *registry) change(id string, f func(*Subscription)) (Subscription, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.removeExpiredLocked()
	i := slices.IndexFunc(g.subs, func(s Subscription) bool { return s.ID == id })
	if i < 0 {
		return Subscription{}, false
	}
	f(&g.subs[i])
	g.notifyLocked()
	return g.subs[i], true
}

func (g *registry) remove(id string) (Subscription, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.removeExpiredLocked()
	i := slices.IndexFunc(g.subs, func(s Subscription) bool { return s.ID == id })
	if i < 0 {
		return Subscription{}, false
	}
	gone := g.subs[i]
	g.subs = slices.Delete(g.subs, i, i+1)
	g.notifyLocked()
	return gone, true
}

// The limit of GET /subscriptions for an application in a tenant: https://learn.microsoft.com/graph/throttling-limits
const (
	listLimit  = 25
	listWindow = 20 * time.Second
)

// admitList returns how long the client must wait before it may list subscriptions, 0 if it may now.
func (g *registry) admitList(now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lists = slices.DeleteFunc(g.lists, func(at time.Time) bool { return now.Sub(at) >= listWindow })
	if len(g.lists) >= listLimit {
		return g.lists[0].Add(listWindow).Sub(now)
	}
	g.lists = append(g.lists, now)
	return 0
}

// resourceSpec is the parsed resource of a subscription, so that spellings of the same resource compare equal.
type resourceSpec struct {
	// user is an object id in lower case; empty means the whole tenant.
	user   string
	filter filter
}

// filter compares one property of an interaction; the zero value matches everything.
type filter struct {
	property string
	not      bool
	value    string
}

var resourcePattern = regexp.MustCompile(`(?i)^/?copilot/(?:users/([^/]+)/)?interactionhistory/getallenterpriseinteractions$`)

// filterPattern matches the documented filters: one comparison of a property of the interaction itself.
// https://learn.microsoft.com/microsoft-365/copilot/extensibility/api/ai-services/change-notifications/aiinteraction-changenotifications
var filterPattern = regexp.MustCompile(`^\$filter=(id|sessionId|requestId|appClass|interactionType|conversationType|locale) (eq|ne) '([^']*)'$`)

func parseResource(resource string) (resourceSpec, bool) {
	path, query, filtered := strings.Cut(resource, "?")
	parts := resourcePattern.FindStringSubmatch(path)
	if parts == nil {
		return resourceSpec{}, false
	}
	w := resourceSpec{user: strings.ToLower(parts[1])}
	if !filtered {
		return w, true
	}
	if plain, err := url.PathUnescape(query); err == nil {
		query = plain
	}
	compared := filterPattern.FindStringSubmatch(query)
	if compared == nil {
		return resourceSpec{}, false
	}
	w.filter = filter{property: compared[1], not: compared[2] == "ne", value: compared[3]}
	return w, true
}

// matches reports whether the interaction meets the filter.
func (f filter) matches(interaction json.RawMessage) bool {
	if f.property == "" {
		return true
	}
	var properties map[string]any
	if json.Unmarshal(interaction, &properties) != nil {
		return false
	}
	value, _ := properties[f.property].(string)
	return (value == f.value) != f.not
}

// subscriptionRequest is the body with which a client creates or changes a subscription:
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

const maxTextLength = 128

var (
	creatableProperties = []string{
		"resource", "changeType", "notificationUrl", "lifecycleNotificationUrl", "expirationDateTime", "clientState",
		"includeResourceData", "encryptionCertificate", "encryptionCertificateId", "latestSupportedTlsVersion",
		"notificationUrlAppId", "@odata.type",
	}
	patchableProperties = []string{"expirationDateTime", "notificationUrl", "@odata.type"}
	tlsVersions         = []string{"v1_0", "v1_1", "v1_2", "v1_3"}
)

func badRequest(format string, args ...any) *graphError {
	return &graphError{http.StatusBadRequest, "InvalidRequest", fmt.Sprintf(format, args...)}
}

// decode parses a request and returns the names of its members. A member that is not allowed is an error.
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

// newSubscription returns the subscription that the body of POST /subscriptions describes, or the rule that it violates.
func (s Settings) newSubscription(body []byte, now time.Time) (Subscription, *graphError) {
	request, _, apiErr := decode(body, creatableProperties)
	if apiErr != nil {
		return Subscription{}, apiErr
	}
	for _, check := range []func(subscriptionRequest) *graphError{checkRequired, checkResource, checkTexts, checkURLs} {
		if apiErr := check(request); apiErr != nil {
			return Subscription{}, apiErr
		}
	}
	expiration, apiErr := s.expiration(request.ExpirationDateTime, request.LifecycleNotificationURL != "", now)
	if apiErr != nil {
		return Subscription{}, apiErr
	}
	certificate, apiErr := checkEncryption(request)
	if apiErr != nil {
		return Subscription{}, apiErr
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
	if len(r.ClientState) > maxTextLength {
		return badRequest("clientState can't be longer than %d characters.", maxTextLength)
	}
	if len(r.EncryptionCertificateID) > maxTextLength {
		return badRequest("encryptionCertificateId can't be longer than %d characters.", maxTextLength)
	}
	if r.TLSVersion != "" && !slices.Contains(tlsVersions, r.TLSVersion) {
		return badRequest("latestSupportedTlsVersion must be one of %s.", strings.Join(tlsVersions, ", "))
	}
	return nil
}

func checkURLs(r subscriptionRequest) *graphError {
	if apiErr := checkURL("notificationUrl", r.NotificationURL); apiErr != nil {
		return apiErr
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

// expiration parses the requested time and returns the one granted within the limits:
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

// checkEncryption returns the certificate in DER, nil without resource data:
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
