// SPDX-License-Identifier: Apache-2.0

package graphtest

import (
	"crypto/sha1" //nolint:gosec // an identifier of a certificate, not a signature
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Product is a product that the tenant has bought, Graph's subscribedSku:
// https://learn.microsoft.com/graph/api/resources/subscribedsku
type Product struct {
	// Name is the part number, such as Microsoft_365_Copilot.
	Name string
	// CapabilityStatus is Enabled, Warning, Suspended, Deleted or LockedOut.
	CapabilityStatus string
	// ConsumedUnits is the number of licenses that are assigned.
	ConsumedUnits int
	// Plans are the ids of the service plans in it.
	Plans []string
}

// copilotProduct and its id are those of the product named Microsoft 365 Copilot.
const copilotProduct, copilotProductID = "Microsoft_365_Copilot", "639dec6b-bb19-468b-871c-c5c441c4b0cb"

// tenantState holds what the tenant says about itself.
type tenantState struct {
	created time.Time

	mu sync.Mutex // guards what follows
	// products is nil until SetProducts.
	products  []Product
	secretEnd time.Time
}

// secretLifetime is the longest that the Entra admin center offers.
const secretLifetime = 2 * 365 * 24 * time.Hour

func newTenantState(now time.Time) *tenantState {
	return &tenantState{created: now, secretEnd: now.Add(secretLifetime)}
}

// SetProducts sets what the tenant has bought; without arguments, nothing. Until then it has Microsoft 365 Copilot, with a license
// for each licensed user of the directory.
func (e *Emulator) SetProducts(products ...Product) {
	e.tenant.mu.Lock()
	defer e.tenant.mu.Unlock()
	e.tenant.products = append([]Product{}, products...)
}

// SetSecretEnd sets when the client secret expires, after which it is refused. By default that is after two years.
func (e *Emulator) SetSecretEnd(end time.Time) {
	e.tenant.mu.Lock()
	defer e.tenant.mu.Unlock()
	e.tenant.secretEnd = end
}

func (e *Emulator) secretEnd() time.Time {
	e.tenant.mu.Lock()
	defer e.tenant.mu.Unlock()
	return e.tenant.secretEnd
}

func (e *Emulator) products() []Product {
	e.tenant.mu.Lock()
	products := e.tenant.products
	e.tenant.mu.Unlock()
	if products != nil {
		return products
	}
	_, licensed := e.directory.page(usersRequest{licensed: true})
	return []Product{{Name: copilotProduct, CapabilityStatus: "Enabled", ConsumedUnits: licensed, Plans: []string{CopilotPlan}}}
}

// serveProducts answers the list of products. The emulator supports no query parameters of it.
// See https://learn.microsoft.com/graph/api/subscribedsku-list
func (e *Emulator) serveProducts(w http.ResponseWriter, r *http.Request, _ []string) {
	if apiErr := checkParameters(r.URL.Query()); apiErr != nil {
		apiErr.write(w)
		return
	}
	list := []any{}
	for _, p := range e.products() {
		id := copilotProductID
		if p.Name != copilotProduct {
			id = newGUID()
		}
		plans := []any{}
		for _, plan := range p.Plans {
			plans = append(plans, map[string]any{"servicePlanId": plan, "provisioningStatus": "Success", "appliesTo": "User"})
		}
		list = append(list, map[string]any{
			"id": e.settings.TenantID + "_" + id, "skuId": id, "skuPartNumber": p.Name, "capabilityStatus": p.CapabilityStatus,
			"consumedUnits": p.ConsumedUnits, "appliesTo": "User", "servicePlans": plans,
			"prepaidUnits": map[string]int{"enabled": p.ConsumedUnits, "suspended": 0, "warning": 0, "lockedOut": 0},
		})
	}
	writeJSON(w, http.StatusOK, map[string]any{"@odata.context": e.baseURL(r) + "/v1.0/$metadata#subscribedSkus", "value": list})
}

// serveApplication answers a request for the app registration by its client id. It requires a $select, without which Graph leaves out
// the keys. See https://learn.microsoft.com/graph/api/application-get
func (e *Emulator) serveApplication(w http.ResponseWriter, r *http.Request, args []string) {
	query := r.URL.Query()
	known := map[string]func() any{"passwordCredentials": e.passwordCredentials, "keyCredentials": e.keyCredentials}
	selected := strings.Split(query.Get("$select"), ",")
	apiErr := checkParameters(query, "$select")
	switch {
	case apiErr != nil:
	case !strings.EqualFold(args[0], e.settings.ClientID):
		apiErr = &graphError{http.StatusNotFound, "Request_ResourceNotFound", fmt.Sprintf("Resource '%s' does not exist or one of its "+
			"queried reference-property objects are not present.", args[0])}
	case slices.ContainsFunc(selected, func(name string) bool { return known[name] == nil }):
		apiErr = badQuery("Parsing OData Select and Expand failed: Could not find a property on type 'microsoft.graph.application'.")
	}
	if apiErr != nil {
		apiErr.write(w)
		return
	}
	answer := map[string]any{"@odata.context": e.baseURL(r) + "/v1.0/$metadata#applications/$entity"}
	for _, name := range selected {
		answer[name] = known[name]()
	}
	writeJSON(w, http.StatusOK, answer)
}

// passwordCredentials returns the client secret, of which Graph shows the first three characters.
func (e *Emulator) passwordCredentials() any {
	secret := e.settings.ClientSecret
	if secret == "" {
		return []any{}
	}
	return []any{map[string]any{
		"customKeyIdentifier": nil, "displayName": "collector", "keyId": newGUID(), "secretText": nil,
		"hint": secret[:min(3, len(secret))], "startDateTime": timestamp(e.tenant.created), "endDateTime": timestamp(e.secretEnd()),
	}}
}

// keyCredentials returns the registered certificates, which Graph identifies by their SHA-1 thumbprint.
func (e *Emulator) keyCredentials() any {
	list := []any{}
	for _, certificate := range e.settings.ClientCertificates {
		thumbprint := sha1.Sum(certificate.Raw) //nolint:gosec // an identifier
		list = append(list, map[string]any{
			"customKeyIdentifier": fmt.Sprintf("%X", thumbprint), "displayName": certificate.Subject.String(),
			"keyId": newGUID(), "key": base64.StdEncoding.EncodeToString(certificate.Raw), "type": "AsymmetricX509Cert", "usage": "Verify",
			"startDateTime": timestamp(certificate.NotBefore), "endDateTime": timestamp(certificate.NotAfter),
		})
	}
	return list
}

func timestamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
