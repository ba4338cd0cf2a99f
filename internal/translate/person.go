// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelcopilot/m365copilotreceiver/internal/record"
)

// personAttributes is the number of attributes of a person who has all of them.
const personAttributes = 11

// Users returns one event for each licensed user, in order. All are of one tenant, which is the resource. Without users the logs are
// empty.
func Users(scope Scope, users []record.User) plog.Logs {
	logs := plog.NewLogs()
	if len(users) == 0 {
		return logs
	}
	events := appendEvents(logs, scope, users[0].TenantID, len(users))
	for i := range users {
		fillUserEvent(events.AppendEmpty(), &users[i])
	}
	return logs
}

// maxUserAttributes is the number of attributes of the event of a user that has all of them.
const maxUserAttributes = personAttributes + 4

func fillUserEvent(event plog.LogRecord, u *record.User) {
	at := pcommon.NewTimestampFromTime(u.At)
	event.SetTimestamp(at)
	event.SetObservedTimestamp(at)
	event.SetSeverityNumber(plog.SeverityNumberInfo)
	event.SetEventName(userEventName)
	event.Body().SetStr(u.Body)

	attributes := event.Attributes()
	attributes.EnsureCapacity(maxUserAttributes)
	putString(attributes, attrLogRecordUID, u.UID)
	putString(attributes, attrUserID, u.UserID)
	putPerson(attributes, u.Person)
	if !u.LastActive.IsZero() {
		attributes.PutStr(attrUserLastActive, u.LastActive.UTC().Format(time.RFC3339Nano))
	}
	attributes.PutInt(attrUserDaysActive, int64(u.DaysActive))
}

// putPerson puts what the directory says about a user.
func putPerson(attributes pcommon.Map, p record.Person) {
	putString(attributes, attrUserName, p.Name)
	putString(attributes, attrUserFullName, p.FullName)
	putString(attributes, attrUserDepartment, p.Department)
	putString(attributes, attrUserOfficeLocation, p.OfficeLocation)
	putString(attributes, attrUserCountry, p.Country)
	putString(attributes, attrUserJobTitle, p.JobTitle)
	putString(attributes, attrUserCompany, p.Company)
	putString(attributes, attrUserSAMAccountName, p.SAMAccountName)
	putString(attributes, attrUserSecurityIdentifier, p.SecurityIdentifier)
	putString(attributes, attrUserDomain, p.Domain)
	if p.Licensed != nil {
		attributes.PutBool(attrUserLicensed, *p.Licensed)
	}
}
