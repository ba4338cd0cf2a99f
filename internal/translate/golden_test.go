// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/golden"
	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/pdatatest/plogtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/privacy"
	"github.com/otelcopilot/m365copilotreceiver/internal/record"
	"github.com/otelcopilot/m365copilotreceiver/internal/translate"
)

// kind is one kind of interaction with the settings for its translation.
type kind struct {
	input    string
	settings privacy.Settings
	received func(*interaction.Received)
}

// kinds returns the kinds by the names of their golden files.
func kinds() map[string]kind {
	fromPrompt := func(r *interaction.Received) { r.UserSource = interaction.UserFromPrompt }
	return map[string]kind{
		"prompt":                {input: "prompt", received: fromPrompt},
		"prompt_captured":       {input: "prompt", received: fromPrompt, settings: privacy.Settings{CaptureText: true}},
		"chat_response":         {input: "chat_response"},
		"chat_response_capture": {input: "chat_response", settings: privacy.Settings{CaptureText: true}},
		"in_app_response":       {input: "in_app_response", settings: privacy.Settings{CaptureText: true}},
		"teams_meeting_prompt":  {input: "teams_meeting_prompt", received: fromPrompt},
		"cowork_response": {input: "cowork_response", received: func(r *interaction.Received) {
			r.Turn, r.UserSource = promptID, interaction.UserFromConversation
		}},
		"excel_response":    {input: "excel_response", settings: privacy.Settings{CaptureText: true}},
		"powerpoint_prompt": {input: "powerpoint_prompt", received: fromPrompt, settings: privacy.Settings{References: true}},
		"file_prompt": {
			input: "file_prompt", received: fromPrompt, settings: privacy.Settings{CaptureText: true, References: true},
		},
		"agent_prompt": {input: "agent_prompt", received: fromPrompt},
		"unknown_type": {input: "unknown_type"},
		"updated":      {input: "updated", received: func(r *interaction.Received) { r.Change = interaction.Updated }},
		"deleted": {input: "deleted", received: func(r *interaction.Received) {
			r.Change, r.UserSource = interaction.Deleted, interaction.UserFromPrompt
		}},
		"tombstone": {input: "tombstone", received: func(r *interaction.Received) {
			r.Change, r.WithoutContent, r.UserID, r.UserSource = interaction.Deleted, true, "", ""
		}},
		"minimal": {input: "minimal", received: func(r *interaction.Received) { r.UserID, r.UserSource = "", "" }},
		"history": {input: "chat_response", received: func(r *interaction.Received) {
			r.Source, r.SubscriptionID, r.UserSource = interaction.FromHistory, "", interaction.UserFromHistory
		}},
		"references": {input: "references", settings: privacy.Settings{References: true}},
		"person_hybrid": {
			input: "chat_response", received: func(r *interaction.Received) { r.Person = hybridPerson() },
			settings: privacy.Settings{Directory: true, Properties: privacy.PropertyNames()},
		},
		"person_cloud_only": {
			input: "prompt", settings: privacy.Settings{Directory: true, Properties: privacy.PropertyNames()},
			received: func(r *interaction.Received) {
				r.UserSource = interaction.UserFromPrompt
				r.Person = &interaction.Person{ID: user, UserPrincipalName: "nia@contoso.com", DisplayName: "Nia Owusu", Department: "Finance"}
			},
		},
	}
}

func (k kind) translate(t *testing.T) plog.Logs {
	t.Helper()
	r := fixture(t, k.input)
	if k.received != nil {
		k.received(&r)
	}
	return translateAll(k.settings, []interaction.Received{r})
}

// userKinds returns the kinds of licensed users by the names of their golden files.
func userKinds() map[string]record.User {
	licensed := record.Person{Licensed: new(true)}
	person := record.Person{
		Name: "adele.vance@contoso.com", FullName: "Adele Vance", Department: "Retail", OfficeLocation: "18/2111", Country: "Germany",
		JobTitle: "Store Manager", Company: "Contoso", SAMAccountName: "avance",
		SecurityIdentifier: "S-1-5-21-397955417-626881126-188441444-3872", Domain: "contoso.local", Licensed: new(true),
	}
	at, lastActive := receivedAt(), receivedAt().Add(-26*time.Hour)
	return map[string]record.User{
		"user_active": {
			TenantID: tenant, UID: "b13b70ec112f1ee16fac16672238ddc1", At: at, UserID: user, Person: person,
			LastActive: lastActive, DaysActive: 12, Body: "licensed user, active on 12 of 28 days",
		},
		"user_inactive": {
			TenantID: tenant, UID: "b13b70ec112f1ee16fac16672238ddc1", At: at, UserID: user, Person: licensed,
			Body: "licensed user, active on 0 of 28 days",
		},
	}
}

// TestLogs_MatchGoldenFiles writes a missing golden file and fails. To update a golden file, delete it.
func TestLogs_MatchGoldenFiles(t *testing.T) {
	t.Parallel()
	for name, k := range kinds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assertGolden(t, name, k.translate(t))
		})
	}
}

// TestUsers_MatchGoldenFiles writes a missing golden file and fails, as well.
func TestUsers_MatchGoldenFiles(t *testing.T) {
	t.Parallel()
	for name, u := range userKinds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assertGolden(t, name, translate.Users(scope(), []record.User{u}))
		})
	}
}

func goldenFile(name string) string { return filepath.Join("testdata", name+".golden.yaml") }

func assertGolden(t *testing.T, name string, got plog.Logs) {
	t.Helper()
	file := goldenFile(name)
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		require.NoError(t, golden.WriteLogs(t, file, got))
		return
	}
	want, err := golden.ReadLogs(file)
	require.NoError(t, err)
	require.NoError(t, plogtest.CompareLogs(want, got))
	// CompareLogs compares neither event names nor the order of attributes.
	assert.JSONEq(t, asJSON(t, want), asJSON(t, got))
}

func TestGoldenFiles_AllUsed(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(goldenFile("*"))
	require.NoError(t, err)
	want := make([]string, 0, len(files))
	for name := range kinds() {
		want = append(want, goldenFile(name))
	}
	for name := range userKinds() {
		want = append(want, goldenFile(name))
	}
	assert.ElementsMatch(t, want, files)
}

func asJSON(t *testing.T, logs plog.Logs) string {
	t.Helper()
	marshaler := plog.JSONMarshaler{}
	data, err := marshaler.MarshalLogs(logs)
	require.NoError(t, err)
	return string(data)
}
