// SPDX-License-Identifier: Apache-2.0

package doctor_test

import (
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/doctor"
	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

const (
	tenantWide = "copilot/interactionHistory/getAllEnterpriseInteractions"
	ownURL     = "https://copilot.invalid/graph/notifications"
	foreignURL = "https://other.example.com/hidden?code=" + queryKey
)

// subscribe adds a subscription, changed by change, that differs from that of the receiver by its key alone.
func (h *harness) subscribe(t *testing.T, change func(*graphtest.Subscription)) graphtest.Subscription {
	t.Helper()
	s := graphtest.Subscription{
		Resource: tenantWide, ChangeType: "created,updated,deleted", NotificationURL: ownURL, LifecycleNotificationURL: ownURL,
		Expiration: time.Date(2199, 1, 2, 3, 4, 0, 0, time.UTC), IncludeResourceData: true, EncryptionCertificateID: "key.0123456789abcdef",
	}
	if change != nil {
		change(&s)
	}
	added, err := h.emulator.AddSubscription(s)
	require.NoError(t, err)
	return added
}

// encryption writes an encryption certificate, and returns the YAML that names it and its id.
func (h *harness) encryption(t *testing.T) (yaml, certificateID string) {
	t.Helper()
	pair, err := graphtest.EncryptionCertificate(2048, 24*time.Hour)
	require.NoError(t, err)
	certFile, keyFile := filepath.Join(h.dir, "encryption.pem"), filepath.Join(h.dir, "encryption-key.pem")
	require.NoError(t, os.WriteFile(certFile, pair.Certificate, 0o600))
	require.NoError(t, os.WriteFile(keyFile, pair.Key, 0o600))
	key, err := notification.LoadKey(notification.DefaultKeyID, certFile, keyFile)
	require.NoError(t, err)
	return fmt.Sprintf("    encryption: {certificates: [{cert_file: %q, key_file: %q}]}\n", certFile, keyFile), key.CertificateID()
}

// checkReading makes all checks, returns those of a group, and asserts that they read alone and tell no secret and no user.
func (h *harness) checkReading(t *testing.T, name, receiver, rest string) doctor.Group {
	t.Helper()
	before := h.emulator.Subscriptions()
	r := h.check(t, receiver, rest)
	assert.Equal(t, before, h.emulator.Subscriptions())
	assertReadOnly(t, h)
	var all bytes.Buffer
	require.NoError(t, r.WriteJSON(&all))
	for _, secret := range []string{queryKey, "/hidden", "4f0c-0000-", promptText} {
		assert.NotContains(t, all.String(), secret)
	}
	return group(t, r, name)
}

func TestSubscriptions_WhatTheReceiverDoes(t *testing.T) {
	t.Parallel()
	const until = " until 2199-01-02 03:04Z"
	for name, test := range map[string]struct {
		// exists adds the subscriptions and returns the id of the one that is looked at. certificateID is that of the configured key.
		exists  func(t *testing.T, h *harness, certificateID string) string
		without bool // encryption.certificates
		yaml    string
		mark    doctor.Mark
		code    failure.Code
		found   string // %s is the id
		count   string
	}{
		"it creates one where there is none": {
			mark: doctor.OK, found: "tenant, no subscription: the receiver creates one", count: "the app registration has 0",
		},
		"it keeps one that fits": {
			exists: func(t *testing.T, h *harness, certificateID string) string {
				t.Helper()
				return h.subscribe(t, func(s *graphtest.Subscription) { s.EncryptionCertificateID = certificateID }).ID
			},
			mark: doctor.OK, found: "tenant, own %s, to copilot.invalid," + until + ": the receiver keeps it", count: "the app registration has 1",
		},
		"it replaces one with other change types": {
			exists: func(t *testing.T, h *harness, certificateID string) string {
				t.Helper()
				return h.subscribe(t, func(s *graphtest.Subscription) {
					s.EncryptionCertificateID, s.ChangeType = certificateID, "created"
				}).ID
			},
			mark: doctor.OK, found: "own %s, to copilot.invalid," + until + ": the receiver replaces it when it starts, since it differs",
			count: "the app registration has 1",
		},
		"it replaces one for another certificate": {
			exists: anotherKey,
			mark:   doctor.Warn, code: failure.CertificateMissing, found: "own %s, to copilot.invalid," + until + ": the receiver replaces it",
			count: "the app registration has 1",
		},
		"it replaces one for the key of an earlier run": {
			exists: anotherKey, without: true,
			mark: doctor.Warn, code: failure.KeyInMemory, found: "own %s, to copilot.invalid," + until + ": the receiver replaces it",
			count: "the app registration has 1",
		},
		"it stays without one where another receiver has it": {
			exists: foreign,
			mark:   doctor.Fail, code: failure.SubscriptionConflict, count: "the app registration has 1",
			found: "another's %s, to other.example.com," + until + ": it occupies the place of this receiver's subscription",
		},
		"it replaces another's if it may": {
			exists: foreign, yaml: "    subscription: {replace_foreign: true}\n",
			mark: doctor.OK, found: "another's %s, to other.example.com," + until + ": the receiver replaces it, as subscription.replace_foreign says",
			count: "the app registration has 1",
		},
		"it leaves those of other resources": {
			exists: func(t *testing.T, h *harness, _ string) string {
				t.Helper()
				return h.subscribe(t, func(s *graphtest.Subscription) { s.Resource, s.NotificationURL = ofUser(7), foreignURL }).ID
			},
			mark: doctor.OK, found: "tenant, no subscription: the receiver creates one",
			count: "the app registration has 1, 1 of them expired or for other resources",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			encryption, certificateID := h.encryption(t)
			id := ""
			if test.exists != nil {
				id = test.exists(t, h, certificateID)
			}
			if test.without {
				encryption = ""
			}
			g := h.checkReading(t, "subscriptions", encryption+test.yaml, "")
			require.Len(t, g.Checks, 2, "%+v", g)
			assert.Equal(t, doctor.Check{Mark: doctor.OK, Found: test.count}, g.Checks[0])
			c := g.Checks[1]
			assert.Equal(t, test.mark, c.Mark)
			assert.Equal(t, test.code, c.Code)
			assert.Equal(t, test.code != "", c.Hint != "")
			assert.Contains(t, c.Found, strings.ReplaceAll(test.found, "%s", id))
		})
	}
}

