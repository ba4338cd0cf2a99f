// SPDX-License-Identifier: Apache-2.0

package doctor_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/doctor"
)

var (
	well   = doctor.Check{Mark: doctor.OK, Found: "graph.microsoft.com answers"}
	skip   = doctor.Check{Mark: doctor.Skip, Found: "no user is known yet"}
	warned = doctor.Check{Mark: doctor.Warn, Code: "COP012", Found: "expires in 5 days", Hint: "replace it"}
	fails  = doctor.Check{Mark: doctor.Fail, Code: "COP201", Found: "AADSTS7000215: invalid client secret", Hint: "set the value"}
)

func reportOf(groups ...doctor.Group) doctor.Report {
	return doctor.Report{Instances: []doctor.Instance{{ID: "m365_copilot", Groups: groups}}}
}

func TestReport_Text(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		report  doctor.Report
		verbose bool
		want    string
	}{
		{
			"a group where all is well is one line", reportOf(doctor.Group{Name: "network", Checks: []doctor.Check{well, well}}), false, `
ok    network           graph.microsoft.com answers; graph.microsoft.com answers
ok: interactions can arrive
`,
		},
		{
			"the only check that is not well is on the line of its group", reportOf(doctor.Group{Name: "token", Checks: []doctor.Check{well, fails}}), false, `
fail  token             COP201 AADSTS7000215: invalid client secret
            fix: set the value
fail: 1 failed, 0 to look at; each code is explained in docs/doctor.md
`,
		},
		{
			"several have lines of their own, and the group the mark of the worst",
			reportOf(doctor.Group{Name: "credentials", Checks: []doctor.Check{skip, warned, fails, well}}), false, `
fail  credentials
      skip  no user is known yet
      warn  COP012 expires in 5 days
            fix: replace it
      fail  COP201 AADSTS7000215: invalid client secret
            fix: set the value
fail: 1 failed, 1 to look at, 1 skipped; each code is explained in docs/doctor.md
`,
		},
		{
			"verbose shows all", reportOf(doctor.Group{Name: "network", Checks: []doctor.Check{well, warned}}), true, `
warn  network
      ok    graph.microsoft.com answers
      warn  COP012 expires in 5 days
            fix: replace it
warn: interactions can arrive, 1 to look at; each code is explained in docs/doctor.md
`,
		},
		{
			"several receivers have a heading each", doctor.Report{Instances: []doctor.Instance{
				{ID: "m365_copilot", Groups: []doctor.Group{{Name: "history", Checks: []doctor.Check{skip}}}},
				{ID: "m365_copilot/emea", Groups: []doctor.Group{{Name: "history", Checks: []doctor.Check{well}}}},
			}}, false, `
m365_copilot
skip  history           no user is known yet

m365_copilot/emea
ok    history           graph.microsoft.com answers
ok: interactions can arrive, 1 skipped
`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var b strings.Builder
			require.NoError(t, test.report.WriteText(&b, test.verbose))
			assert.Equal(t, strings.TrimPrefix(test.want, "\n"), b.String())
		})
	}
}

func TestReport_JSON(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	require.NoError(t, reportOf(doctor.Group{Name: "token", Checks: []doctor.Check{well, fails}}).WriteJSON(&b))
	assert.JSONEq(t, `{"mark": "fail", "instances": [{"id": "m365_copilot", "groups": [{"name": "token", "mark": "fail", "checks": [
		{"mark": "ok", "found": "graph.microsoft.com answers"},
		{"mark": "fail", "code": "COP201", "found": "AADSTS7000215: invalid client secret", "hint": "set the value"}
	]}]}]}`, b.String())
}

func TestReport_MarkIsThatOfTheWorst(t *testing.T) {
	t.Parallel()
	assert.Equal(t, doctor.OK, doctor.Report{}.Mark())
	assert.Equal(t, doctor.Skip, reportOf(doctor.Group{Checks: []doctor.Check{well, skip}}).Mark())
	assert.Equal(t, doctor.Warn, reportOf(doctor.Group{Checks: []doctor.Check{warned, skip}}, doctor.Group{Checks: []doctor.Check{well}}).Mark())
	assert.Equal(t, doctor.Fail, reportOf(doctor.Group{Checks: []doctor.Check{fails, warned}}).Mark())
}
