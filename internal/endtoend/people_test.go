// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// companyHarness is a tenant of which it is known who prompted when, and a collector that sends to databases.
type companyHarness struct {
	*collectorHarness
	*databases
	people []graphtest.Person
	// begun is the time to which the ages of prompts refer. Times are whole seconds.
	begun time.Time
	// conversations is the number of conversations so far.
	conversations int
}

// use is a prompt of a user in an app.
type use struct {
	app string
	// age is how long before the start of the test it was; 0 is a live one, after the subscription.
	age time.Duration
}

const (
	live    = 0
	day     = 24 * time.Hour
	idleFor = 7 * day
)

const companyConfig = `
receivers:
  m365_copilot:
    history: {lookback: 336h}
    identity:
      directory: true
      inventory: 10s
    metrics: {interval: 1s}
`

// newCompanyHarness creates a company of 60 users, the databases, and a collector that is not running yet.
func newCompanyHarness(t *testing.T, flags ...string) *companyHarness {
	t.Helper()
	d := newDatabases(t, flags...)
	c := &companyHarness{
		databases: d, people: graphtest.Company(1, 60), begun: time.Now().Truncate(time.Second),
		collectorHarness: newCollectorHarness(t, companyConfig+d.exporters(), func(settings *graphtest.Settings) {
			settings.Roles = []string{graphtest.RoleReadAll, graphtest.RoleUsersReadAll}
		}),
	}
	c.emulator.SetDirectory(c.people...)
	var unlicensed []string
	for _, p := range c.people {
		if !p.Licensed {
			unlicensed = append(unlicensed, p.ID)
		}
	}
	c.emulator.SetUnlicensed(unlicensed...)
	return c
}

// runWith lets each user prompt: before the collector starts, which finds that in the history alone, or live.
func (c *companyHarness) runWith(t *testing.T, uses func(n int) []use) *process {
	t.Helper()
	var current []graphtest.Interaction
	for n, person := range c.people {
		for _, u := range uses(n) {
			if u.age == live {
				current = append(current, c.prompt(t, person, u))
				continue
			}
			require.NoError(t, c.emulator.AddHistory(c.prompt(t, person, u)))
		}
	}
	collector := c.run(t)
	c.awaitSubscribed(t)
	// The import begins once the directory is known.
	require.NoError(t, c.emulator.WaitRequests(deadline(t), graphtest.OpHistory, 1))
	c.publish(t, current...)
	return collector
}

func (c *companyHarness) prompt(t *testing.T, person graphtest.Person, u use) graphtest.Interaction {
	t.Helper()
	c.conversations++
	return promptIn(t, c.conversations, person.ID, c.begun.Add(-u.age), "IPM.SkypeTeams.Message.Copilot."+u.app)
}

// seen reports whether the receiver can know of a prompt: the history of a user without license can't be read.
func (u use) seen(p graphtest.Person) bool { return u.age == live || p.Licensed }

// inventoryUses is when users prompted, in turn, for the inventory.
var inventoryUses = [][]use{
	{},
	{{"Word", 9 * day}},
	{{"Word", 13 * day}, {"Word", 12 * day}, {"Teams", 8 * day}},
	{{"Word", 12 * day}, {"Word", 6 * day}},
	{{"Word", idleFor + time.Hour}},
	{{"Word", idleFor - time.Hour}, {"Word", idleFor - time.Hour + time.Second}},
	{{"Word", 10 * day}, {"Word", live}},
	{{"Word", live}},
}

func usesForInventory(n int) []use { return inventoryUses[n%len(inventoryUses)] }

// last returns the age of the last prompt, false if there was none.
func last(uses []use) (age time.Duration, found bool) {
	if len(uses) == 0 {
		return 0, false
	}
	return slices.MinFunc(uses, func(a, b use) int { return int(a.age - b.age) }).age, true
}

// latestInventory selects the last event of each user.
const latestInventory = `{event_name="microsoft.copilot.user"} _time:2d
| last 1 by (_time) partition by (user.id)
`

// documentedQueries returns the code blocks of a page that begin with a text.
func documentedQueries(t *testing.T, page, begin string) (queries []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, page))
	require.NoError(t, err)
	for n, block := range strings.Split(string(text), "\n```") {
		_, block, _ = strings.Cut(block, "\n") // the language
		if n%2 == 1 && strings.HasPrefix(block, begin) {
			queries = append(queries, block)
		}
	}
	return queries
}

// idleQuery returns the documented query, which asks which licensed users of Sales did not prompt in the last 7 days, for another
// department.
func idleQuery(t *testing.T, department string) string {
	t.Helper()
	query := documentedQueries(t, "docs/people.md", "_time:")[0]
	require.Contains(t, query, `department:="Sales"`)
	return strings.ReplaceAll(query, `"Sales"`, strconv.Quote(department))
}

