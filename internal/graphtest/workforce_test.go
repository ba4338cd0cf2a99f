// SPDX-License-Identifier: Apache-2.0

package graphtest_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// workEnd is a Monday.
var workEnd = time.Date(2025, 11, 24, 16, 0, 0, 0, time.UTC)

const workPeriod = 84 * 24 * time.Hour

// said is an interaction of the company with its user.
type said struct {
	graphtest.Interaction
	graphtest.Person
	ID, SessionID, AppClass, InteractionType, Locale string

	Mentions []struct {
		Mentioned struct{ Application *struct{ DisplayName string } }
	}
}

func (s said) app() string  { return s.AppClass[strings.LastIndex(s.AppClass, ".")+1:] }
func (s said) prompt() bool { return s.InteractionType == "userPrompt" }

// local returns the local time of the user's country.
func (s said) local() time.Time {
	hours := map[string]int{"": 1, "Austria": 1, "Germany": 1, "France": 1, "United States": -6, "Japan": 9}[s.Country]
	return s.Created.Add(time.Duration(hours) * time.Hour)
}

// twelveWeeks returns what a company of 200 people said.
var twelveWeeks = sync.OnceValue(func() []said {
	people := graphtest.Company(1, 200)
	workforce := graphtest.NewWorkforce(1, people, graphtest.WorkforceSettings{TenantID: tenantID})
	return parseSaid(people, workforce.History(workEnd.Add(-workPeriod), workEnd))
})

func parseSaid(people []graphtest.Person, interactions []graphtest.Interaction) []said {
	byID := map[string]graphtest.Person{}
	for _, p := range people {
		byID[p.ID] = p
	}
	all := make([]said, len(interactions))
	for n, i := range interactions {
		if err := json.Unmarshal(i.JSON, &all[n]); err != nil {
			panic(err)
		}
		all[n].Interaction, all[n].Person = i, byID[i.UserID]
	}
	return all
}

// prompts returns the prompts that the condition selects.
func prompts(selected func(said) bool) []said {
	var found []said
	for _, s := range twelveWeeks() {
		if s.prompt() && selected(s) {
			found = append(found, s)
		}
	}
	return found
}

func anyPrompt(said) bool { return true }

func TestWorkforce_SameSeedGivesSameInteractions(t *testing.T) {
	t.Parallel()
	of := func(seed uint64) (all []graphtest.Interaction) {
		w := graphtest.NewWorkforce(seed, graphtest.Company(3, 40), graphtest.WorkforceSettings{TenantID: tenantID})
		all = w.History(workEnd.AddDate(0, 0, -14), workEnd)
		for n := range 50 {
			all = append(all, w.Next(workEnd.Add(time.Duration(n)*time.Second))...)
		}
		return all
	}
	first, second := of(1), of(1)
	assert.Equal(t, first, second)
	assert.NotEqual(t, first, of(2))
}

func TestWorkforce_MakesTensOfThousandsOfInteractions(t *testing.T) {
	t.Parallel()
	assert.Greater(t, len(twelveWeeks()), 30_000)
	assert.Less(t, len(twelveWeeks()), 70_000)
}

func TestWorkforce_HistoryIsSortedAndInsideItsBounds(t *testing.T) {
	t.Parallel()
	all := twelveWeeks()
	seen := map[string]bool{}
	for n, s := range all {
		require.False(t, n > 0 && s.Created.Before(all[n-1].Created), "in order of creation")
		require.False(t, seen[s.SessionID+s.ID], "ids are unique within a session")
		seen[s.SessionID+s.ID] = true
	}
	assert.False(t, all[0].Created.Before(workEnd.Add(-workPeriod)))
	assert.True(t, all[len(all)-1].Created.Before(workEnd))
	assert.Less(t, workEnd.Sub(all[len(all)-1].Created), time.Hour, "it reaches to the end")
}

