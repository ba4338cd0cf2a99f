// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

func wanted() graph.Subscription {
	return graph.Subscription{
		Resource:                 "copilot/interactionHistory/getAllEnterpriseInteractions",
		ChangeTypes:              []string{"created", "updated", "deleted"},
		NotificationURL:          "https://collector.contoso.com/graph?a=1&b=2",
		LifecycleNotificationURL: "https://collector.contoso.com/graph",
		Expiration:               time.Date(2025, 12, 4, 11, 0, 0, 999_999_999, time.FixedZone("", 3600)),
		ClientState:              "a derived secret",
		EncryptionCertificate:    []byte{0x30, 0x82, 0xff},
		EncryptionCertificateID:  "2026-11.0123456789abcdef",
	}
}

func TestCreateSubscription_SendsAllProperties(t *testing.T) {
	t.Parallel()
	client := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "POST /v1.0/subscriptions", r.Method+" "+r.URL.Path)
		assert.Equal(t, "application/json", r.Header.Get("Content-Type"))
		var sent map[string]any
		assert.NoError(t, json.NewDecoder(r.Body).Decode(&sent))
		assert.Empty(t, cmp.Diff(map[string]any{
			"resource":                  "copilot/interactionHistory/getAllEnterpriseInteractions",
			"changeType":                "created,updated,deleted",
			"notificationUrl":           "https://collector.contoso.com/graph?a=1&b=2",
			"lifecycleNotificationUrl":  "https://collector.contoso.com/graph",
			"expirationDateTime":        "2025-12-04T10:00:00Z",
			"clientState":               "a derived secret",
			"includeResourceData":       true,
			"encryptionCertificate":     "MIL/",
			"encryptionCertificateId":   "2026-11.0123456789abcdef",
			"latestSupportedTlsVersion": "v1_2",
		}, sent))
		w.WriteHeader(http.StatusCreated)
		write(w, `{"id":"0c1e","changeType":"created,updated,deleted","expirationDateTime":"2025-12-04T09:00:00.1234567Z",
			"clientState":null,"encryptionCertificate":null,"applicationId":"a","creatorId":"b","notificationContentType":"application/json"}`)
	})
	got, err := client.CreateSubscription(t.Context(), wanted())
	require.NoError(t, err)
	want := wanted()
	want.ID, want.Expiration = "0c1e", time.Date(2025, 12, 4, 9, 0, 0, 123_456_700, time.UTC)
	assert.Empty(t, cmp.Diff(want, got))
}

// Properties that the response omits are as requested.
func TestCreateSubscription_FillsOmittedProperties(t *testing.T) {
	t.Parallel()
	for _, body := range []string{`{"id":"1"}`, `{"id":"1","expirationDateTime":null}`, `{"id":"1","expirationDateTime":"soon"}`} {
		client := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) { write(w, body) })
		got, err := client.CreateSubscription(t.Context(), wanted())
		require.NoError(t, err)
		want := wanted()
		want.ID = "1"
		assert.Empty(t, cmp.Diff(want, got), body)
	}
}

func TestCreateSubscription_RejectsReplyWithoutID(t *testing.T) {
	t.Parallel()
	for _, body := range []string{``, ` `, `{}`, `{"id":""}`, `<html>`, `[]`, `{"id":7}`, `null`} {
		client := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) { write(w, body) })
		_, err := client.CreateSubscription(t.Context(), wanted())
		require.ErrorIs(t, err, graph.ErrUnreadable, body)
	}
}

