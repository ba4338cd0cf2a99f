// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"cmp"
	"context"
	"crypto/sha1" //nolint:gosec // an identifier of a certificate, not a signature
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Product is a product that the tenant has bought, Graph's subscribedSku:
// https://learn.microsoft.com/graph/api/resources/subscribedsku
type Product struct {
	// Name is the part number, such as Microsoft_365_Copilot.
	Name string `json:"skuPartNumber"`
	// CapabilityStatus is Enabled, Warning (a grace period), Suspended, Deleted or LockedOut.
	CapabilityStatus string `json:"capabilityStatus"`
	// ConsumedUnits is the number of licenses that are assigned.
	ConsumedUnits int `json:"consumedUnits"`
}

// CopilotProducts reads the products of the tenant that contain the service plan of Copilot, in whatever status. The call needs the
// application permission LicenseAssignment.Read.All or Organization.Read.All; without it, Forbidden reports true for the error.
// See https://learn.microsoft.com/graph/api/subscribedsku-list
func (c *Client) CopilotProducts(ctx context.Context) ([]Product, error) {
	// https://learn.microsoft.com/graph/api/resources/serviceplaninfo
	type servicePlan struct {
		ID string `json:"servicePlanId"`
	}
	type product struct {
		Product
		ServicePlans []servicePlan `json:"servicePlans"`
	}
	page, err := readPage[product](ctx, c, call{operation: "list products", method: http.MethodGet, target: "/subscribedSkus"})
	var found []Product
	for _, p := range page.Items {
		if slices.ContainsFunc(p.ServicePlans, func(plan servicePlan) bool { return strings.EqualFold(plan.ID, copilotPlan) }) {
			found = append(found, p.Product)
		}
	}
	return found, err
}

// registeredCredential is a passwordCredential or keyCredential of an app registration:
// https://learn.microsoft.com/graph/api/resources/passwordcredential and https://learn.microsoft.com/graph/api/resources/keycredential
type registeredCredential struct {
	// EndDateTime is null if the credential never expires.
	EndDateTime time.Time `json:"endDateTime"`
	// Hint is the first three characters of a secret.
	Hint string `json:"hint"`
	// CustomKeyIdentifier is by default the SHA-1 thumbprint of a certificate.
	CustomKeyIdentifier string `json:"customKeyIdentifier"`
}

// CredentialExpiry reads from the app registration when the secret or certificate of s expires. It returns the zero time if the
// app registration doesn't have it or it never expires. The call needs the application permission Application.Read.All; without it,
// Forbidden reports true for the error.
// See https://learn.microsoft.com/graph/api/application-get
func (c *Client) CredentialExpiry(ctx context.Context, s CredentialSettings) (time.Time, error) {
	isOurs, err := s.matcher()
	if err != nil {
		return time.Time{}, err
	}
	var application struct {
		Passwords []registeredCredential `json:"passwordCredentials"`
		Keys      []registeredCredential `json:"keyCredentials"`
	}
	target := "/applications(appId='" + url.PathEscape(s.ClientID) + "')?$select=passwordCredentials,keyCredentials"
	if err := c.do(ctx, call{operation: "read application", method: http.MethodGet, target: target}, &application); err != nil {
		return time.Time{}, err
	}
	if s.CertFile != "" {
		return lastEnd(application.Keys, isOurs), nil
	}
	// Old secrets have no hint, so any of those may be this one unless another one has its hint.
	hasNoHint := func(r registeredCredential) bool { return r.Hint == "" }
	return cmp.Or(lastEnd(application.Passwords, isOurs), lastEnd(application.Passwords, hasNoHint)), nil
}

func lastEnd(registered []registeredCredential, matches func(registeredCredential) bool) (last time.Time) {
	for _, r := range registered {
		if matches(r) && r.EndDateTime.After(last) {
			last = r.EndDateTime
		}
	}
	return last
}

// matcher returns what reports whether a registered credential is this secret or certificate.
func (s CredentialSettings) matcher() (func(registeredCredential) bool, error) {
	if s.CertFile == "" {
		_, secret, err := s.config()
		return func(r registeredCredential) bool { return r.Hint != "" && strings.HasPrefix(secret, r.Hint) }, err
	}
	pair, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
	if err != nil {
		return nil, fileError("auth.client_certificate", s.CertFile+" with "+s.KeyFile, err)
	}
	thumbprint := sha1.Sum(pair.Certificate[0]) //nolint:gosec // an identifier
	return func(r registeredCredential) bool {
		return strings.EqualFold(r.CustomKeyIdentifier, hex.EncodeToString(thumbprint[:])) ||
			r.CustomKeyIdentifier == base64.StdEncoding.EncodeToString(thumbprint[:])
	}, nil
}
