// SPDX-License-Identifier: Apache-2.0

package graphtest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"math/big"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

func fromNow(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339Nano) }

func with(name string, value any) func(map[string]any) {
	return func(body map[string]any) { body[name] = value }
}

func without(names ...string) func(map[string]any) {
	return func(body map[string]any) {
		for _, name := range names {
			delete(body, name)
		}
	}
}

// selfSignedCertificate returns a certificate for the key as base64, to test keys that are refused.
func selfSignedCertificate(t *testing.T, public, private any) string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	require.NoError(t, err)
	return base64.StdEncoding.EncodeToString(der)
}

func TestCreate_RefusesInvalidRequests(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	users := "copilot/users/u/interactionHistory/getAllEnterpriseInteractions"
	for name, c := range map[string]struct {
		change  func(map[string]any)
		message string
	}{
		"no resource":              {without("resource"), "'resource' is a required property"},
		"no changeType":            {without("changeType"), "'changeType' is a required property"},
		"no notificationUrl":       {without("notificationUrl"), "'notificationUrl' is a required property"},
		"no expirationDateTime":    {without("expirationDateTime"), "'expirationDateTime' is a required property"},
		"another resource":         {with("resource", "users"), "not supported"},
		"a nested filter":          {with("resource", resource+"?$filter=from/user/id eq 'x'"), "not supported"},
		"a filter with and":        {with("resource", users+"?$filter=appClass eq 'x' and appClass eq 'y'"), "not supported"},
		"an unknown change type":   {with("changeType", "created,moved"), "Invalid 'changeType'"},
		"a space in change types":  {with("changeType", "created, updated"), "Invalid 'changeType'"},
		"a change type twice":      {with("changeType", "created,created"), "Invalid 'changeType'"},
		"plain HTTP":               {with("notificationUrl", "http://127.0.0.1/"), "notificationUrl must use HTTPS"},
		"plain HTTP for lifecycle": {with("lifecycleNotificationUrl", "http://127.0.0.1/"), "lifecycleNotificationUrl must use HTTPS"},
		"a URL without a host":     {with("notificationUrl", "EventHub:x"), "not a valid URL"},
		"a past expiration":        {with("expirationDateTime", fromNow(-time.Second)), "must be in the future"},
		"more than 4,320 minutes": {func(b map[string]any) { // not before, since it may wait for other tests for a minute
			b["expirationDateTime"] = fromNow(72*time.Hour + time.Minute)
		}, "can only be 4320 minutes in the future"},
		"an hour without lifecycle": {func(b map[string]any) {
			without("lifecycleNotificationUrl")(b)
			b["expirationDateTime"] = fromNow(61 * time.Minute)
		}, "lifecycleNotificationUrl is a required property"},
		"a time without an offset":  {with("expirationDateTime", "2030-01-01T00:00:00"), "not a date and time with an offset"},
		"a long clientState":        {with("clientState", strings.Repeat("x", 129)), "clientState can't be longer than 128"},
		"a long certificate id":     {with("encryptionCertificateId", strings.Repeat("x", 129)), "encryptionCertificateId can't be longer than 128"},
		"no certificate":            {without("encryptionCertificate"), "are required with includeResourceData"},
		"no certificate id":         {without("encryptionCertificateId"), "are required with includeResourceData"},
		"a certificate without use": {without("includeResourceData"), "needs includeResourceData"},
		"a certificate in PEM":      {with("encryptionCertificate", "-----BEGIN CERTIFICATE-----"), "not base64"},
		"an invalid certificate":    {with("encryptionCertificate", "AAAA"), "not an X.509 certificate in DER"},
		"an elliptic key":           {with("encryptionCertificate", selfSignedCertificate(t, &curve.PublicKey, curve)), "must hold an RSA key"},
		"a short key":               {with("encryptionCertificate", selfSignedCertificate(t, &small.PublicKey, small)), "has 1024 bits"},
		"an unknown TLS version":    {with("latestSupportedTlsVersion", "v1_4"), "latestSupportedTlsVersion must be one of"},
		"query options":             {with("notificationQueryOptions", "x"), "'notificationQueryOptions' can't be set"},
		"a web push key":            {with("vapidPublicKey", "x"), "'vapidPublicKey' can't be set"},
		"an id":                     {with("id", "x"), "'id' can't be set"},
		"a wrong type":              {with("resource", 1), "wrong type"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, answer := g.call(http.MethodPost, "/v1.0/subscriptions", request(e, c.change))
			code, message := errorOf(answer)
			assert.Equal(t, http.StatusBadRequest, status)
			assert.NotEmpty(t, code)
			assert.Contains(t, message, c.message)
		})
	}
	t.Cleanup(func() {
		assert.Zero(t, g.Stats().Handshakes, "the request is checked before the handshake")
	})
}

