// SPDX-License-Identifier: Apache-2.0

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
	// Loading is whether it waits for data, Message an error or a warning.
	Loading bool
	Message string
	Series  []shownSeries
}

// shownSeries is a line of a plot: its name in the legend, and how many columns of the plot, in pixels, have a point in its color.
type shownSeries struct {
	Name    string
	Columns int
}

// columns returns the columns of the longest line, constant ones aside.
func (s shownPanel) columns(p dashboardPanel) (most int) {
	for _, series := range s.Series {
		if !slices.Contains(p.marks(), series.Name) {
			most = max(most, series.Columns)
		}
	}
	return most
}

// panelScript scrolls to a panel by its number, because vmui loads what is in sight, and returns it, null if there is none. A point that is
// blended with the transparent background keeps its color.
const panelScript = `(number => {
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
		loading: panel.querySelector(".vm-spinner") !== null || panel.querySelector(".vm-graph-view") === null,
		message: [...panel.querySelectorAll(".vm-alert")].map(alert => alert.innerText).join("\n"),
		series: series.map(({name, columns}) => ({name, columns: columns.size})),
	};
})`

// openDashboard opens a dashboard of vmui with all its rows, over a time by the name of vmui such as last_90_days.
func openDashboard(t *testing.T, b *browser, metrics, title, time string) *page {
	t.Helper()
	// vmui takes the name of a time only where there is a range too.
	p := b.open(t, "http://"+metrics+"/vmui/#/dashboards?g0.range_input=1h&g0.relative_time="+time, 1400, 900)
	p.await(t, fmt.Sprintf(`(() => {
		const tab = [...document.querySelectorAll(".vm-predefined-panels-tabs__tab")].find(tab => tab.textContent === %q);
		tab?.click();
		return tab !== undefined;
	})()`, title))
	p.await(t, fmt.Sprintf(`(() => {
		const closed = document.querySelectorAll(".vm-predefined-dashboard > .vm-accordion-header:not(.vm-accordion-header_open)");
		closed.forEach(header => header.click());
		return document.querySelector(".vm-predefined-panels-tabs__tab_active")?.textContent === %q && closed.length === 0;
	})()`, title))
	return p
}

// awaitPanel waits until a panel has its data, and a plot unless it may be empty, and returns it.
func awaitPanel(t *testing.T, p *page, number int, want dashboardPanel, mayBeEmpty bool) *shownPanel {
	t.Helper()
	shown := poll(t, p, fmt.Sprintf("%s(%d)", panelScript, number), func(shown *shownPanel) bool {
		return shown != nil && !shown.Loading && (mayBeEmpty || shown.columns(want) > 0)
	})
	require.NotNil(t, shown, want.Title)
	assert.Equal(t, want.Title, shown.Title)
	assert.False(t, shown.Loading, "%s waits for data", want.Title)
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
	for number, plotted := range []bool{true, false, true, false} {
		shown := awaitPanel(t, p, number, wanted[number], !plotted)
		if columns := shown.columns(wanted[number]); plotted {
			assert.Greater(t, columns, 300, shown.Title)
		} else {
			assert.Zero(t, columns, shown.Title)
		}
	}
	storeScreenshot(t, p, "empty-and-failed-panels")
	assert.Equal(t, 1, strings.Count(p.errors(), "Fetch query error"), p.errors())
}