func TestWorkforce_UnlicensedPeopleNeverConverse(t *testing.T) {
	t.Parallel()
	people := graphtest.Company(1, 200)
	w := graphtest.NewWorkforce(1, people, graphtest.WorkforceSettings{})
	all := twelveWeeks()
	for n := range 1000 {
		all = append(all, parseSaid(people, w.Next(workEnd.Add(time.Duration(n)*time.Minute)))...)
	}
	for _, s := range all {
		require.True(t, s.Licensed, "%s", s.UserID)
	}
}

func TestWorkforce_NobodyWithoutLicensedPeople(t *testing.T) {
	t.Parallel()
	w := graphtest.NewWorkforce(1, graphtest.Company(1, 1), graphtest.WorkforceSettings{})
	assert.Empty(t, w.Next(workEnd))
	assert.Empty(t, w.History(workEnd.Add(-workPeriod), workEnd))
}

func TestWorkforce_WeekendsAreQuiet(t *testing.T) {
	t.Parallel()
	weekend := prompts(func(s said) bool {
		day := s.local().Weekday()
		return day == time.Saturday || day == time.Sunday
	})
	all := prompts(anyPrompt)
	assert.NotEmpty(t, weekend)
	assert.Less(t, float64(len(weekend))/2, 0.05*float64(len(all)-len(weekend))/5, "on a day")
}

func TestWorkforce_HolidaysAreQuiet(t *testing.T) {
	t.Parallel()
	for country, date := range map[string]string{"Germany": "2025-10-03", "France": "2025-11-11", "Japan": "2025-11-03"} {
		holiday, err := time.Parse(time.DateOnly, date)
		require.NoError(t, err)
		onDay := func(day time.Time) int {
			return len(prompts(func(s said) bool {
				return s.Country == country && s.local().Format(time.DateOnly) == day.Format(time.DateOnly)
			}))
		}
		assert.Less(t, onDay(holiday), onDay(holiday.AddDate(0, 0, -7))/3, country)
	}
}

func TestWorkforce_WorksAtHoursOfItsCountry(t *testing.T) {
	t.Parallel()
	for _, country := range []string{"Austria", "Germany", "France", "United Kingdom", "United States", "Japan"} {
		hours := map[int]int{}
		for _, s := range prompts(func(s said) bool { return s.Country == country }) {
			hours[s.local().Hour()]++
		}
		require.Greater(t, hours[10], 50, country)
		for hour, n := range hours {
			assert.True(t, hour >= 7 && hour <= 21, "%d prompts in %s at %d", n, country, hour)
		}
		assert.Less(t, 2*hours[12], hours[10]+hours[11], "lunch in %s", country)
		assert.Less(t, hours[18], hours[10]/3, "the evening in %s", country)
	}
}

func TestWorkforce_AppsDifferByDepartment(t *testing.T) {
	t.Parallel()
	share := func(department, app string) float64 {
		of := prompts(func(s said) bool { return s.Department == department })
		n := 0
		for _, s := range of {
			if s.app() == app {
				n++
			}
		}
		return float64(n) / float64(len(of))
	}
	assert.Greater(t, share("Finance", "Excel"), 0.35)
	assert.Less(t, share("Engineering", "Excel"), 0.15)
	assert.Greater(t, share("Engineering", "Teams"), 0.2)
	assert.Greater(t, share("Sales", "Outlook"), 0.2)
	assert.Less(t, share("Engineering", "Outlook"), 0.1)
	used := map[string]bool{}
	for _, s := range prompts(anyPrompt) {
		used[s.AppClass] = true
	}
	assert.Len(t, used, 26, "each app is used now and then")
}

func TestWorkforce_CallsAgents(t *testing.T) {
	t.Parallel()
	calls, users := 0, map[string]map[string]bool{}
	for _, s := range prompts(anyPrompt) {
		for _, m := range s.Mentions {
			if m.Mentioned.Application == nil {
				continue
			}
			calls++
			name := m.Mentioned.Application.DisplayName
			require.True(t, strings.HasPrefix(s.Text, "@"+name+" "), s.Text)
			if users[name] == nil {
				users[name] = map[string]bool{}
			}
			users[name][s.Department] = true
		}
	}
	assert.InDelta(t, 0.05, float64(calls)/float64(len(prompts(anyPrompt))), 0.02)
	assert.ElementsMatch(t, []string{"HR Helper", "IT Service Desk", "Sales Coach", "Ledger Assistant", "Build Doctor"}, slices.Collect(maps.Keys(users)))
	assert.Equal(t, map[string]bool{"Sales": true}, users["Sales Coach"])
	assert.Greater(t, len(users["HR Helper"]), 5)
}

