// SPDX-License-Identifier: Apache-2.0

//go:build unix

package endtoend_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// demoVisit is a look at a dashboard of the demonstration.
type demoVisit struct {
	name string
	// dashboard is the name of the file, and time how long the page looks back, by the name of vmui.
	dashboard, time string
	// columns is how many pixels the longest line of each panel takes at least. Values of some weeks take fewer than those of 12.
	columns int
	// empty are the panels that may have nothing to show, with the reason.
	empty map[string]string
}

const (
	noInventory    = "the first inventory is that of the demonstration, which is too new for the steps of 90 days"
	noLoss         = "nothing is wrong in a demonstration without incident"
	noReconcileYet = "the first reconciliation is a minute and a half after the start"
)

// demoVisits begin with those of 12 weeks, which do not change while the demonstration sends what the others show.
var demoVisits = []demoVisit{
	{name: "adoption of 12 weeks", dashboard: "adoption", time: "last_90_days", columns: 40, empty: map[string]string{
		"Never used": noInventory, "Never used, share": noInventory, "Never used over time": noInventory,
		"Licenses by department": noInventory, "Licenses by country": noInventory,
		"Active rate by department": noInventory, "Active rate by country": noInventory,
	}},
	{name: "experience of 12 weeks", dashboard: "experience", time: "last_90_days", columns: 40},
	{name: "adoption now", dashboard: "adoption", time: "last_5_minutes", columns: 3},
	{name: "trust now", dashboard: "trust", time: "last_5_minutes", columns: 3, empty: map[string]string{
		"Given up": noLoss, "Rejected by reason": noLoss,
		"Reconciliation": noReconcileYet, "Recovered by reason": noReconcileYet, "Duplicates": noReconcileYet,
	}},
}

// manyLines are the panels of which vmui may draw 20 lines, and says so: of 24 hours, and of two lines for each of ten apps, which are not
// the same ten all the time.
var manyLines = []string{"Use by hour of the day", "Length of prompts", "Length of answers"}

var drawsTwenty = regexp.MustCompile(`^Showing 20 series out of 2[1-9] series`)

// It is not parallel, because a demonstration that starts takes all processors for some seconds.
func TestDemo_PagesShowPlotsAndRows(t *testing.T) {
	skipIfShort(t, "it starts databases and a browser")
	d := startDemo(t)
	b := startBrowser(t)
	for _, visit := range demoVisits {
		t.Run(visit.name, func(t *testing.T) { assertDashboard(t, b, d, visit) })
	}
	t.Run("log view", func(t *testing.T) { assertLogView(t, b, d) })
	t.Run("alerts", func(t *testing.T) { assertAlertsPage(t, b, d) })
}

func assertDashboard(t *testing.T, b *browser, d *demoHarness, want demoVisit) {
	t.Helper()
	board := readDashboard(t, filepath.Join(root, "examples", "dashboards", "vmui", want.dashboard+".json"))
	p := openDashboard(t, b, d.metrics, board.Title, want.time)
	defer p.close(t)
	for number, panel := range board.panels() {
		columns := want.columns
		if want.empty[panel.Title] != "" {
			columns = 0
		}
		shown := p.awaitPanel(t, number, panel, columns)
		if !slices.Contains(manyLines, panel.Title) || !drawsTwenty.MatchString(shown.Message) {
			assert.Empty(t, shown.Message, panel.Title)
		}
	}
	var count int
	p.evaluate(t, `document.querySelectorAll(".vm-predefined-panel").length`, &count)
	assert.Equal(t, len(board.panels()), count)
	p.scrollToTop(t)
	storeScreenshot(t, p.page, "demo-"+want.dashboard+"-"+want.time)
	assert.Empty(t, p.errors(), "vmui writes the errors of queries into the console")
	if want.dashboard == "adoption" && want.time == "last_90_days" {
		p.setHeight(t, 700)
		updatePicture(t, p.page, "adoption")
	}
}

// rowsScript returns the fields that the log view shows of each record.
const rowsScript = `[...document.querySelectorAll(".vm-group-logs-row-content__msg")].map(
	row => [...row.querySelectorAll(".vm-group-logs-row-content__sub-msg")].map(field => field.innerText))`

// lineWithoutText matches the body of a created interaction, if the text is not captured.
var lineWithoutText = regexp.MustCompile(`^(userPrompt|aiResponse) in [^,]+, \d+ characters$`)

func assertLogView(t *testing.T, b *browser, d *demoHarness) {
	t.Helper()
	p := b.open(t, d.printed(t, "Log view"), 1300, 860)
	defer p.close(t)
	rows := poll(t, p, browserTimeout, rowsScript, func(rows [][]string) bool { return len(rows) > 0 })
	p.await(t, `document.body.innerText.includes("Execute")`) // and not Cancel, while something is loading
	updatePicture(t, p, "logs")
	storeScreenshot(t, p, "demo-logs")
	require.NotEmpty(t, rows)
	for _, row := range rows {
		assert.Regexp(t, lineWithoutText, row[len(row)-1])
	}
	assert.Contains(t, p.text(t), "userPrompt in ")
	texts := companyTexts()
	require.NotEmpty(t, textsIn(strings.Join(texts[:100], "\n"), texts), "sentences that are there")
	assert.Empty(t, textsIn(p.source(t), texts), "sentences of conversations")
	assert.Empty(t, p.errors())
}

// companyTexts returns the texts of the company's conversations.
func companyTexts() (texts []string) {
	workforce := graphtest.NewWorkforce(1, graphtest.Company(1, 200), graphtest.WorkforceSettings{})
	now := time.Now()
	for _, each := range workforce.History(now.Add(-84*day), now) {
		texts = append(texts, each.Text)
	}
	return texts
}

// textsIn returns those sentences of texts that are in a page.
func textsIn(source string, texts []string) (found []string) {
	known := map[string]bool{}
	for _, text := range texts {
		for sentence := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(".?!\n", r) }) {
			if sentence = strings.TrimSpace(sentence); len(sentence) >= 20 && !known[sentence] {
				known[sentence] = true
				if strings.Contains(source, sentence) {
					found = append(found, sentence)
				}
			}
		}
	}
	return found
}

func assertAlertsPage(t *testing.T, b *browser, d *demoHarness) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "examples", "dashboards", "rules", "alerts.yaml"))
	require.NoError(t, err)
	var wanted []string
	for _, match := range regexp.MustCompile(`(?m)^\s*- alert: (\S+)$`).FindAllStringSubmatch(string(text), -1) {
		wanted = append(wanted, match[1])
	}
	require.NotEmpty(t, wanted)
	p := b.open(t, d.printed(t, "Alerts"), 1400, 2000)
	defer p.close(t)
	shown := poll(t, p, browserTimeout, `(() => {
		document.querySelectorAll(".vm-explore-alert-group > .vm-accordion-header:not(.vm-accordion-header_open)").forEach(header => header.click());
		return [...document.querySelectorAll(".vm-explore-alerts-rule .vm-explore-alerts-item-header__name")].map(name => name.innerText);
	})()`, func(names []string) bool { return len(names) >= len(wanted) })
	storeScreenshot(t, p, "demo-alerts")
	slices.Sort(shown)
	slices.Sort(wanted)
	assert.Equal(t, wanted, shown)
	assert.Empty(t, p.errors())
}

// printed returns the address that the demonstration has printed after a word.
func (d *demoHarness) printed(t *testing.T, word string) string {
	t.Helper()
	fields := strings.Fields(strings.TrimSpace(d.awaitLine(t, "  "+word+" ", waitTimeout))[len(word):])
	return fields[0]
}
