// SPDX-License-Identifier: Apache-2.0

package main

// board is a dashboard of metrics. It becomes one of vmui, and one of Grafana.
type board struct {
	name        string // of the files
	title       string
	description string
	from        string // how much is shown at first in Grafana, such as now-28d
	rows        []row
}

type row struct {
	title  string
	panels []panel
}

type panel struct {
	title      string
	definition string // what the numbers are, in Markdown
	unit       unit
	kind       kind
	width      int // of the 12 columns of a row
	targets    []target
	marks      []mark
}

// target is a query, with the legend of its series, in which {{label}} is the value of a label. In a table it is the name of a column.
type target struct {
	query, legend string
}

// mark is a value from which on a number is worth a look.
type mark struct {
	value float64
	label string // of its line in vmui
	color string // of Grafana, such as orange
}

// kind is how Grafana draws a panel. vmui draws each as lines over time.
type kind int

const (
	stat   kind = iota // the newest value as a number
	series             // lines over time
	bars               // the newest value of each series as a bar
	table              // the newest values, a row for each value of the label that all targets have, and a column for each target
)

// unit is what the values are counted in.
type unit int

const (
	count unit = iota
	users
	prompts
	interactions
	characters
	percent
	seconds
)

// boards are all dashboards of metrics.
var boards = []board{adoption, experience, trust}