func TestRenewSubscription_SendsExpirationOnly(t *testing.T) {
	t.Parallel()
	asked := time.Date(2025, 12, 4, 10, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		status int
		body   string
		want   graph.Subscription
	}{
		"the granted expiration": {
			status: 200, body: `{"id":"0c/1e","resource":"r","expirationDateTime":"2025-12-04T01:00:00.00-08:00","encryptionCertificate":"MIL/"}`,
			want: graph.Subscription{ID: "0c/1e", Expiration: asked.Add(-time.Hour)},
		},
		"a reply without expiration": {status: 200, body: `{"id":"0c/1e"}`, want: graph.Subscription{ID: "0c/1e", Expiration: asked}},
		"a reply without a body":     {status: 204, want: graph.Subscription{ID: "0c/1e", Expiration: asked}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
				assert.Equal(t, "PATCH /v1.0/subscriptions/0c%2F1e", r.Method+" "+r.URL.EscapedPath())
				var sent map[string]any
				assert.NoError(t, json.NewDecoder(r.Body).Decode(&sent))
				assert.Equal(t, map[string]any{"expirationDateTime": "2025-12-04T10:00:00Z"}, sent)
				w.WriteHeader(test.status)
				write(w, test.body)
			})
			got, err := client.RenewSubscription(t.Context(), "0c/1e", asked)
			require.NoError(t, err)
			assert.Empty(t, cmp.Diff(test.want, got))
		})
	}
}

func TestRenewSubscription_RejectsWhiteSpace(t *testing.T) {
	t.Parallel()
	// However much there is of it: what is beyond the limit is not read.
	client := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) { write(w, strings.Repeat(" ", 1<<10)) })
	_, err := client.RenewSubscription(t.Context(), "s-1", time.Now())
	require.ErrorIs(t, err, graph.ErrUnreadable)
}

func TestRenewSubscription_ReportsNotFound(t *testing.T) {
	t.Parallel()
	client := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		write(w, `{"error":{"code":"ResourceNotFound","message":"The object was not found."}}`)
	})
	_, err := client.RenewSubscription(t.Context(), "1", time.Now())
	var gone *graph.Error
	require.ErrorAs(t, err, &gone)
	assert.Equal(t, 404, gone.Status)
	assert.Equal(t, "ResourceNotFound", graph.Code(err))
}

func TestDeleteSubscription_TreatsNotFoundAsDeleted(t *testing.T) {
	t.Parallel()
	for status, fails := range map[int]bool{204: false, 200: false, 404: false, 403: true, 500: true} {
		client := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
			assert.Equal(t, "DELETE /v1.0/subscriptions/0c1e", r.Method+" "+r.URL.Path)
			w.WriteHeader(status)
		})
		err := client.DeleteSubscription(t.Context(), "0c1e")
		assert.Equal(t, fails, err != nil, "%d: %v", status, err)
	}
}

func TestListSubscriptions_ReadsAllPages(t *testing.T) {
	t.Parallel()
	client := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "GET", r.Method)
		assert.Equal(t, "Bearer a-token", r.Header.Get("Authorization"))
		if r.URL.Query().Get("$skiptoken") == "2" {
			write(w, `{"value":[{"id":"2","expirationDateTime":"2025-12-04T11:00:00+01:00"},{"id":"3"}],"@odata.nextLink":null}`)
			return
		}
		write(w, `{"@odata.context":"x","@odata.nextLink":"http://%s/v1.0/subscriptions?$skiptoken=2","value":[
			{"id":"1","resource":"/copilot/r","changeType":"updated, created","notificationUrl":"https://a","lifecycleNotificationUrl":"https://b",
			"expirationDateTime":"2025-12-04T10:00:00.0000000+00:00","clientState":null,"encryptionCertificate":"not base64!","encryptionCertificateId":"k.1"}]}`, r.Host)
	})
	got, err := client.ListSubscriptions(t.Context())
	require.NoError(t, err)
	expiration := time.Date(2025, 12, 4, 10, 0, 0, 0, time.UTC)
	assert.Empty(t, cmp.Diff([]graph.Subscription{
		{
			ID: "1", Resource: "/copilot/r", ChangeTypes: []string{"updated", "created"}, NotificationURL: "https://a",
			LifecycleNotificationURL: "https://b", Expiration: expiration, EncryptionCertificateID: "k.1",
		},
		{ID: "2", Expiration: expiration},
		{ID: "3"},
	}, got, cmpopts.EquateEmpty()))
}