// "Which licensed users of this department did not prompt in the last 7 days?" has the same answer from the inventory in a log
// database as from the tenant.
func TestInventory_TellsWhoDidNotPrompt(t *testing.T) {
	skipIfShort(t, "it starts databases")
	t.Parallel()
	c := newCompanyHarness(t)
	want := map[string][]string{}
	for n, person := range c.people {
		want[person.Department] = append(want[person.Department], []string{}...)
		age, found := last(usesForInventory(n))
		if person.Licensed && (!found || age > idleFor) {
			want[person.Department] = append(want[person.Department], person.ID)
		}
	}
	for _, ids := range want {
		slices.Sort(ids)
	}
	c.runWith(t, usesForInventory)
	awaitEqual(t, want, func() map[string][]string {
		got := map[string][]string{}
		for department := range want {
			got[department] = append(got[department], []string{}...)
			for _, fields := range c.queryLogs(t, idleQuery(t, department)) {
				got[department] = append(got[department], fields["user.id"])
			}
			slices.Sort(got[department])
		}
		return got
	}, 2*time.Minute)
}

// The inventory has one entry for each licensed user alone, with the properties of the directory.
func TestInventory_HasPropertiesAndActivityOfUsers(t *testing.T) {
	skipIfShort(t, "it starts databases")
	t.Parallel()
	c := newCompanyHarness(t)
	want := map[string]map[string]string{}
	for n, person := range c.people {
		if person.Licensed {
			want[person.ID] = c.wantedEntry(person, usesForInventory(n))
		}
	}
	c.runWith(t, usesForInventory)
	awaitEqual(t, want, func() map[string]map[string]string {
		got := map[string]map[string]string{}
		for _, fields := range c.queryLogs(t, latestInventory) {
			got[fields["user.id"]] = entryOf(t, fields)
		}
		return got
	}, 2*time.Minute)
}

// wantedEntry returns the entry of a user, with the default properties.
func (c *companyHarness) wantedEntry(p graphtest.Person, uses []use) map[string]string {
	days := map[string]bool{}
	for _, u := range uses {
		days[c.begun.Add(-u.age).UTC().Format(time.DateOnly)] = true
	}
	entry := map[string]string{
		"_msg":    fmt.Sprintf("licensed user, active on %d of 28 days", len(days)),
		"user.id": p.ID, "user.name": p.UserPrincipalName, "user.full_name": p.DisplayName,
		"microsoft.user.department": p.Department, "microsoft.user.office_location": p.OfficeLocation, "microsoft.user.country": p.Country,
		"microsoft.user.job_title": p.JobTitle, "microsoft.user.company": p.CompanyName, "microsoft.copilot.user.licensed": "true",
		"microsoft.copilot.user.days_active": strconv.Itoa(len(days)),
	}
	if age, found := last(uses); found {
		entry["microsoft.copilot.user.last_active"] = c.begun.Add(-age).UTC().Format(time.RFC3339)
	}
	maps.DeleteFunc(entry, func(_, value string) bool { return value == "" })
	return entry
}

// entryOf returns the same from VictoriaLogs.
func entryOf(t *testing.T, fields map[string]string) map[string]string {
	t.Helper()
	if text, found := fields["microsoft.copilot.user.last_active"]; found {
		at, err := time.Parse(time.RFC3339, text)
		require.NoError(t, err)
		fields["microsoft.copilot.user.last_active"] = at.UTC().Format(time.RFC3339)
	}
	for _, name := range []string{
		"_time", "_stream", "_stream_id", "event_name", "log.record.uid", "microsoft.tenant.id", "scope.name", "scope.version", "service.name",
		"severity_number", "severity_text",
	} {
		require.NotEmpty(t, fields[name], name)
		delete(fields, name)
	}
	return fields
}

// metricUses is when users prompted in which app, in turn, for the metrics.
var metricUses = [][]use{
	{},
	{{"Word", 2 * time.Hour}, {"Word", 5 * time.Hour}},
	{{"Word", 2 * time.Hour}, {"Teams", 20 * time.Hour}},
	{{"Teams", 26 * time.Hour}, {"Excel", 30 * time.Hour}},
	{{"BizChat", live}},
	{{"Excel", 3 * day}, {"Excel", live}, {"Excel", live}},
	{{"Word", live}, {"Teams", live}},
}

func usesForMetrics(n int) []use { return metricUses[n%len(metricUses)] }

// active returns the distinct users of the last 24 h by app, and those of all apps with the app "".
func (c *companyHarness) active(uses func(n int) []use) map[string]float64 {
	users := map[string]map[string]bool{}
	for n, person := range c.people {
		for _, u := range uses(n) {
			if u.age > day || !u.seen(person) {
				continue
			}
			for _, app := range []string{"", u.app} {
				if users[app] == nil {
					users[app] = map[string]bool{}
				}
				users[app][person.ID] = true
			}
		}
	}
	active := map[string]float64{}
	for app, ids := range users {
		active[app] = float64(len(ids))
	}
	return active
}

// activeQueries ask for the distinct users of the last 24 h, by app and of all apps. Replicas are not to be summed.
const (
	activeByAppQuery = `max(microsoft.copilot.app.user.active) by (microsoft.copilot.app.name)`
	activeQuery      = `max(microsoft.copilot.user.active)`
)

