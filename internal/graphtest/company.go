// SPDX-License-Identifier: Apache-2.0

package graphtest

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Company invents the n users of a company. The same seed and number give the same users. Three quarters of them, rounded down, have a
// Copilot license; of the others some have a Copilot plan that is not enabled. Most are synchronized from Active Directory, the others
// exist in the cloud alone. A few have no department, office and title.
func Company(seed uint64, n int) []Person {
	//nolint:gosec // the company must be repeatable
	c := &company{rng: rand.New(rand.NewPCG(seed, 3)), names: map[string]int{}}
	c.domainSID = fmt.Sprintf("S-1-5-21-%d-%d-%d", c.rng.Uint32(), c.rng.Uint32(), c.rng.Uint32())
	people := make([]Person, n)
	for i := range people {
		people[i] = c.person(i)
	}
	for i, p := range c.rng.Perm(n) {
		c.license(&people[p], i < n*3/4)
	}
	return people
}

// company is the state of Company.
type company struct {
	rng       *rand.Rand
	domainSID string
	// names counts the users of each name.
	names map[string]int
}

// department is a department with its titles. share is how many of 20 users belong to it.
type department struct {
	name   string
	share  int
	titles []string
}

var departments = []department{
	{"Engineering", 5, []string{"Engineer", "Senior Engineer", "Engineering Manager"}},
	{"Sales", 4, []string{"Account Manager", "Sales Representative", "Head of Sales"}},
	{"Operations", 3, []string{"Plant Manager", "Technician", "Buyer"}},
	{"Customer Service", 3, []string{"Support Specialist", "Team Lead"}},
	{"Finance", 2, []string{"Accountant", "Controller"}},
	{"Human Resources", 1, []string{"HR Business Partner", "Recruiter"}},
	{"Marketing", 1, []string{"Brand Manager", "Content Writer"}},
	{"Legal & Compliance", 1, []string{"Counsel", "Data Protection Officer"}},
}

func weightedDepartments() []department {
	var weighted []department
	for _, d := range departments {
		for range d.share {
			weighted = append(weighted, d)
		}
	}
	return weighted
}

// office is a place with the part of the company that is there.
type office struct {
	location, country, company string
}

var offices = []office{
	{"Graz 2/114", "Austria", "Contoso Robotics GmbH"},
	{"München", "Germany", "Contoso Robotics GmbH"},
	{"Lyon", "France", "Contoso SAS"},
	{"Leeds", "United Kingdom", "Contoso Ltd"},
	{"Austin, Building B", "United States", "Contoso, Inc."},
	{"大阪", "Japan", "Contoso KK"},
}

// Names, and how they are written in an account name if that differs.
var (
	givenNames = []string{
		"Amélie|amelie", "Ben", "Carla", "Dmitri", "Elif", "Farah", "Greta", "Hiro", "Inés|ines", "Jürgen|juergen", "Keiko", "Lena", "Mara",
		"Noah", "Olga", "Priya", "Quentin", "Rosa", "Søren|soeren", "Tomás|tomas", "Uma", "Viktor", "Wanda", "Yusuf", "Zoë|zoe",
	}
	familyNames = []string{
		"Adler", "Brown", "Çelik|celik", "Dubois", "Eriksson", "Fischer", "Groß|gross", "Haddad", "Ito", "Jansen", "Kowalski", "Lefèvre|lefevre",
		"Müller|mueller", "Novák|novak", "O'Neill|oneill", "Patel", "Rossi", "Sato", "Tanaka", "Weber", "Young",
	}
)

// name returns a name and its form in an account name.
func (c *company) name(names []string) (shown, account string) {
	shown, account, differs := strings.Cut(choose(c.rng, names), "|")
	if !differs {
		account = strings.ToLower(shown)
	}
	return shown, account
}

// person returns the nth user.
func (c *company) person(n int) Person {
	given, givenAccount := c.name(givenNames)
	family, familyAccount := c.name(familyNames)
	account := givenAccount + "." + familyAccount
	if c.names[account]++; c.names[account] > 1 {
		account += strconv.Itoa(c.names[account])
	}
	p := Person{ID: randomGUID(c.rng), UserPrincipalName: account + "@contoso.example", DisplayName: given + " " + family}
	if c.rng.IntN(20) > 0 {
		d, o := choose(c.rng, weightedDepartments()), choose(c.rng, offices)
		p.Department, p.JobTitle = d.name, choose(c.rng, d.titles)
		p.OfficeLocation, p.Country, p.CompanyName = o.location, o.country, o.company
	}
	if c.rng.IntN(10) < 7 {
		p.OnPremisesSamAccountName = fmt.Sprintf("%.1s%.10s%d", givenAccount, familyAccount, n) // at most 20 characters
		p.OnPremisesSecurityIdentifier = fmt.Sprintf("%s-%d", c.domainSID, 1104+n)
		p.OnPremisesDomainName = "corp.contoso.example"
	}
	return p
}

// exchangePlan is a plan that has nothing to do with Copilot.
var exchangePlan = Plan{
	ServicePlanID: "efb87545-963c-4e0d-99df-69c6916d9eb0", Service: "exchange", CapabilityStatus: "Enabled", AssignedDateTime: assigned,
}

// license assigns plans: to some licensed users also a Copilot plan of an earlier license, to some others only one that is not enabled.
func (c *company) license(p *Person, licensed bool) {
	p.Licensed, p.Plans = licensed, []Plan{exchangePlan}
	switch c.rng.IntN(4) {
	case 0:
		p.Plans = append(p.Plans, copilotPlan("Deleted"))
	case 1:
		if !licensed {
			p.Plans = append(p.Plans, copilotPlan("Suspended"))
		}
	case 2:
		if !licensed {
			p.Plans = nil
		}
	}
}
