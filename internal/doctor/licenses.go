// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"strings"
	"sync"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// sampleUsers is how many users the check of the history may choose from.
const sampleUsers = 5

// checkLicenses looks for Copilot licenses in the two places that show them. Each may be forbidden: the receiver does not need the
// products, and where it needs the users, the check of the permissions says so. Any other error is shown.
func (t *target) checkLicenses(ctx context.Context) []Check {
	if reason := t.whyNoCall(); reason != "" {
		return []Check{skipped("%s", reason)}
	}
	ctx, cancel := call(ctx)
	defer cancel()
	var (
		products              []graph.Product
		users                 graph.UserPage
		productsErr, usersErr error
		both                  sync.WaitGroup
	)
	both.Go(func() { products, productsErr = t.clients.Graph.CopilotProducts(ctx) })
	both.Go(func() { users, usersErr = t.clients.Graph.LicensedUsers(ctx, "", nil) })
	both.Wait()
	for _, user := range users.Items[:min(sampleUsers, len(users.Items))] {
		t.users = append(t.users, user.ID)
	}
	var checks []Check
	switch {
	case productsErr == nil:
		checks = append(checks, checkProducts(products))
	case !graph.Forbidden(productsErr):
		checks = append(checks, skipped("the tenant's products can't be read: %s", oneLine(productsErr.Error())))
	}
	switch {
	case usersErr == nil:
		checks = append(checks, checkLicensedUsers(len(users.Items), users.Next != ""))
	case !graph.Forbidden(usersErr):
		checks = append(checks, skipped("the licensed users can't be read: %s", oneLine(usersErr.Error())))
	}
	if len(checks) == 0 {
		return []Check{skipped("LicenseAssignment.Read.All or User.Read.All would show the licenses; neither is granted")}
	}
	return checks
}

// checkProducts judges the products of the tenant that contain Copilot. Those in a grace period work.
func checkProducts(products []graph.Product) Check {
	missing, assigned := failure.New(failure.LicenseMissing), 0
	var names, unusable []string
	for _, p := range products {
		if p.CapabilityStatus == "Enabled" || p.CapabilityStatus == "Warning" {
			names, assigned = append(names, p.Name), assigned+p.ConsumedUnits
		} else {
			unusable = append(unusable, p.Name+" is "+p.CapabilityStatus)
		}
	}
	switch {
	case len(products) == 0:
		return bad(Fail, missing, "no product of this tenant contains Microsoft 365 Copilot")
	case len(names) == 0:
		return bad(Fail, missing, "no product with Microsoft 365 Copilot is enabled: %s", strings.Join(unusable, ", "))
	case assigned == 0:
		return bad(Warn, missing, "no license of %s is assigned", strings.Join(names, ", "))
	default:
		return ok("assigned licenses of %s: %d", strings.Join(names, ", "), assigned)
	}
}

// checkLicensedUsers judges the number of users on the first page of the licensed users.
func checkLicensedUsers(count int, more bool) Check {
	switch {
	case count == 0:
		return bad(Warn, failure.New(failure.LicenseMissing), "no user has a Microsoft 365 Copilot license")
	case more:
		return ok("licensed users: more than %d", count)
	default:
		return ok("licensed users: %d", count)
	}
}
