// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/receiver"
)

// oldGap is the age from which on a gap that is not read is a problem: usually it takes minutes.
const oldGap = 24 * time.Hour

// checkStored checks what the last run stored.
func (t *target) checkStored(stored *receiver.Stored, now time.Time) []Check {
	var checks []Check
	for _, name := range stored.Damaged {
		checks = append(checks, bad(Warn, failure.New(failure.StorageDamaged), "%s in storage can't be used", name))
	}
	checks = append(checks, t.checkCheckpoint(&stored.Gaps, now))
	if len(stored.Generated) > 0 {
		checks = append(checks, ok("the generated encryption key is stored"))
	}
	checks = append(checks, t.checkGaps(&stored.Gaps, now)...)
	switch result := stored.Gaps.Result; {
	case result.Outcome == gap.Inconclusive:
		checks = append(checks, bad(Warn, failure.New(failure.HistoryInconclusive),
			"the last reconciliation is inconclusive, up to %s ago", roughly(now.Sub(result.To))))
	case result.Outcome != "":
		checks = append(checks, ok("the last reconciliation is %s, up to %s ago", result.Outcome, roughly(now.Sub(result.To))))
	}
	return checks
}

// checkCheckpoint checks up to when everything was received, or polled.
func (t *target) checkCheckpoint(state *gap.State, now time.Time) Check {
	rules, at, name := t.settings.History.Rules, state.Checkpoint, "checkpoint"
	if !rules.Subscribed {
		at, name = state.Polled, "last poll"
	}
	switch age := now.Sub(at); {
	case at.IsZero():
		return ok("there is no %s yet", name)
	case age < -maxClockError:
		return bad(Warn, failure.New(failure.ClockWrong), "the %s is %s in the future", name, roughly(-age))
	case age > rules.MaxGap:
		return bad(Warn, failure.New(failure.HistoryTooOld),
			"the %s is %s old: what is further back than history.max_gap (%s) is not read", name, roughly(age), rules.MaxGap)
	default:
		return ok("%s: %s ago", name, roughly(max(0, age)))
	}
}

// checkGaps lists the gaps that count as missing, by reason, with their number and the start of the earliest, and warns of those
// that should have been read by now.
func (t *target) checkGaps(state *gap.State, now time.Time) []Check {
	rules, gaps := t.settings.History.Rules, state.Gaps
	if state.Pass != nil {
		gaps = slices.Concat(state.Pass.Gaps, gaps)
	}
	missing := state.Missing(rules, now)
	since, old := map[gap.Reason]time.Time{}, map[gap.Reason]bool{}
	for i := range gaps {
		g := &gaps[i]
		reason := g.Reason()
		if _, counts := missing[reason]; !counts || g.Second || g.Rested() {
			continue
		}
		if first, found := since[reason]; !found || g.From.Before(first) {
			since[reason] = g.From
		}
		// A failed pass or a cause that lasts, of a gap that is open for longer than a day.
		if (g.Attempts > 0 || g.To.IsZero()) && now.Sub(g.From) > oldGap && reason != gap.UsersUnknown && !rules.Disabled {
			old[reason] = true
		}
	}
	if len(since) == 0 {
		return []Check{ok("no gap is known")}
	}
	count := state.Count()
	describe := func(reason gap.Reason) string {
		return fmt.Sprintf("%s (%d, since %s ago)", reason, max(1, count[reason]), roughly(now.Sub(since[reason])))
	}
	var checks []Check
	var known []string
	for _, reason := range gap.Reasons() {
		if _, found := since[reason]; found && old[reason] {
			checks = append(checks, bad(Warn, failure.New(failure.GapNotRead), "gap %s is not read", describe(reason)))
		} else if found {
			known = append(known, describe(reason))
		}
	}
	if len(known) > 0 {
		checks = append(checks, ok("known gaps: %s", strings.Join(known, ", ")))
	}
	return checks
}

// roughly returns a duration, 0 or longer, in the largest unit of which it has at least two.
func roughly(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	default:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	}
}