func anotherKey(t *testing.T, h *harness, _ string) string {
	t.Helper()
	return h.subscribe(t, nil).ID
}

func foreign(t *testing.T, h *harness, _ string) string {
	t.Helper()
	return h.subscribe(t, func(s *graphtest.Subscription) { s.NotificationURL = foreignURL }).ID
}

func userID(n int) string { return fmt.Sprintf("b2a7c9e4-5d31-4f0c-0000-%012d", n) }

func ofUser(n int) string {
	return "copilot/users/" + userID(n) + "/interactionHistory/getAllEnterpriseInteractions"
}

// The receiver generated the key. Without its storage it makes another one.
func TestSubscriptions_KeyIsGenerated(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	r := startReceiver(t, directory)
	g := group(t, checkURIs(t, "yaml:"+r.yaml), "subscriptions")
	assert.Equal(t, doctor.OK, g.Mark(), "%+v", g)
	assert.Contains(t, g.Checks[1].Found, ": the receiver keeps it")

	g = group(t, checkURIs(t, "yaml:"+strings.ReplaceAll(r.yaml, directory, t.TempDir())), "subscriptions")
	c := only(t, g)
	assert.Equal(t, failure.SubscriptionKeyConflict, c.Code)
	assert.Contains(t, c.Found, "since it was made with another encryption key")
}