func (c *companyHarness) queryActive(t *testing.T) map[string]float64 {
	t.Helper()
	got := c.queryMetrics(t, "microsoft.copilot.app.name", activeByAppQuery)
	maps.Copy(got, c.queryMetrics(t, "", activeQuery))
	return got
}

// "How many users are active, by app?" has the same answer from a metrics database as from the tenant, across a restart too.
func TestActiveUsers_EqualTenantAcrossRestart(t *testing.T) {
	skipIfShort(t, "it starts databases")
	t.Parallel()
	c := newCompanyHarness(t)
	collector := c.runWith(t, usesForMetrics)
	awaitEqual(t, c.active(usesForMetrics), func() map[string]float64 { return c.queryActive(t) }, 2*time.Minute)
	awaitEqual(t, map[string]float64{"": 45}, func() map[string]float64 {
		return c.queryMetrics(t, "", `max(microsoft.copilot.user.licensed)`)
	}, waitTimeout)

	collector.terminate(t)
	c.run(t)
	c.publish(t, c.prompt(t, c.people[0], use{"Word", live})) // who has not prompted so far
	awaitEqual(t, c.active(func(n int) []use {
		if n == 0 {
			return []use{{"Word", live}}
		}
		return usesForMetrics(n)
	}), func() map[string]float64 { return c.queryActive(t) }, time.Minute)
}

// The queries of the documentation that no other test runs have the right answers. Their metrics have the names of Prometheus.
func TestDocumentedQueries_Answer(t *testing.T) {
	skipIfShort(t, "it starts databases")
	t.Parallel()
	c := newCompanyHarness(t, "-opentelemetry.usePrometheusNaming")
	c.configure(t, strings.Replace(companyConfig, "directory: true", `directory: true
      directory_properties: [userPrincipalName, department, onPremisesSecurityIdentifier]`, 1)+c.exporters())
	hosts := map[string]string{}
	for n, person := range c.people {
		if sid := person.OnPremisesSecurityIdentifier; sid != "" && person.Licensed { // the first record of another one has no SID
			hosts[sid] = "PC-" + strconv.Itoa(n)
			c.insertLogon(t, sid, hosts[sid])
		}
	}
	c.runWith(t, usesForMetrics)

	licensed, unused, prompts := map[string]int{}, map[string]int{}, map[string]string{}
	for n, person := range c.people {
		uses := usesForMetrics(n)
		if person.Licensed {
			licensed[person.Department]++
			if len(uses) == 0 {
				unused[person.Department]++
			}
		}
		for _, u := range uses {
			if host := hosts[person.OnPremisesSecurityIdentifier]; host != "" && u.age < day && u.seen(person) {
				prompts[host+" "+u.app] += "1"
			}
		}
	}
	count := func(counts map[string]string) map[string]string {
		for key, ones := range counts {
			counts[key] = strconv.Itoa(len(ones))
		}
		return counts
	}
	wanted := map[string]string{}
	for department, n := range licensed {
		wanted[department] = fmt.Sprintf("%d licensed, %d unused", n, unused[department])
	}
	awaitEqual(t, wanted, func() map[string]string {
		got := map[string]string{}
		for _, fields := range c.queryLogs(t, documentedQueries(t, "docs/people.md", "_time:")[1]) {
			got[fields["microsoft.user.department"]] = fields["licensed"] + " licensed, " + fields["unused"] + " unused"
		}
		return got
	}, 2*time.Minute)
	awaitEqual(t, count(prompts), func() map[string]string {
		got := map[string]string{}
		for _, fields := range c.queryLogs(t, documentedQueries(t, "docs/hybrid.md", "_time:")[0]) {
			got[strings.Trim(fields["hosts"], `["]`)+" "+fields["microsoft.copilot.app.name"]] = fields["prompts"]
		}
		return got
	}, waitTimeout)

	shares := c.active(usesForMetrics)
	for app := range shares {
		shares[app] /= 45 // licensed users
	}
	queries := documentedQueries(t, "docs/people.md", "max")
	awaitEqual(t, shares, func() map[string]float64 {
		got := c.queryMetrics(t, "microsoft_copilot_app_name", queries[1])
		maps.Copy(got, c.queryMetrics(t, "", queries[0]))
		return got
	}, waitTimeout)
}

// insertLogon adds a logon to a computer to the logs, as Winlogbeat names its fields.
func (d *databases) insertLogon(t *testing.T, sid, host string) {
	t.Helper()
	event, err := json.Marshal(map[string]string{
		"_msg": "An account was successfully logged on.", "_time": time.Now().UTC().Format(time.RFC3339), "host.name": host,
		"winlog.event_id": "4624", "winlog.event_data.TargetUserSid": sid,
	})
	require.NoError(t, err)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+d.logs+"/insert/jsonline?_stream_fields=host.name",
		bytes.NewReader(event))
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
}
