// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/grafana/grafana-foundation-sdk/go/bargauge"
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	grafanastat "github.com/grafana/grafana-foundation-sdk/go/stat"
	grafanatable "github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

func writeGrafana(dir string) error {
	for _, b := range boards {
		made, err := newGrafanaBoard(b)
		if err != nil {
			return err
		}
		if err := writeJSON(dir, "grafana/"+b.name+".json", made); err != nil {
			return err
		}
	}
	return nil
}

func newGrafanaBoard(b board) (grafanaDashboard, error) {
	made := newDashboard(b.name, b.title, b.description, b.from, "prometheus")
	for _, r := range b.rows {
		made.WithRow(dashboard.NewRowBuilder(r.title))
		for _, p := range r.panels {
			made.WithPanel(newGrafanaPanel(p))
		}
	}
	return made.Build()
}

// Every Grafana imports this format. That which the SDK prefers, of dashboardv2, is imported by new ones alone.
type (
	grafanaDashboard = dashboard.Dashboard        //nolint:staticcheck // see above
	grafanaBuilder   = dashboard.DashboardBuilder //nolint:staticcheck // see above
)

// newDashboard returns an empty dashboard with a variable for the data source of a type.
func newDashboard(name, title, description, from, dataSource string) *grafanaBuilder {
	return dashboard.NewDashboardBuilder(title). //nolint:staticcheck // see grafanaBuilder
							Uid("copilot-"+name).Description(description).Tags([]string{"copilot"}).
							Time(from, "now").Timezone("browser").Readonly().
							WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type(dataSource))
}

func dataSourceRef(kind string) common.DataSourceRef {
	return common.DataSourceRef{Type: new(kind), Uid: new("${datasource}")}
}

func newGrafanaPanel(p panel) cog.Builder[dashboard.Panel] {
	switch p.kind {
	case stat:
		return described(grafanastat.NewPanelBuilder(), p, 5).ColorMode(common.BigValueColorModeValue)
	case bars:
		return described(bargauge.NewPanelBuilder(), p, 9).Orientation(common.VizOrientationHorizontal)
	case table:
		return described(grafanatable.NewPanelBuilder(), p, 9).Transformations(joinColumns(p.targets)).
			Footer(common.NewTableFooterOptionsBuilder().Show(false))
	default:
		style := common.GraphThresholdsStyleModeOff
		if len(p.marks) > 0 {
			style = common.GraphThresholdsStyleModeLine
		}
		return described(timeseries.NewPanelBuilder(), p, 9).
			ThresholdsStyle(common.NewGraphThresholdsStyleConfigBuilder().Mode(style)).
			Legend(common.NewVizLegendOptionsBuilder().ShowLegend(true).
				DisplayMode(common.LegendDisplayModeList).Placement(common.LegendPlacementBottom).Calcs([]string{})).
			Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending))
	}
}

// panelBuilder is what the builders of all kinds of panels have in common.
type panelBuilder[B any] interface {
	Title(title string) B
	Description(description string) B
	Datasource(source common.DataSourceRef) B
	Height(h uint32) B
	Span(w uint32) B
	Unit(unit string) B
	Thresholds(thresholds cog.Builder[dashboard.ThresholdsConfig]) B
	WithTarget(target cog.Builder[variants.Dataquery]) B
}

// described sets what does not depend on the kind of a panel.
func described[B panelBuilder[B]](builder B, p panel, height uint32) B {
	builder = builder.Title(p.title).Description(p.definition).Datasource(dataSourceRef("prometheus")).
		Height(height).Span(uint32(2 * p.width)).Unit(grafanaUnit(p.unit)).Thresholds(thresholds(p.marks)) //nolint:gosec // 12 at most
	for i, t := range p.targets {
		builder = builder.WithTarget(newQuery(t, refID(i), p.kind))
	}
	return builder
}

func newQuery(t target, id string, k kind) *prometheus.DataqueryBuilder {
	query := prometheus.NewDataqueryBuilder().Expr(t.query).LegendFormat(t.legend).RefId(id).EditorMode(prometheus.QueryEditorModeCode)
	switch k {
	case series:
		return query.Range()
	case table:
		return query.Instant().Format(prometheus.PromQueryFormatTable)
	default:
		return query.Instant()
	}
}

// refID returns A for the first target, B for the second, and C for the third. No panel has more.
func refID(i int) string { return "ABC"[i : i+1] }

// thresholds are green below the first mark.
func thresholds(marks []mark) *dashboard.ThresholdsConfigBuilder {
	steps := []dashboard.Threshold{{Color: "green"}}
	for _, m := range marks {
		steps = append(steps, dashboard.Threshold{Value: &m.value, Color: m.color})
	}
	return dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).Steps(steps)
}

// joinColumns makes the results of several queries one table, with a column for each.
func joinColumns(targets []target) []dashboard.DataTransformerConfig {
	names := map[string]string{}
	for i, t := range targets {
		names["Value #"+refID(i)] = t.legend
	}
	return []dashboard.DataTransformerConfig{
		{Id: "merge", Options: map[string]any{}},
		{Id: "organize", Options: map[string]any{"excludeByName": map[string]bool{"Time": true}, "renameByName": names}},
	}
}

// grafanaUnit is an id of Grafana's units.
func grafanaUnit(u unit) string {
	switch u {
	case percent:
		return "percent"
	case seconds:
		return "s"
	default:
		return "short"
	}
}
