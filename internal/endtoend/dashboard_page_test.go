// SPDX-License-Identifier: Apache-2.0

//go:build unix

package endtoend_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// dashboard is a custom dashboard of vmui, as far as a test needs it:
// https://github.com/VictoriaMetrics/VictoriaMetrics/tree/v1.151.0/app/vmui#predefined-dashboards
type dashboard struct {
	Title string `json:"title"`
	Rows  []struct {
		Panels []dashboardPanel `json:"panels"`
	} `json:"rows"`
}

type dashboardPanel struct {
	Title string   `json:"title"`
	Expr  []string `json:"expr"`
	Alias []string `json:"alias"` // of each expression
}

func readDashboard(t *testing.T, file string) (d dashboard) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &d))
	return d
}

// panels returns all panels, from the top.
func (d dashboard) panels() (all []dashboardPanel) {
	for _, row := range d.Rows {
		all = append(all, row.Panels...)
	}
	return all
}

// marks returns the names of the constant lines of a panel, which are there without any data.
func (p dashboardPanel) marks() (names []string) {
	for i, expr := range p.Expr {
		if _, err := strconv.ParseFloat(expr, 64); err == nil {
			names = append(names, p.Alias[i])
		}
	}
	return names
}

// shownPanel is a panel as vmui shows it.
type shownPanel struct {
	Title string
	// Loading is whether one of its queries has no answer yet, Message an error or a warning.
	Loading bool
	Message string
	Series  []shownSeries
}

// shownSeries is a line of a plot: its name in the legend, and how many columns of the plot, in pixels, have a point in its color.
type shownSeries struct {
	Name    string
	Columns int
}

// complete is whether all its queries have an answer and its longest line takes some columns at least.
func (s *shownPanel) complete(p dashboardPanel, columns int) bool {
	return s != nil && !s.Loading && s.columns(p) >= columns
}

// columns returns the columns of the longest line, constant ones aside.
func (s *shownPanel) columns(p dashboardPanel) (most int) {
	for _, series := range s.Series {
		if !slices.Contains(p.marks(), series.Name) {
			most = max(most, series.Columns)
		}
	}
	return most
}

// answersScript records the queries that have an answer: vmui shows an empty plot already before it sends them.
const answersScript = `(() => {
	const send = window.fetch;
	window.answeredQueries = new Set();
	window.fetch = async (...request) => {
		const response = await send(...request);
		if (request[1]?.body instanceof URLSearchParams) window.answeredQueries.add(request[1].body.get("query"));
		return response;
	};
})()`

// panelScript scrolls to a panel by its number, because vmui loads what is in sight, and returns it, null if there is none. A point that is
// blended with the transparent background keeps its color.
const panelScript = `((number, queries) => {
	const panel = document.querySelectorAll(".vm-predefined-panel")[number];
	if (panel === undefined) return null;
	panel.scrollIntoView({block: "center"});
	const series = [...panel.querySelectorAll(".vm-legend-item")].map(item => ({
		name: item.querySelector(".vm-legend-item-info__label").innerText,
		color: getComputedStyle(item.querySelector(".vm-legend-item__marker")).backgroundColor.match(/\d+/g).map(Number),
		columns: new Set(),
	}));
	const canvas = panel.querySelector("canvas");
	if (series.length > 0 && canvas?.width && canvas.height) {
		const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
		for (let i = 0; i < pixels.length; i += 4) {
			if (pixels[i + 3] < 60) continue;
			for (const {color, columns} of series) {
				if (color.every((value, k) => Math.abs(value - pixels[i + k]) < 16)) columns.add(i / 4 % canvas.width);
			}
		}
	}
	return {
		title: panel.querySelector(".vm-predefined-panel-header__title").innerText,
		loading: !queries.every(query => window.answeredQueries.has(query)) ||
			panel.querySelector(".vm-spinner") !== null || panel.querySelector(".vm-graph-view") === null,
		message: [...panel.querySelectorAll(".vm-alert")].map(alert => alert.innerText).join("\n"),
		series: series.map(({name, columns}) => ({name, columns: columns.size})),
	};
})`

// dashboardPage is a page of vmui with a dashboard.
type dashboardPage struct {
	*page
	address, title string
}

// maxLoads is how many times a dashboard is loaded until a panel shows enough.
const maxLoads = 4

