// SPDX-License-Identifier: Apache-2.0

package privacy_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/privacy"
	"github.com/otelcopilot/m365copilotreceiver/internal/record"
)

const (
	tenant   = "6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10"
	session  = "19:Qm9ndXNTZXNzaW9uSWRGb3JEb2Nz1@thread.v2"
	request  = "5b0f6c1e-8f55-4c0a-9a3e-0d7f4f2b6a11"
	promptID = "1764599405123"
)

// receivedAt returns the time of receipt, 4.2 s after the prompt was created.
func receivedAt() time.Time { return time.Date(2025, 12, 1, 14, 30, 9, 323_000_000, time.UTC) }

// markedInteraction returns an interaction in which every string is a marker that names its field, so that a leak can be
// traced. Fields that are added later are included.
func markedInteraction() (i interaction.Interaction, markers []string) {
	setMarkers(reflect.ValueOf(&i).Elem(), "", &markers)
	i.Type = interaction.TypeAIResponse
	i.Body.ContentType = "text"
	return i, markers
}

func setMarkers(v reflect.Value, path string, markers *[]string) {
	switch v.Kind() {
	case reflect.String:
		marker := "marker" + strings.ReplaceAll(path, ".", "") + "end"
		v.SetString(marker)
		*markers = append(*markers, marker)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		setMarkers(v.Elem(), path, markers)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		setMarkers(v.Index(0), path, markers)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(receivedAt()))
			return
		}
		for n := range v.NumField() {
			setMarkers(v.Field(n), path+"."+v.Type().Field(n).Name, markers)
		}
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int32:
		v.SetInt(1)
	default:
		panic(fmt.Sprintf("no marker for %s of kind %s", path, v.Kind()))
	}
}

// markersIn returns the markers that the records contain.
func markersIn(records []record.Record, markers []string) []string {
	all := fmt.Sprintf("%#v", records)
	var present []string
	for _, marker := range markers {
		if strings.Contains(all, marker) {
			present = append(present, marker)
		}
	}
	return present
}

func TestApply_ContainsOnlyEnabledContent(t *testing.T) {
	t.Parallel()
	metadata := []string{
		"markerIDend", "markerSessionIDend", "markerRequestIDend", "markerAppClassend", "markerConversationTypeend",
		"markerETagend", "markerLocaleend", "markerContextsTypeend",
		"markerFromApplicationIDend", "markerFromApplicationDisplayNameend",
		"markerMentionsMentionedApplicationDisplayNameend",
	}
	text := []string{"markerBodyContentend"}
	references := []string{
		"markerAttachmentsNameend", "markerAttachmentsContentURLend", "markerAttachmentsContentTypeend",
		"markerContextsDisplayNameend", "markerContextsReferenceend",
		"markerLinksDisplayNameend", "markerLinksURLend", "markerLinksTypeend",
	}
	tests := map[string]struct {
		settings privacy.Settings
		want     []string
	}{
		"neither text nor references": {want: metadata},
		"text only": {
			settings: privacy.Settings{CaptureText: true}, want: slices.Concat(metadata, text),
		},
		"references only": {
			settings: privacy.Settings{References: true}, want: slices.Concat(metadata, references),
		},
		"both": {
			settings: privacy.Settings{CaptureText: true, References: true},
			want:     slices.Concat(metadata, text, references),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i, markers := markedInteraction()
			r := interaction.Received{Interaction: i, TenantID: tenant, At: receivedAt()}
			records := test.settings.Apply([]interaction.Received{r})
			assert.ElementsMatch(t, test.want, markersIn(records, markers))
		})
	}
}

// FuzzApplyOmitsContent puts a marker into all text and names that users and Copilot write, around fuzzed text, and checks that
// no record contains it unless text or references are enabled.
func FuzzApplyOmitsContent(f *testing.F) {
	const marker = "QmarkerQ"
	f.Add("text", "userPrompt", "created", "IPM.SkypeTeams.Message.Copilot.Word", " and ", "reference")
	f.Add("html", "aiResponse", "updated", "IPM.SkypeTeams.Message.Copilot.Excel",
		`<attachment id="c"></attachment>`, "application/vnd.microsoft.card.adaptive")
	f.Add("html", "", "deleted", "", `<p>&lt;b&gt;`, "image/png")
	f.Add("text", "unknownFutureValue", "", ".", "unknown-file-name", "")
	f.Fuzz(func(t *testing.T, bodyType, typ, change, appClass, invented, attachmentType string) {
		written := marker + invented + marker
		identity := &interaction.Identity{ID: "1", DisplayName: written}
		r := interaction.Received{
			Interaction: interaction.Interaction{
				ID: promptID, SessionID: session, Type: typ, AppClass: appClass,
				From: interaction.IdentitySet{User: identity},
				Body: interaction.Body{ContentType: bodyType, Content: written},
				Attachments: []interaction.Attachment{
					{ID: "c", ContentType: attachmentType, ContentURL: written, Name: written, Content: written},
					{ID: "c", ContentType: attachmentType, Content: fmt.Sprintf(
						`{"type":"AdaptiveCard","body":[{"type":"TextBlock","text":%q}]}`, written)},
				},
				Contexts: []interaction.Context{{Reference: written, DisplayName: written, Type: "docx"}},
				Links:    []interaction.Link{{URL: written, DisplayName: written, Type: written}},
				Mentions: []interaction.Mention{{Mentioned: interaction.IdentitySet{User: identity}}},
			},
			TenantID: tenant, Change: interaction.Change(change), Turn: request, At: receivedAt(),
		}
		records := privacy.Settings{}.Apply([]interaction.Received{r})
		if !strings.Contains(typ+change+appClass, marker) {
			assert.Empty(t, markersIn(records, []string{marker}))
		}
	})
}
