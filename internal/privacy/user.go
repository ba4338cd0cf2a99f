// SPDX-License-Identifier: Apache-2.0

package privacy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/record"
)

// The labels separate derivations of ids from each other, and from later versions of themselves.
const (
	subjectLabel = "m365_copilot subject v1"
	userLabel    = "m365_copilot user v1"
)

// Subject returns the subject of a user: the first 16 bytes of the SHA-256 of label, tenant and user id in lower case, joined by the
// byte 0x1F.
func (Settings) Subject(tenantID, userID string) record.Subject {
	return derive(subjectLabel, tenantID, strings.ToLower(userID))
}

func derive(parts ...string) [16]byte {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x1f")))
	return [16]byte(sum[:16])
}

// LicensedUser is what is known of a licensed user, for the inventory.
type LicensedUser struct {
	// TenantID is the tenant, UserID the Entra object id, both in lower case.
	TenantID, UserID string
	// Person is the directory's entry, nil if it is not known.
	Person *interaction.Person
	// At is the time of the entry, Interval the start of the interval of the inventory that it belongs to.
	At, Interval time.Time
	// LastActive and DaysActive are those of record.User.
	LastActive time.Time
	DaysActive int
}

// User returns the inventory's entry of a licensed user. Its UID is made of label, tenant, user id and the start of the interval in
// milliseconds since 1970, like a Subject.
func (s Settings) User(u LicensedUser) record.User {
	uid := derive(userLabel, u.TenantID, u.UserID, strconv.FormatInt(u.Interval.UnixMilli(), 10))
	made := record.User{
		TenantID: u.TenantID, UID: hex.EncodeToString(uid[:]), At: u.At, UserID: u.UserID, Person: s.person(u.Person),
		LastActive: u.LastActive, DaysActive: u.DaysActive,
		Body: fmt.Sprintf("licensed user, active on %d of 28 days", u.DaysActive),
	}
	made.Person.Licensed = new(true)
	return made
}
