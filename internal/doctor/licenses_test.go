// SPDX-License-Identifier: Apache-2.0

package doctor_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/doctor"
	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

const someUser = "0f6a3c1e-0000-4000-8000-00000000000a"

func TestLicenses_ForEachSource(t *testing.T) {
	t.Parallel()
	products, users := graphtest.RoleLicensesReadAll, graphtest.RoleUsersReadAll
	licensed := func(e *graphtest.Emulator) { e.SetUsers(someUser, otherID) }
	none := func(e *graphtest.Emulator) { e.SetUsers() }
	product := func(status string, plans ...string) func(*graphtest.Emulator) {
		return func(e *graphtest.Emulator) {
			e.SetProducts(graphtest.Product{Name: "BUNDLE", CapabilityStatus: status, ConsumedUnits: 7, Plans: plans})
		}
	}
	for name, test := range map[string]struct {
		roles   []string
		prepare func(*graphtest.Emulator)
		want    doctor.Mark
		text    string
	}{
		"products and users show them": {[]string{products, users}, licensed, doctor.OK, "assigned licenses of Microsoft_365_Copilot: 2"},
		"only products show them":      {[]string{products}, licensed, doctor.OK, "assigned licenses of Microsoft_365_Copilot: 2"},
		"only users show them":         {[]string{users}, licensed, doctor.OK, "licensed users: 2"},
		"nothing shows them":           {nil, licensed, doctor.Skip, "LicenseAssignment.Read.All or User.Read.All would show the licenses"},
		"no license is assigned":       {[]string{products}, none, doctor.Warn, "no license of Microsoft_365_Copilot is assigned"},
		"no user has a license":        {[]string{users}, none, doctor.Warn, "no user has a Microsoft 365 Copilot license"},
		"a bundle contains Copilot":    {[]string{products}, product("Enabled", otherID, strings.ToUpper(graphtest.CopilotPlan)), doctor.OK, "assigned licenses of BUNDLE: 7"},
		"a grace period":               {[]string{products}, product("Warning", graphtest.CopilotPlan), doctor.OK, "licenses of BUNDLE: 7"},
		"no product contains Copilot":  {[]string{products}, product("Enabled", otherID), doctor.Fail, "no product of this tenant contains"},
		"nothing was bought":           {[]string{products}, func(e *graphtest.Emulator) { e.SetProducts() }, doctor.Fail, "no product of this tenant contains"},
		"the product is suspended":     {[]string{products}, product("Suspended", graphtest.CopilotPlan), doctor.Fail, "BUNDLE is Suspended"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			h.emulator.SetRoles(append(test.roles, graphtest.RoleReadAll)...)
			test.prepare(h.emulator)
			r := h.check(t, "", "")
			code, hint := failure.LicenseMissing, "assign Microsoft 365 Copilot licenses"
			if test.want < doctor.Warn {
				code, hint = "", ""
			}
			requireFinding(t, r, "licenses", test.want, code, test.text, hint)
			assert.NotContains(t, printed(t, r), someUser)
		})
	}
}

func TestLicenses_SourceThatFailsIsShown(t *testing.T) {
	t.Parallel()
	const (
		noProducts = "skip  the tenant's products can't be read: list products: Graph answered 500"
		noUsers    = "skip  the licensed users can't be read: list users: Graph answered 500"
	)
	products, users := graphtest.OpProducts, graphtest.OpUsers
	allowed := []string{graphtest.RoleUsersReadAll, graphtest.RoleLicensesReadAll}
	for name, test := range map[string]struct {
		roles   []string
		failing []graphtest.Operation
		want    []string // how each line begins
	}{
		"the products fail": {allowed, []graphtest.Operation{products}, []string{noProducts, "ok  licensed users: 1"}},
		"the users fail":    {allowed, []graphtest.Operation{users}, []string{"ok  assigned licenses of", noUsers}},
		"both fail":         {allowed, []graphtest.Operation{products, users}, []string{noProducts, noUsers}},
		"the products fail, the users are forbidden":     {allowed[1:], []graphtest.Operation{products}, []string{noProducts}},
		"the products are forbidden, and the users fail": {allowed[:1], []graphtest.Operation{users}, []string{noUsers}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			h.emulator.SetRoles(append([]string{graphtest.RoleReadAll}, test.roles...)...)
			h.emulator.SetUsers(someUser)
			for _, op := range test.failing {
				h.emulator.Fail(op, graphtest.Fault{Status: 500})
			}
			lines := strings.Split(strings.TrimSpace(found(group(t, h.check(t, "", ""), "licenses"))), "\n")
			require.Len(t, lines, len(test.want))
			for i, want := range test.want {
				assert.True(t, strings.HasPrefix(lines[i], want), lines[i])
			}
		})
	}
}

// The receiver works without LicenseAssignment.Read.All.
func TestLicenses_ForbiddenSourceIsNotShown(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.emulator.SetRoles(graphtest.RoleReadAll, graphtest.RoleUsersReadAll)
	h.emulator.SetUsers(someUser)
	assert.Equal(t, "licensed users: 1", requireAllWell(t, h.check(t, "", ""), "licenses"))
}

func TestLicenses_CountsOnePageOfUsers(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.emulator.SetRoles(graphtest.RoleReadAll, graphtest.RoleUsersReadAll)
	ids := make([]string, 1000)
	for i := range ids {
		ids[i] = fmt.Sprintf("b2a7c9e4-5d31-4f0c-8e62-%012d", i)
	}
	h.emulator.SetUsers(ids...)
	assert.Equal(t, "licensed users: more than 999", requireAllWell(t, h.check(t, "", ""), "licenses"))
	assert.Len(t, h.emulator.Requests(graphtest.OpUsers), 1)
}
