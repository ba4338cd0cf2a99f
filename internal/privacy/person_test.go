// SPDX-License-Identifier: Apache-2.0

package privacy_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/privacy"
	"github.com/otelcopilot/m365copilotreceiver/internal/record"
)

// lena returns a directory entry with a value for each property.
func lena() *interaction.Person {
	return &interaction.Person{
		ID: "b2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f00", UserPrincipalName: "lena@contoso.com", DisplayName: "Lena Vogt",
		Department: "Sales", OfficeLocation: "Berlin 3.14", Country: "Germany", JobTitle: "Account Manager", CompanyName: "Contoso GmbH",
		OnPremisesSamAccountName: "lvogt", OnPremisesSecurityIdentifier: "S-1-5-21-1004336348-1177238915-682003330-1111",
		OnPremisesDomainName: "corp.contoso.com", Licensed: true,
	}
}

// personOf returns what leaves of a directory entry, on the record of a prompt.
func personOf(settings privacy.Settings, p *interaction.Person) record.Person {
	return settings.Apply([]interaction.Received{{
		Interaction: interaction.Interaction{Type: interaction.TypeUserPrompt}, UserID: "b2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f00", Person: p,
	}})[0].Person
}

func TestPerson_EachPropertyLeavesByItself(t *testing.T) {
	t.Parallel()
	want := map[string]record.Person{
		"userPrincipalName":            {Name: "lena@contoso.com"},
		"displayName":                  {FullName: "Lena Vogt"},
		"department":                   {Department: "Sales"},
		"officeLocation":               {OfficeLocation: "Berlin 3.14"},
		"country":                      {Country: "Germany"},
		"jobTitle":                     {JobTitle: "Account Manager"},
		"companyName":                  {Company: "Contoso GmbH"},
		"onPremisesSamAccountName":     {SAMAccountName: "lvogt"},
		"onPremisesSecurityIdentifier": {SecurityIdentifier: "S-1-5-21-1004336348-1177238915-682003330-1111"},
		"onPremisesDomainName":         {Domain: "corp.contoso.com"},
	}
	assert.Len(t, want, len(privacy.PropertyNames()))
	for _, name := range privacy.PropertyNames() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := want[name]
			want.Licensed = new(true)
			assert.Equal(t, want, personOf(privacy.Settings{Directory: true, Properties: []string{name}}, lena()))
		})
	}
}

func TestPerson_LeavesOnlyAsConfigured(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		settings privacy.Settings
		person   *interaction.Person
		want     record.Person
	}{
		"nothing without directory": {
			settings: privacy.Settings{Properties: privacy.PropertyNames(), CaptureText: true, References: true}, person: lena(),
		},
		"nothing of a user who is not known yet": {
			settings: privacy.Settings{Directory: true, Properties: privacy.PropertyNames()},
		},
		"the license alone without properties": {
			settings: privacy.Settings{Directory: true}, person: lena(), want: record.Person{Licensed: new(true)},
		},
		"no license is a value too": {
			settings: privacy.Settings{Directory: true, Properties: []string{"department"}},
			person:   &interaction.Person{Department: "Sales"},
			want:     record.Person{Department: "Sales", Licensed: new(false)},
		},
		"a name that Graph does not have selects nothing": {
			settings: privacy.Settings{Directory: true, Properties: []string{"", "id", "mail", "Department"}}, person: lena(),
			want: record.Person{Licensed: new(true)},
		},
		"all that is selected": {
			settings: privacy.Settings{Directory: true, Properties: privacy.PropertyNames()}, person: lena(),
			want: record.Person{
				Name: "lena@contoso.com", FullName: "Lena Vogt", Department: "Sales", OfficeLocation: "Berlin 3.14", Country: "Germany",
				JobTitle: "Account Manager", Company: "Contoso GmbH", SAMAccountName: "lvogt",
				SecurityIdentifier: "S-1-5-21-1004336348-1177238915-682003330-1111", Domain: "corp.contoso.com", Licensed: new(true),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.want, personOf(test.settings, test.person))
		})
	}
}

// TestPerson_RestLeavesNowhere searches the whole record for every property that is not selected, also for ones that are added to
// interaction.Person later.
func TestPerson_RestLeavesNowhere(t *testing.T) {
	t.Parallel()
	var person interaction.Person
	var markers []string
	setMarkers(reflect.ValueOf(&person).Elem(), "", &markers)
	received := []interaction.Received{{Person: &person, At: receivedAt()}}
	assert.Empty(t, markersIn(privacy.Settings{Properties: privacy.PropertyNames()}.Apply(received), markers))
	for _, name := range privacy.PropertyNames() {
		settings := privacy.Settings{CaptureText: true, References: true, Directory: true, Properties: []string{name}}
		want := "marker" + strings.ToUpper(name[:1]) + name[1:] + "end"
		assert.Equal(t, []string{want}, markersIn(settings.Apply(received), markers))
	}
}

func TestPerson_StaysAsItWasApplied(t *testing.T) {
	t.Parallel()
	p := lena()
	got := personOf(privacy.Settings{Directory: true, Properties: []string{"country"}}, p)
	p.Licensed, p.Country = false, "France"
	assert.Equal(t, record.Person{Country: "Germany", Licensed: new(true)}, got)
}

func TestPropertyNames_AreThoseOfGraph(t *testing.T) {
	t.Parallel()
	var want []string
	for field := range reflect.TypeFor[interaction.Person]().Fields() {
		if name := field.Tag.Get("json"); name != "id" && name != "-" {
			want = append(want, name)
		}
	}
	assert.ElementsMatch(t, want, privacy.PropertyNames())
}

// BenchmarkApply_Directory is the cost of the directory for each record: the difference of its two cases.
func BenchmarkApply_Directory(b *testing.B) {
	for name, settings := range map[string]privacy.Settings{
		"off":                {},
		"all its properties": {Directory: true, Properties: privacy.PropertyNames()},
	} {
		b.Run(name, func(b *testing.B) {
			received := []interaction.Received{{Interaction: interaction.Interaction{ID: promptID, SessionID: session}, Person: lena()}}
			b.ReportAllocs()
			for b.Loop() {
				settings.Apply(received)
			}
		})
	}
}