func TestRequestBody_RequiresJSON(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	id := g.subscribe(e, nil).ID
	for method, path := range map[string]string{http.MethodPost: "/v1.0/subscriptions", http.MethodPatch: "/v1.0/subscriptions/" + id} {
		for kind, message := range map[string]string{"text/plain": "Content-Type", "application/json": "Unable to read JSON"} {
			r, err := http.NewRequestWithContext(t.Context(), method, g.url+path, strings.NewReader("{"))
			require.NoError(t, err)
			r.Header.Set("Content-Type", kind)
			r.Header.Set("Authorization", "Bearer "+g.token)
			status, _, answer := g.do(r)
			_, got := errorOf(answer)
			assert.Equal(t, http.StatusBadRequest, status)
			assert.Contains(t, got, message)
		}
	}
}

func TestRequestBody_IsLimited(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	status, answer := g.call(http.MethodPost, "/v1.0/subscriptions", request(e, with("clientState", strings.Repeat("x", 1<<20))))
	_, message := errorOf(answer)
	assert.Equal(t, http.StatusBadRequest, status)
	assert.Contains(t, message, "can't be read")
}

func TestSubscriptions_AreReturnedWithoutSecrets(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	status, created := g.call(http.MethodPost, "/v1.0/subscriptions", request(e, nil))
	require.Equal(t, http.StatusCreated, status)
	id := created["id"].(string)
	_, got := g.call(http.MethodGet, "/V1.0/Subscriptions/"+id, nil)
	_, list := g.call(http.MethodGet, "/v1.0/subscriptions", nil)
	_, patched := g.call(http.MethodPatch, "/v1.0/subscriptions/"+id, map[string]any{"expirationDateTime": fromNow(time.Hour)})
	for name, answer := range map[string]map[string]any{
		"create": created, "get": got, "list": list["value"].([]any)[0].(map[string]any), "patch": patched,
	} {
		assert.Equal(t, id, answer["id"], name)
		assert.Nil(t, answer["clientState"], name)
		assert.Nil(t, answer["encryptionCertificate"], name)
		assert.Equal(t, "key-1", answer["encryptionCertificateId"], name)
		assert.Equal(t, "created,updated,deleted", answer["changeType"], name)
		assert.Equal(t, e.url, answer["notificationUrl"], name)
		assert.Equal(t, clientID, answer["applicationId"], name)
		assert.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z$`, answer["expirationDateTime"], name)
	}
}

func TestList_HidesCertificateIDsAndPages(t *testing.T) {
	t.Parallel()
	g := start(t, func(s *graphtest.Settings) { s.HideCertificateIDs, s.ListPageSize = true, 2 })
	for _, user := range []string{"a", "b", "c"} {
		_, err := g.AddSubscription(graphtest.Subscription{
			Resource: "copilot/users/" + user + "/interactionHistory/getAllEnterpriseInteractions", ChangeType: "created",
			Expiration: time.Now().Add(time.Hour), EncryptionCertificateID: "hidden",
		})
		require.NoError(t, err)
	}
	_, first := g.call(http.MethodGet, "/v1.0/subscriptions", nil)
	assert.Len(t, first["value"], 2)
	assert.Nil(t, first["value"].([]any)[0].(map[string]any)["encryptionCertificateId"])
	_, second := g.call(http.MethodGet, first["@odata.nextLink"].(string), nil)
	assert.Len(t, second["value"], 1)
	assert.NotContains(t, second, "@odata.nextLink")
}

func TestCreate_RefusesSecondSubscription(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	first := g.subscribe(e, nil)
	user := g.subscribe(e, with("resource", "copilot/users/U/interactionHistory/getAllEnterpriseInteractions"))
	for name, c := range map[string]struct {
		change        func(map[string]any)
		status        int
		code, message string
	}{
		"the same resource and changes": {
			func(b map[string]any) {
				b["changeType"], b["resource"] = "deleted,created,updated", "/"+strings.ToUpper(resource)
			},
			http.StatusConflict, "Conflict", "Subscription Id <" + first.ID + "> already exists for the requested combination",
		},
		"other changes":  {with("changeType", "created"), http.StatusForbidden, "Forbidden", "maximum number of subscriptions (1)"},
		"another filter": {with("resource", resource+"?$filter=appClass eq 'x'"), http.StatusForbidden, "Forbidden", "maximum number"},
		"the same user": {
			with("resource", "copilot/users/u/interactionHistory/getAllEnterpriseInteractions"),
			http.StatusConflict, "Conflict", user.ID,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, answer := g.call(http.MethodPost, "/v1.0/subscriptions", request(e, c.change))
			code, message := errorOf(answer)
			assert.Equal(t, c.status, status)
			assert.Equal(t, c.code, code)
			assert.Contains(t, message, c.message)
		})
	}
	_, err := g.AddSubscription(graphtest.Subscription{Resource: resource, ChangeType: "created", Expiration: time.Now().Add(time.Hour)})
	require.ErrorContains(t, err, "maximum number of subscriptions")
}

func TestCreate_ConcurrentRequestsCreateOne(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	g.token = g.newToken()
	statuses := make(chan int, 4)
	for range cap(statuses) {
		go func() {
			status, _ := g.call(http.MethodPost, "/v1.0/subscriptions", request(e, nil))
			statuses <- status
		}()
	}
	made := 0
	for range cap(statuses) {
		if status := <-statuses; status == http.StatusCreated {
			made++
		} else {
			assert.Equal(t, http.StatusConflict, status)
		}
	}
	assert.Equal(t, 1, made)
}

func TestCreate_RaisesShortExpiration(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	s := g.subscribe(e, with("expirationDateTime", fromNow(time.Minute)))
	assert.WithinDuration(t, time.Now().Add(45*time.Minute), s.Expiration, 5*time.Second)
}

func TestCreate_AllowsHourWithoutLifecycleURL(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	s := g.subscribe(e, func(b map[string]any) {
		without("lifecycleNotificationUrl")(b)
		b["expirationDateTime"] = fromNow(59 * time.Minute)
	})
	assert.WithinDuration(t, time.Now().Add(59*time.Minute), s.Expiration, 5*time.Second)
	status, _ := g.call(http.MethodPatch, "/v1.0/subscriptions/"+s.ID, map[string]any{"expirationDateTime": fromNow(2 * time.Hour)})
	assert.Equal(t, http.StatusBadRequest, status)
}

func TestSubscriptions_Expire(t *testing.T) {
	t.Parallel()
	g, e := start(t, func(s *graphtest.Settings) { s.MinLifetime = time.Millisecond }), newEndpoint(t)
	s := g.subscribe(e, nil)
	require.NoError(t, g.ExpireSubscription(s.ID, time.Now()))
	assert.Empty(t, g.Subscriptions())
	status, answer := g.call(http.MethodGet, "/v1.0/subscriptions/"+s.ID, nil)
	code, _ := errorOf(answer)
	assert.Equal(t, http.StatusNotFound, status)
	assert.Equal(t, "ResourceNotFound", code)
	require.ErrorIs(t, g.ExpireSubscription(s.ID, time.Now()), graphtest.ErrNoSubscription)
	g.subscribe(e, nil)
}

func TestRenew_ChangesOnlyExpirationAndURL(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	s := g.subscribe(e, nil)
	for name, c := range map[string]struct {
		body    map[string]any
		message string
	}{
		"nothing":                 {map[string]any{}, "expirationDateTime or notificationUrl is required"},
		"a certificate":           {map[string]any{"encryptionCertificate": "x", "expirationDateTime": fromNow(time.Hour)}, "'encryptionCertificate' can't be set"},
		"another lifecycle URL":   {map[string]any{"lifecycleNotificationUrl": e.url}, "'lifecycleNotificationUrl' can't be set"},
		"a past expiration":       {map[string]any{"expirationDateTime": fromNow(-time.Hour)}, "must be in the future"},
		"more than 4,320 minutes": {map[string]any{"expirationDateTime": fromNow(73 * time.Hour)}, "can only be 4320 minutes"},
		"plain HTTP":              {map[string]any{"notificationUrl": "http://localhost/"}, "notificationUrl must use HTTPS"},
		"an unreachable URL":      {map[string]any{"notificationUrl": "https://127.0.0.1:1/"}, "Subscription validation request failed."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, answer := g.call(http.MethodPatch, "/v1.0/subscriptions/"+s.ID, c.body)
			_, message := errorOf(answer)
			assert.Equal(t, http.StatusBadRequest, status)
			assert.Contains(t, message, c.message)
		})
	}
	t.Cleanup(func() { assert.Equal(t, s.Expiration, g.Subscriptions()[0].Expiration) })
}

func TestRenew_GrantsExpiration(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	s := g.subscribe(e, with("expirationDateTime", fromNow(time.Hour)))
	status, answer := g.call(http.MethodPatch, "/v1.0/subscriptions/"+s.ID, map[string]any{"expirationDateTime": fromNow(70 * time.Hour)})
	require.Equal(t, http.StatusOK, status, "%v", answer)
	granted, err := time.Parse(time.RFC3339, answer["expirationDateTime"].(string))
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now().Add(70*time.Hour), granted, 5*time.Second)
	assert.WithinDuration(t, granted, g.Subscriptions()[0].Expiration, time.Microsecond)
	assert.Equal(t, 2, g.Stats().Handshakes, "a renewal needs no handshake")
}

func TestRenew_ValidatesNewURL(t *testing.T) {
	t.Parallel()
	g, first, second := start(t, nil), newEndpoint(t), newEndpoint(t)
	s := g.subscribe(first, nil)
	status, _ := g.call(http.MethodPatch, "/v1.0/subscriptions/"+s.ID, map[string]any{"notificationUrl": second.url})
	require.Equal(t, http.StatusOK, status)
	assert.Equal(t, 3, g.Stats().Handshakes)
	n, err := g.Publish(t.Context(), promptAndResponse...)
	require.NoError(t, err)
	require.NoError(t, g.WaitDelivered(deadline(t), n))
	posts, _ := first.received()
	assert.Empty(t, posts)
}

func TestSubscriptions_DeletedIsNotFound(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	s := g.subscribe(e, nil)
	path := "/v1.0/subscriptions/" + s.ID
	status, _ := g.call(http.MethodDelete, path, nil)
	assert.Equal(t, http.StatusNoContent, status)
	for _, call := range []struct {
		method, path string
		body         any
	}{
		{http.MethodGet, path, nil},
		{http.MethodPatch, path, map[string]any{"expirationDateTime": fromNow(time.Hour)}},
		{http.MethodDelete, path, nil},
		{http.MethodPost, path + "/reauthorize", nil},
	} {
		status, answer := g.call(call.method, call.path, call.body)
		code, _ := errorOf(answer)
		assert.Equal(t, http.StatusNotFound, status, call.method)
		assert.Equal(t, "ResourceNotFound", code)
	}
	_, list := g.call(http.MethodGet, "/v1.0/subscriptions", nil)
	assert.Equal(t, []any{}, list["value"])
}

func TestViolations_RecordPatchNearReauthorize(t *testing.T) {
	t.Parallel()
	g, e := start(t, nil), newEndpoint(t)
	s := g.subscribe(e, nil)
	path := "/v1.0/subscriptions/" + s.ID
	renewal := map[string]any{"expirationDateTime": fromNow(time.Hour)}
	g.call(http.MethodPatch, path, renewal)
	g.call(http.MethodPatch, path, renewal)
	assert.Empty(t, g.Violations())
	status, _ := g.call(http.MethodPost, path+"/reauthorize", nil)
	assert.Equal(t, http.StatusNoContent, status)
	assert.Len(t, g.Violations(), 1)
	g.call(http.MethodPatch, path, renewal)
	assert.Len(t, g.Violations(), 2)
	assert.Contains(t, g.Violations()[0], s.ID)
}

func TestViolations_AllowPatchApartFromReauthorize(t *testing.T) {
	t.Parallel()
	g, e := start(t, func(s *graphtest.Settings) { s.MinReauthorizeInterval = time.Nanosecond }), newEndpoint(t)
	path := "/v1.0/subscriptions/" + g.subscribe(e, nil).ID
	g.call(http.MethodPatch, path, map[string]any{"expirationDateTime": fromNow(time.Hour)})
	g.call(http.MethodPost, path+"/reauthorize", nil)
	assert.Empty(t, g.Violations())
}

func TestList_Allows25RequestsIn20Seconds(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	for range 25 {
		status, _ := g.call(http.MethodGet, "/v1.0/subscriptions", nil)
		require.Equal(t, http.StatusOK, status)
	}
	status, header, answer := g.exchange(http.MethodGet, "/v1.0/subscriptions", nil)
	code, _ := errorOf(answer)
	assert.Equal(t, http.StatusTooManyRequests, status)
	assert.Equal(t, "TooManyRequests", code)
	wait, err := strconv.Atoi(header.Get("Retry-After"))
	require.NoError(t, err)
	assert.InDelta(t, 15, wait, 5)
}

func TestList_HasNoLimitWithNoListLimit(t *testing.T) {
	t.Parallel()
	g := start(t, func(s *graphtest.Settings) { s.NoListLimit = true })
	for range 30 {
		status, _ := g.call(http.MethodGet, "/v1.0/subscriptions", nil)
		require.Equal(t, http.StatusOK, status)
	}
	assert.Len(t, g.Requests(graphtest.OpList), 30)
}