// openDashboard opens a dashboard of vmui with all its rows, over a period by the name of vmui such as last_90_days.
func openDashboard(t *testing.T, b *browser, metrics, title, period string) *dashboardPage {
	t.Helper()
	p := &dashboardPage{
		page: b.open(t, "about:blank", 1400, 900),
		// vmui takes the name of a period only where there is a range too.
		address: "http://" + metrics + "/vmui/#/dashboards?g0.range_input=1h&g0.relative_time=" + period,
		title:   title,
	}
	p.call(t, "Page.enable", nil, nil)
	p.call(t, "Page.addScriptToEvaluateOnNewDocument", parameters{"source": answersScript}, nil)
	p.load(t)
	return p
}

// load loads the dashboard, also if the page shows it already.
func (p *dashboardPage) load(t *testing.T) {
	t.Helper()
	p.visit(t, "about:blank") // from where the address of the dashboard is another document
	p.visit(t, p.address)
	p.await(t, fmt.Sprintf(`(() => {
		const tab = [...document.querySelectorAll(".vm-predefined-panels-tabs__tab")].find(tab => tab.textContent === %q);
		tab?.click();
		return tab !== undefined;
	})()`, p.title))
	p.await(t, fmt.Sprintf(`(() => {
		const closed = document.querySelectorAll(".vm-predefined-dashboard > .vm-accordion-header:not(.vm-accordion-header_open)");
		closed.forEach(header => header.click());
		return document.querySelector(".vm-predefined-panels-tabs__tab_active")?.textContent === %q && closed.length === 0;
	})()`, p.title))
}

// awaitPanel waits until a panel has its data and its longest line takes some columns at least, and returns it. vmui does not ask for newer
// data by itself, therefore the dashboard is loaded again a few times.
func (p *dashboardPage) awaitPanel(t *testing.T, number int, want dashboardPanel, columns int) *shownPanel {
	t.Helper()
	queries, err := json.Marshal(want.Expr)
	require.NoError(t, err)
	script := fmt.Sprintf("%s(%d, %s)", panelScript, number, queries)
	complete := func(shown *shownPanel) bool { return shown.complete(want, columns) }
	shown := poll(t, p.page, browserTimeout/maxLoads, script, complete)
	for loads := 1; loads < maxLoads && !complete(shown); loads++ {
		p.load(t)
		shown = poll(t, p.page, browserTimeout/maxLoads, script, complete)
	}
	require.NotNil(t, shown, want.Title)
	assert.Equal(t, want.Title, shown.Title)
	assert.False(t, shown.Loading, "%s waits for data", want.Title)
	assert.GreaterOrEqual(t, shown.columns(want), columns, "%s: %v", want.Title, shown.Series)
	return shown
}

// The checks of panels are worth something only if they tell an empty or failed panel from one with a plot.
func TestDashboardPage_TellsEmptyAndFailedPanels(t *testing.T) {
	skipIfShort(t, "it starts a database and a browser")
	t.Parallel()
	folder := t.TempDir()
	text := `{"title": %q, "rows": [
		{"title": "first", "panels": [
			{"title": "a plot", "expr": ["time()", "5"], "alias": ["now", "mark"], "width": 6},
			{"title": "an empty plot", "expr": ["absent_metric", "5"], "alias": ["absent", "mark"], "width": 6}
		]},
		{"title": "second", "panels": [
			{"title": "another plot", "expr": ["vector(1)"], "alias": ["one"], "width": 6},
			{"title": "a failed plot", "expr": ["sum("], "alias": ["failed"], "width": 6}
		]}
	]}`
	for _, title := range []string{"one", "two"} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, title+".json"), fmt.Appendf(nil, text, title), 0o600))
	}
	wanted := readDashboard(t, filepath.Join(folder, "two.json")).panels()
	metrics := startMetricsDatabase(t, "-vmui.customDashboardsPath="+folder)
	p := openDashboard(t, startBrowser(t), metrics, "two", "last_90_days")
	for number, columns := range []int{300, 0, 300, 0} {
		shown := p.awaitPanel(t, number, wanted[number], columns)
		if columns == 0 {
			assert.Zero(t, shown.columns(wanted[number]), shown.Title)
		}
	}
	storeScreenshot(t, p.page, "empty-and-failed-panels")
	isQueryError := func(text string) bool { return strings.Contains(text, "Fetch query error") }
	require.Eventually(t, func() bool { return slices.ContainsFunc(p.errors(), isQueryError) }, waitTimeout, 50*time.Millisecond)
	for _, text := range p.errors() {
		assert.True(t, isQueryError(text) || strings.Contains(text, "/api/v1/query_range"), text)
	}
}
