// SPDX-License-Identifier: Apache-2.0

package privacy

import (
	"slices"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/record"
)

// PropertyNames returns the names of the directory's properties that can be selected, as Graph's user resource has them:
// https://learn.microsoft.com/graph/api/resources/user
func PropertyNames() []string {
	return []string{
		"userPrincipalName", "displayName", "department", "officeLocation", "country", "jobTitle", "companyName",
		"onPremisesSamAccountName", "onPremisesSecurityIdentifier", "onPremisesDomainName",
	}
}

// person returns what may leave of the directory's entry of a user, nothing if there is none.
func (s Settings) person(p *interaction.Person) record.Person {
	if p == nil || !s.Directory {
		return record.Person{}
	}
	selected := func(name, value string) string {
		if slices.Contains(s.Properties, name) {
			return value
		}
		return ""
	}
	return record.Person{
		Name:               selected("userPrincipalName", p.UserPrincipalName),
		FullName:           selected("displayName", p.DisplayName),
		Department:         selected("department", p.Department),
		OfficeLocation:     selected("officeLocation", p.OfficeLocation),
		Country:            selected("country", p.Country),
		JobTitle:           selected("jobTitle", p.JobTitle),
		Company:            selected("companyName", p.CompanyName),
		SAMAccountName:     selected("onPremisesSamAccountName", p.OnPremisesSamAccountName),
		SecurityIdentifier: selected("onPremisesSecurityIdentifier", p.OnPremisesSecurityIdentifier),
		Domain:             selected("onPremisesDomainName", p.OnPremisesDomainName),
		Licensed:           new(p.Licensed),
	}
}