func TestWorkforce_LeavesPromptsUnanswered(t *testing.T) {
	t.Parallel()
	all, answers, empty := twelveWeeks(), 0, 0
	next := map[string]bool{} // whether what came last in a session is a prompt
	unanswered := 0
	for _, s := range all {
		if s.prompt() && next[s.SessionID] {
			unanswered++
		}
		next[s.SessionID] = s.prompt()
		if s.prompt() {
			continue
		}
		answers++
		if s.Text == "" {
			empty++
		}
	}
	for _, isPrompt := range next {
		if isPrompt {
			unanswered++
		}
	}
	assert.InDelta(t, 0.03, float64(unanswered)/float64(len(prompts(anyPrompt))), 0.01)
	assert.Positive(t, empty)
	assert.Less(t, float64(empty)/float64(answers), 0.05)
}

func TestWorkforce_WritesLanguageOfCountry(t *testing.T) {
	t.Parallel()
	japanese := func(s said) bool {
		return strings.ContainsFunc(s.Text, func(r rune) bool { return unicode.Is(unicode.Hiragana, r) })
	}
	inJapan := prompts(func(s said) bool { return s.Country == "Japan" })
	n := 0
	for _, s := range inJapan {
		require.Equal(t, "ja-jp", s.Locale)
		if japanese(s) {
			n++
		}
	}
	assert.InDelta(t, 0.6, float64(n)/float64(len(inJapan)), 0.1)
	assert.Empty(t, prompts(func(s said) bool { return s.Country == "United Kingdom" && japanese(s) }))
}

func TestWorkforce_NextIsOfThoseAtWork(t *testing.T) {
	t.Parallel()
	conversed := map[string]bool{}
	for _, s := range twelveWeeks() {
		conversed[s.UserID] = true
	}
	people := graphtest.Company(1, 200)
	for name, c := range map[string]struct {
		at        time.Time
		countries []string
	}{
		"morning in Japan":     {time.Date(2025, 11, 25, 1, 0, 0, 0, time.UTC), []string{"Japan"}},
		"morning in Europe":    {time.Date(2025, 11, 25, 9, 0, 0, 0, time.UTC), []string{"", "Austria", "Germany", "France", "United Kingdom"}},
		"afternoon in America": {time.Date(2025, 11, 25, 21, 0, 0, 0, time.UTC), []string{"United States"}},
	} {
		w := graphtest.NewWorkforce(1, people, graphtest.WorkforceSettings{TenantID: tenantID})
		there := 0
		for range 500 {
			turn := parseSaid(people, w.Next(c.at))
			require.True(t, turn[0].prompt())
			require.True(t, conversed[turn[0].UserID], "who never begins is never next")
			age := c.at.Sub(turn[len(turn)-1].Created)
			require.True(t, age >= 0 && age < 10*time.Second, "created %s ago", age)
			if slices.Contains(c.countries, turn[0].Country) {
				there++
			}
		}
		assert.Greater(t, there, 400, name)
	}
}

// repeated returns the part of the prompts whose text is also that of one of the 200 before.
func repeated(texts []string) float64 {
	n := 0
	for i, text := range texts {
		if slices.Contains(texts[max(0, i-200):i], text) {
			n++
		}
	}
	return float64(n) / float64(len(texts))
}

func TestTexts_RarelyRepeat(t *testing.T) {
	t.Parallel()
	var ofWorkforce, ofTurns []string
	for _, s := range prompts(anyPrompt)[:4000] {
		ofWorkforce = append(ofWorkforce, s.Text)
	}
	for _, turn := range newTurnStream(1, 4000) {
		ofTurns = append(ofTurns, turn[0].Text)
	}
	assert.Less(t, repeated(ofWorkforce), 0.02)
	assert.Less(t, repeated(ofTurns), 0.02)
}
