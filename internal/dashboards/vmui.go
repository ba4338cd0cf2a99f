// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strconv"
)

// vmuiBoard is a file in the directory of -vmui.customDashboardsPath:
// https://github.com/VictoriaMetrics/VictoriaMetrics/tree/master/app/vmui#configuration-options
type vmuiBoard struct {
	Title string    `json:"title"`
	Rows  []vmuiRow `json:"rows"`
}

type vmuiRow struct {
	Title  string      `json:"title"`
	Panels []vmuiPanel `json:"panels"`
}

type vmuiPanel struct {
	Title       string   `json:"title"`
	Description string   `json:"description"` // Markdown
	Unit        string   `json:"unit,omitempty"`
	Expr        []string `json:"expr"`
	Alias       []string `json:"alias"` // of each query
	ShowLegend  bool     `json:"showLegend"`
	Width       int      `json:"width"` // of 12 columns
}

func writeVMUI(dir string) error {
	for _, b := range boards {
		if err := writeJSON(dir, "vmui/"+b.name+".json", newVMUIBoard(b)); err != nil {
			return err
		}
	}
	return nil
}

func newVMUIBoard(b board) vmuiBoard {
	made := vmuiBoard{Title: b.title}
	for _, r := range b.rows {
		shown := vmuiRow{Title: r.title}
		panels := slices.Clone(r.panels)
		slices.SortStableFunc(panels, func(a, b panel) int { return rank(a) - rank(b) })
		for _, p := range panels {
			shown.Panels = append(shown.Panels, newVMUIPanel(p))
		}
		made.Rows = append(made.Rows, shown)
	}
	return made
}

// rank has what is meant to be seen over time come first in its row: vmui draws all panels over time.
func rank(p panel) int {
	if p.kind == series {
		return 0
	}
	return 1
}

// newVMUIPanel draws the marks of lines as lines, since vmui has no thresholds. A panel is legible from four columns on.
func newVMUIPanel(p panel) vmuiPanel {
	made := vmuiPanel{
		Title: p.title, Description: p.definition, Unit: vmuiUnit(p.unit), ShowLegend: true, Width: max(p.width, 4),
	}
	for _, t := range p.targets {
		made.Expr, made.Alias = append(made.Expr, t.query), append(made.Alias, t.legend)
	}
	if p.kind == series {
		for _, m := range p.marks {
			made.Expr, made.Alias = append(made.Expr, strconv.FormatFloat(m.value, 'f', -1, 64)), append(made.Alias, m.label)
		}
	}
	return made
}

// vmuiUnit is written after each value.
func vmuiUnit(u unit) string {
	return map[unit]string{percent: "%", seconds: "s", users: "users", prompts: "prompts", characters: "characters"}[u]
}
