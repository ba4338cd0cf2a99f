// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
)

// Mark is the result of a check. A greater one is worse.
type Mark int

// The marks, from the best to the worst.
const (
	OK Mark = iota
	// Skip: not checked, for the reason that the check gives. It is no problem by itself.
	Skip
	// Warn: interactions arrive, but something is missing or is going to fail.
	Warn
	// Fail: interactions don't arrive.
	Fail
)

// String returns the mark in lower case.
func (m Mark) String() string { return [...]string{"ok", "skip", "warn", "fail"}[m] }

// MarshalText implements encoding.TextMarshaler.
func (m Mark) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// Check is one line of a report.
type Check struct {
	Mark Mark `json:"mark"`
	// Code and Hint are those of the failure, empty for OK and Skip.
	Code failure.Code `json:"code,omitempty"`
	// Found is what was found, on one line, without secrets and text of conversations.
	Found string `json:"found"`
	Hint  string `json:"hint,omitempty"`
}

// Group holds the checks of one subject.
type Group struct {
	Name   string
	Checks []Check
}

// Mark returns the mark of the worst check, OK for none.
func (g Group) Mark() Mark {
	worst := OK
	for _, c := range g.Checks {
		worst = max(worst, c.Mark)
	}
	return worst
}

// MarshalJSON implements json.Marshaler. It adds the mark.
func (g Group) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Name   string  `json:"name"`
		Mark   Mark    `json:"mark"`
		Checks []Check `json:"checks"`
	}{g.Name, g.Mark(), g.Checks})
}

// Instance holds the groups of one receiver.
type Instance struct {
	// ID is the component id, such as m365_copilot/emea. It is empty if the configuration can't be read.
	ID     string  `json:"id"`
	Groups []Group `json:"groups"`
}

// Report is the result of all checks.
type Report struct {
	Instances []Instance `json:"instances"`
}

// Mark returns the mark of the worst check.
func (r Report) Mark() Mark {
	worst := OK
	for _, i := range r.Instances {
		for _, g := range i.Groups {
			worst = max(worst, g.Mark())
		}
	}
	return worst
}

// count returns the number of checks with a mark.
func (r Report) count(m Mark) (n int) {
	for _, i := range r.Instances {
		for _, g := range i.Groups {
			for _, c := range g.Checks {
				if c.Mark == m {
					n++
				}
			}
		}
	}
	return n
}

// WriteText writes a line for each group, those of checks that are not well, or of all if verbose, and the outcome.
func (r Report) WriteText(w io.Writer, verbose bool) error {
	var b strings.Builder
	for n, i := range r.Instances {
		if len(r.Instances) > 1 {
			if n > 0 {
				b.WriteString("\n")
			}
			fmt.Fprintf(&b, "%s\n", i.ID)
		}
		for _, g := range i.Groups {
			g.write(&b, verbose)
		}
	}
	fmt.Fprintln(&b, r.outcome())
	_, err := io.WriteString(w, b.String())
	return err
}

// write writes a group: on one line if there is one thing to say.
func (g Group) write(b *strings.Builder, verbose bool) {
	shown := g.Checks
	if !verbose {
		shown = nil
		for _, c := range g.Checks {
			if c.Mark != OK {
				shown = append(shown, c)
			}
		}
	}
	switch {
	case len(shown) == 0:
		found := make([]string, 0, len(g.Checks))
		for _, c := range g.Checks {
			found = append(found, c.Found)
		}
		fmt.Fprintf(b, "%-4s  %-16s  %s\n", OK, g.Name, strings.Join(found, "; "))
	case len(shown) == 1:
		fmt.Fprintf(b, "%-4s  %-16s  %s\n", shown[0].Mark, g.Name, shown[0].text())
		shown[0].writeHint(b)
	default:
		fmt.Fprintf(b, "%-4s  %s\n", g.Mark(), g.Name)
		for _, c := range shown {
			fmt.Fprintf(b, "      %-4s  %s\n", c.Mark, c.text())
			c.writeHint(b)
		}
	}
}

func (c Check) text() string {
	if c.Code == "" {
		return c.Found
	}
	return string(c.Code) + " " + c.Found
}

func (c Check) writeHint(b *strings.Builder) {
	if c.Hint != "" {
		fmt.Fprintf(b, "            fix: %s\n", c.Hint)
	}
}

func (r Report) outcome() string {
	failed, warned, unknown := r.count(Fail), r.count(Warn), ""
	if skipped := r.count(Skip); skipped > 0 {
		unknown = fmt.Sprintf(", %d skipped", skipped)
	}
	switch {
	case failed > 0:
		return fmt.Sprintf("fail: %d failed, %d to look at%s; each code is explained in docs/doctor.md", failed, warned, unknown)
	case warned > 0:
		return fmt.Sprintf("warn: interactions can arrive, %d to look at%s; each code is explained in docs/doctor.md", warned, unknown)
	default:
		return "ok: interactions can arrive" + unknown
	}
}

// WriteJSON writes the report as one JSON object with its mark.
func (r Report) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(struct {
		Mark Mark `json:"mark"`
		Report
	}{r.Mark(), r})
}
