// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/privacy"
	"github.com/otelcopilot/m365copilotreceiver/internal/translate"
)

const (
	tenant   = "6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10"
	user     = "b2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f00"
	session  = "19:Qm9ndXNTZXNzaW9uSWRGb3JEb2Nz1@thread.v2"
	request  = "5b0f6c1e-8f55-4c0a-9a3e-0d7f4f2b6a11"
	promptID = "1764599405123"
)

// receivedAt returns the time of receipt, 4.2 s after the prompt of the fixtures was created.
func receivedAt() time.Time {
	return time.Date(2025, 12, 1, 14, 30, 9, 323_000_000, time.UTC)
}

// fixture reads testdata/{name}.json as a notification of its creation delivers it, with a known user.
func fixture(tb testing.TB, name string) interaction.Received {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	require.NoError(tb, err)
	parsed, err := interaction.Parse(data)
	require.NoError(tb, err)
	return interaction.Received{
		Interaction:    *parsed,
		TenantID:       tenant,
		SubscriptionID: "0c1e7a52-3b9d-4f7e-8a61-5d2f9b0c4e33",
		Change:         interaction.Created,
		Source:         interaction.FromNotification,
		At:             receivedAt(),
		UserID:         user,
		UserSource:     interaction.UserFromRequest,
		Turn:           parsed.RequestID,
	}
}

// hybridPerson returns the directory entry of a licensed user who is synchronized from Active Directory.
func hybridPerson() *interaction.Person {
	return &interaction.Person{
		ID: user, UserPrincipalName: "lena@contoso.com", DisplayName: "Lena Vogt", Department: "Sales", OfficeLocation: "Berlin 3.14",
		Country: "Germany", JobTitle: "Account Manager", CompanyName: "Contoso GmbH", OnPremisesSamAccountName: "lvogt",
		OnPremisesSecurityIdentifier: "S-1-5-21-1004336348-1177238915-682003330-1111", OnPremisesDomainName: "corp.contoso.com",
		Licensed: true,
	}
}

func scope() translate.Scope {
	return translate.Scope{Name: "github.com/otelcopilot/m365copilotreceiver", Version: "1.2.3"}
}

// translateAll returns the logs of what may leave of the interactions.
func translateAll(settings privacy.Settings, received []interaction.Received) plog.Logs {
	return translate.Logs(scope(), settings.Apply(received))
}

// recordOf returns the record of one interaction.
func recordOf(tb testing.TB, settings privacy.Settings, r interaction.Received) plog.LogRecord {
	tb.Helper()
	logs := translateAll(settings, []interaction.Received{r})
	require.Equal(tb, 1, logs.LogRecordCount())
	return logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
}

func attributeValue(tb testing.TB, attributes pcommon.Map, name string) any {
	tb.Helper()
	v, present := attributes.Get(name)
	require.True(tb, present, "attribute %s is absent", name)
	return v.AsRaw()
}
