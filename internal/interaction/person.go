// SPDX-License-Identifier: Apache-2.0

package interaction

// Person is what the directory of the tenant says about a user. The JSON names are those of Graph's user resource; what was not
// selected, or has no value, is empty. See https://learn.microsoft.com/graph/api/resources/user
type Person struct {
	// ID is the Entra object id.
	ID string `json:"id"`

	UserPrincipalName string `json:"userPrincipalName"`
	DisplayName       string `json:"displayName"`
	Department        string `json:"department"`
	OfficeLocation    string `json:"officeLocation"`
	Country           string `json:"country"`
	JobTitle          string `json:"jobTitle"`
	CompanyName       string `json:"companyName"`

	// The properties of users that are synchronized from Active Directory.
	OnPremisesSamAccountName     string `json:"onPremisesSamAccountName"`
	OnPremisesSecurityIdentifier string `json:"onPremisesSecurityIdentifier"`
	OnPremisesDomainName         string `json:"onPremisesDomainName"`

	// Licensed is true if the user's Copilot service plan is enabled.
	Licensed bool `json:"-"`
}