// Storage of a kind that the doctor can't read may hold the key of the subscription.
func TestSubscriptions_KeyIsNotKnown(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.subscribe(t, nil)
	g := h.checkReading(t, "subscriptions", "    storage: redis_storage",
		"extensions: {redis_storage: {endpoint: 'localhost:1'}}\nservice: {extensions: [redis_storage]}")
	assert.Equal(t, doctor.OK, g.Mark())
	assert.Contains(t, g.Checks[1].Found, "the receiver keeps it if storage holds its key and it is as configured")
}

// It may also hold that a subscription with another URL is the receiver's own, after subscription.notification_url was changed.
func TestSubscriptions_OwnerIsNotKnown(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	encryption, certificateID := h.encryption(t)
	h.subscribe(t, func(s *graphtest.Subscription) {
		s.NotificationURL, s.EncryptionCertificateID = foreignURL, certificateID
	})
	g := h.checkReading(t, "subscriptions", encryption+"    storage: redis_storage",
		"extensions: {redis_storage: {endpoint: 'localhost:1'}}\nservice: {extensions: [redis_storage]}")
	assert.Equal(t, doctor.Warn, g.Mark())
	assert.Equal(t, failure.SubscriptionConflict, g.Checks[1].Code)
	assert.Contains(t, g.Checks[1].Found, "unless storage has it as the receiver's own")
}

func TestSubscriptions_KeyIsUnusable(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.subscribe(t, nil)
	g := h.checkReading(t, "subscriptions", "    encryption: {certificates: [{cert_file: none.pem, key_file: none.pem}]}", "")
	assert.Equal(t, doctor.Skip, g.Mark())
	assert.Contains(t, g.Checks[1].Found, "without the encryption key it is not known whether the receiver keeps it")
}

// Many users are counted, and those with another fate apart.
func TestSubscriptions_OfManyUsersAreCounted(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	encryption, certificateID := h.encryption(t)
	var users []string
	first := ""
	for n := range 200 {
		users = append(users, userID(n))
		if n%2 == 1 {
			own := h.subscribe(t, func(s *graphtest.Subscription) { s.Resource, s.EncryptionCertificateID = ofUser(n), certificateID })
			first = cmp.Or(first, own.ID)
		}
	}
	other := h.subscribe(t, func(s *graphtest.Subscription) { s.Resource, s.NotificationURL = ofUser(4), foreignURL }).ID
	g := h.checkReading(t, "subscriptions", encryption+"    subscription: {users: ["+strings.Join(users, ", ")+"]}", "")
	var found []string
	for _, c := range g.Checks {
		found = append(found, c.Found)
	}
	require.Len(t, found, 4)
	assert.Equal(t, "the app registration has 101", found[0])
	assert.Equal(t, "99 of 200 users, such as users[0], no subscription: the receiver creates one when it starts", found[1])
	assert.Contains(t, found[2], "100 of 200 users, such as users[1], own "+first+", to copilot.invalid,")
	assert.Contains(t, found[3], "1 of 200 users, such as users[4], another's "+other+", to other.example.com,")
	assert.Equal(t, failure.SubscriptionConflict, g.Checks[3].Code)
}

func TestSubscriptions_CanNotBeListed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault graphtest.Fault
		code  failure.Code
	}{
		"the permission is missing": {graphtest.Fault{Status: http.StatusForbidden}, failure.PermissionMissing},
		"Graph is unavailable":      {graphtest.Fault{Status: http.StatusServiceUnavailable}, failure.Unavailable},
		"the answer is no JSON":     {graphtest.Fault{InvalidJSON: true}, failure.UnexpectedResponse},
		"Graph does not answer":     {graphtest.Fault{Delay: time.Minute}, failure.Unreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			h.emulator.Fail(graphtest.OpList, test.fault)
			g := h.checkReading(t, "subscriptions", "", "")
			require.Len(t, g.Checks, 1)
			assert.Equal(t, doctor.Fail, g.Checks[0].Mark)
			assert.Equal(t, test.code, g.Checks[0].Code, g.Checks[0].Found)
			assert.Contains(t, g.Checks[0].Found, "list subscriptions")
			assert.NotEmpty(t, g.Checks[0].Hint)
		})
	}
}
