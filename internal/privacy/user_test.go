// SPDX-License-Identifier: Apache-2.0

package privacy_test

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/privacy"
	"github.com/otelcopilot/m365copilotreceiver/internal/record"
)

const (
	userID      = "b2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f00"
	otherTenant = "00000000-0a4e-4d55-9b77-2f8e1c0a9d10"
	otherUser   = "00000000-5d31-4f0c-8e62-7a1b3c5d9f00"
)

// The values were computed with another implementation: stored subjects and the ids of other replicas must stay valid.
func TestSubject_IsTheSameEverywhere(t *testing.T) {
	t.Parallel()
	var s privacy.Settings
	subject := s.Subject(tenant, userID)
	assert.Equal(t, "64657111d781df6650028f3bd2f543b0", hex.EncodeToString(subject[:]))
	assert.Equal(t, subject, s.Subject(tenant, strings.ToUpper(userID)))
	assert.NotEqual(t, subject, s.Subject(tenant, otherUser))
	assert.NotEqual(t, subject, s.Subject(otherTenant, userID))
}

func TestApply_SubjectIsOfTheUser(t *testing.T) {
	t.Parallel()
	var s privacy.Settings
	records := s.Apply([]interaction.Received{
		{TenantID: tenant, UserID: userID, UserSource: interaction.UserFromPrompt},
		{TenantID: tenant, UserID: strings.ToUpper(userID), UserSource: interaction.UserFromHistory},
		{TenantID: tenant},
	})
	assert.Equal(t, s.Subject(tenant, userID), records[0].Subject)
	assert.Equal(t, records[0].Subject, records[1].Subject)
	assert.Zero(t, records[2].Subject, "the user is unknown")
}

func TestUser_IsAnEntryOfTheInventory(t *testing.T) {
	t.Parallel()
	interval := time.Date(2025, 12, 1, 0, 0, 0, 0, time.UTC)
	user := privacy.LicensedUser{
		TenantID: tenant, UserID: userID, At: receivedAt(), Interval: interval,
		LastActive: receivedAt().Add(-time.Hour), DaysActive: 3,
	}
	assert.Equal(t, record.User{
		TenantID: tenant, UID: "b13b70ec112f1ee16fac16672238ddc1", At: receivedAt(), UserID: userID,
		Person: record.Person{Licensed: new(true)}, LastActive: receivedAt().Add(-time.Hour), DaysActive: 3,
		Body: "licensed user, active on 3 of 28 days",
	}, privacy.Settings{}.User(user))
}

func TestUser_UIDIsOfUserAndInterval(t *testing.T) {
	t.Parallel()
	user := privacy.LicensedUser{TenantID: tenant, UserID: userID, Interval: receivedAt()}
	uid := privacy.Settings{}.User(user).UID
	for name, change := range map[string]func(*privacy.LicensedUser){
		"another interval": func(u *privacy.LicensedUser) { u.Interval = u.Interval.Add(time.Second) },
		"another user":     func(u *privacy.LicensedUser) { u.UserID = otherUser },
		"another tenant":   func(u *privacy.LicensedUser) { u.TenantID = otherTenant },
	} {
		changed := user
		change(&changed)
		assert.NotEqual(t, uid, privacy.Settings{}.User(changed).UID, name)
	}
	user.At, user.DaysActive = receivedAt(), 7
	assert.Equal(t, uid, privacy.Settings{}.User(user).UID, "it is the same at another time of the interval")
}