func TestListSubscriptions_RejectsForeignLinks(t *testing.T) {
	t.Parallel()
	for name, link := range map[string]string{
		"another host":           "https://evil.example.com/v1.0/subscriptions",
		"another scheme":         "http://graph.example.com/v1.0/subscriptions",
		"another port":           "https://graph.example.com:8443/v1.0/subscriptions",
		"a host as user info":    "https://graph.example.com@evil.example.com/",
		"a user at the host":     "https://someone@graph.example.com/v1.0/subscriptions",
		"a longer host":          "https://graph.example.com.evil.example.com/",
		"no URL":                 "https://[::1",
		"a path without a slash": "subscriptions?next",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calls := 0
			client := newGraph(graph.Settings{
				Endpoint: "https://graph.example.com", Tokens: staticToken("a-token"),
				HTTP: roundTripFunc(func(*http.Request) (*http.Response, error) {
					calls++
					return jsonReply(200, fmt.Sprintf(`{"value":[],"@odata.nextLink":%q}`, link)), nil
				}).client(),
			})
			_, err := client.ListSubscriptions(t.Context())
			require.ErrorIs(t, err, graph.ErrForeignHost)
			assert.Equal(t, 1, calls)
		})
	}
}

func TestListSubscriptions_SchemelessLinkStaysAtEndpoint(t *testing.T) {
	t.Parallel()
	var hosts []string
	client := newGraph(graph.Settings{
		Endpoint: "https://graph.example.com", Tokens: staticToken("a-token"),
		HTTP: roundTripFunc(func(r *http.Request) (*http.Response, error) {
			hosts = append(hosts, r.URL.Host)
			if len(hosts) == 1 {
				return jsonReply(200, `{"value":[],"@odata.nextLink":"//evil.example.com/x"}`), nil
			}
			return jsonReply(404, `{}`), nil
		}).client(),
	})
	_, err := client.ListSubscriptions(t.Context())
	require.Error(t, err)
	for _, host := range hosts {
		assert.Equal(t, "graph.example.com", host)
	}
}

// A link may spell the scheme, host and default port differently.
func TestListSubscriptions_AcceptsEquivalentHost(t *testing.T) {
	t.Parallel()
	calls := 0
	client := newGraph(graph.Settings{Endpoint: "https://graph.example.com", HTTP: roundTripFunc(func(*http.Request) (*http.Response, error) {
		if calls++; calls == 1 {
			return jsonReply(200, `{"value":[{"id":"1"}],"@odata.nextLink":"HTTPS://Graph.Example.com:443/v1.0/subscriptions?2"}`), nil
		}
		return jsonReply(200, `{"value":[{"id":"2"}]}`), nil
	}).client()})
	got, err := client.ListSubscriptions(t.Context())
	require.NoError(t, err)
	assert.Len(t, got, 2)
}

func TestListSubscriptions_RejectsEndlessList(t *testing.T) {
	t.Parallel()
	for name, link := range map[string]func(calls int) string{
		"it links to an earlier page": func(calls int) string { return fmt.Sprintf("https://graph.example.com/v1.0/subscriptions?%d", calls%2) },
		"it links to itself":          func(int) string { return "https://graph.example.com/v1.0/subscriptions?again" },
		"there is always another":     func(calls int) string { return fmt.Sprintf("https://graph.example.com/v1.0/subscriptions?%d", calls) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calls := 0
			client := newGraph(graph.Settings{Endpoint: "https://graph.example.com", HTTP: roundTripFunc(func(*http.Request) (*http.Response, error) {
				calls++
				return jsonReply(200, fmt.Sprintf(`{"value":[],"@odata.nextLink":%q}`, link(calls))), nil
			}).client()})
			_, err := client.ListSubscriptions(t.Context())
			require.ErrorIs(t, err, graph.ErrTooManyPages)
			assert.LessOrEqual(t, calls, 1000)
		})
	}
}

// A page without a value is an error, not an empty list.
func TestListSubscriptions_RejectsMissingValue(t *testing.T) {
	t.Parallel()
	for _, body := range []string{``, `{}`, `{"value":null}`, `{"value":{}}`, `[]`, `<html></html>`, `{"value":[`, `null`} {
		client := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) { write(w, body) })
		_, err := client.ListSubscriptions(t.Context())
		require.ErrorIs(t, err, graph.ErrUnreadable, body)
	}
}
