package translate

import (
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/otelcopilot/m365copilotreceiver/internal/record"
)

// personAttributes is the number of attributes of a person who has all of them.
const personAttributes = 11

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
