package translate_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/translate"
)

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
	case reflect.Int32:
		v.SetInt(1)
	default:
		panic(fmt.Sprintf("no marker for %s of kind %s", path, v.Kind()))
	}
}

// markersIn returns the markers that the logs contain, encoded as JSON or as protobuf.
func markersIn(tb testing.TB, logs plog.Logs, markers []string) []string {
	tb.Helper()
	json, err := (&plog.JSONMarshaler{}).MarshalLogs(logs)
	require.NoError(tb, err)
	proto, err := (&plog.ProtoMarshaler{}).MarshalLogs(logs)
	require.NoError(tb, err)
	var present []string
	for _, marker := range markers {
		if strings.Contains(string(json), marker) || strings.Contains(string(proto), marker) {
			present = append(present, marker)
		}
	}
	return present
}

func TestLogs_ContainOnlyEnabledContent(t *testing.T) {
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
		settings translate.LogSettings
		want     []string
	}{
		"neither text nor references": {want: metadata},
		"text only": {
			settings: translate.LogSettings{CaptureText: true}, want: slices.Concat(metadata, text),
		},
		"references only": {
			settings: translate.LogSettings{References: true}, want: slices.Concat(metadata, references),
		},
		"both": {
			settings: translate.LogSettings{CaptureText: true, References: true},
			want:     slices.Concat(metadata, text, references),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i, markers := markedInteraction()
			r := interaction.Received{Interaction: i, TenantID: tenant, At: receivedAt()}
			logs := newLogs(test.settings).Translate([]interaction.Received{r})
			assert.ElementsMatch(t, test.want, markersIn(t, logs, markers))
		})
	}
}

// FuzzLogsOmitContent puts a marker into all text and names that users and Copilot write, around fuzzed text, and checks that
// no record contains it unless text or references are enabled.
func FuzzLogsOmitContent(f *testing.F) {
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
		logs := newLogs(translate.LogSettings{}).Translate([]interaction.Received{r})
		if !strings.Contains(typ+change+appClass, marker) {
			assert.Empty(t, markersIn(t, logs, []string{marker}))
		}
	})
}
