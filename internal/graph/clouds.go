// SPDX-License-Identifier: Apache-2.0

package graph

import "strings"

// Cloud is one of Microsoft's separate installations of Graph and Entra ID: https://learn.microsoft.com/graph/deployments
type Cloud struct {
	// Name is the configuration value: global, us_gov, us_gov_dod or china.
	Name string
	// Endpoint is the root URL of Graph and Authority that of Entra ID, both without a trailing slash.
	Endpoint, Authority string

	// stsHost issues v1 tokens, loginHosts issue v2 tokens.
	stsHost    string
	loginHosts []string
}

// Clouds returns the four clouds, the worldwide one first. Microsoft's deployments page names the first login host of China, its
// authentication libraries the second; both issue tokens of this cloud.
func Clouds() []Cloud {
	const sts = "sts.windows.net"
	return []Cloud{
		{"global", "https://graph.microsoft.com", "https://login.microsoftonline.com", sts, []string{"login.microsoftonline.com"}},
		{"us_gov", "https://graph.microsoft.us", "https://login.microsoftonline.us", sts, []string{"login.microsoftonline.us"}},
		{"us_gov_dod", "https://dod-graph.microsoft.us", "https://login.microsoftonline.us", sts, []string{"login.microsoftonline.us"}},
		{
			"china", "https://microsoftgraph.chinacloudapi.cn", "https://login.chinacloudapi.cn", "sts.chinacloudapi.cn",
			[]string{"login.chinacloudapi.cn", "login.partner.microsoftonline.cn"},
		},
	}
}

// CloudOf returns the cloud with that name, or false if there is none.
func CloudOf(name string) (Cloud, bool) {
	for _, c := range Clouds() {
		if c.Name == name {
			return c, true
		}
	}
	return Cloud{}, false
}

// Issuers returns the values that the iss claim of a token of this tenant may have: the v1 form first, then the v2 forms.
// See https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference
func (c Cloud) Issuers(tenant string) []string {
	tenant = strings.ToLower(tenant)
	issuers := []string{"https://" + c.stsHost + "/" + tenant + "/"}
	for _, host := range c.loginHosts {
		issuers = append(issuers, "https://"+host+"/"+tenant+"/v2.0")
	}
	return issuers
}

// TokenURL returns the URL of the tenant's OAuth 2.0 token endpoint at an authority.
func TokenURL(authority, tenant string) string {
	return strings.TrimRight(authority, "/") + "/" + tenant + "/oauth2/v2.0/token"
}

// KeysURL returns the URL at which an authority publishes the keys (JWKS) that sign its tokens.
func KeysURL(authority string) string {
	return strings.TrimRight(authority, "/") + "/common/discovery/v2.0/keys"
}

// DefaultScope returns the scope that asks for every application permission granted at a Graph endpoint. Its host must be
// that of the cloud's own Graph: https://learn.microsoft.com/graph/sdks/national-clouds
func DefaultScope(endpoint string) string {
	return strings.TrimRight(endpoint, "/") + "/.default"
}
