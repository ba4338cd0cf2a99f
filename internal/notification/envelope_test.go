package notification_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

const rich = `{
  "value": [{
    "subscriptionId": "0c1e7a52-3b9d-4f7e-8a61-5d2f9b0c4e33",
    "changeType": "created",
    "clientState": "state",
    "subscriptionExpirationDateTime": "2025-12-04T12:00:00.0000000+02:00",
    "resource": "copilot/interactionHistory/interactions('1764599405123')",
    "resourceData": {"id": "1764599405123", "@odata.type": "#Microsoft.Graph.aiInteraction"},
    "encryptedContent": {"data": "d", "dataSignature": "s", "dataKey": "k",
      "encryptionCertificateId": "c", "encryptionCertificateThumbprint": "t"},
    "tenantId": "6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10"
  }, {
    "subscriptionId": "s2", "clientState": "state2", "lifecycleEvent": "reauthorizationRequired"
  }],
  "validationTokens": ["a.b.c"]
}`

// parse reads a body of which everything is ours.
func parse(body []byte) (*notification.Collection, error) {
	envelope, err := notification.Inspect(body, func([]byte) bool { return true })
	if err != nil {
		return nil, err
	}
	return envelope.Decode(), nil
}

func TestParseReadsEveryMember(t *testing.T) {
	t.Parallel()
	got, err := parse([]byte(rich))
	require.NoError(t, err)
	want := &notification.Collection{
		Items: []notification.Item{{
			SubscriptionID:         "0c1e7a52-3b9d-4f7e-8a61-5d2f9b0c4e33",
			ClientState:            "state",
			ChangeType:             "created",
			Resource:               "copilot/interactionHistory/interactions('1764599405123')",
			ResourceID:             promptID,
			TenantID:               tenant,
			SubscriptionExpiration: time.Date(2025, 12, 4, 10, 0, 0, 0, time.UTC),
			EncryptedContent: &notification.EncryptedContent{
				Data: "d", DataKey: "k", DataSignature: "s", CertificateID: "c", CertificateThumbprint: "t",
			},
		}, {
			SubscriptionID: "s2", ClientState: "state2", LifecycleEvent: notification.ReauthorizationRequired,
		}},
		ValidationTokens: []string{"a.b.c"},
	}
	assert.Empty(t, cmp.Diff(want, got))
}

func TestParseBearsWithWhatIsOptional(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		body string
		want notification.Collection
	}{
		"an empty array is an empty collection":      {`{"value":[]}`, notification.Collection{Items: []notification.Item{}}},
		"tokens that are null are no tokens":         {`{"value":[],"validationTokens":null}`, notification.Collection{Items: []notification.Item{}}},
		"tokens of the wrong type are no tokens":     {`{"validationTokens":"a.b.c","value":[]}`, notification.Collection{Items: []notification.Item{}}},
		"a token of the wrong type is an empty one":  {`{"value":[{}],"validationTokens":["a",7]}`, notification.Collection{Items: []notification.Item{{}}, ValidationTokens: []string{"a", ""}}},
		"an element that is no object is empty":      {`{"value":[null,7,"x",{"clientState":"s"}]}`, notification.Collection{Items: []notification.Item{{}, {}, {}, {ClientState: "s"}}}},
		"unknown members are passed over":            {`{"@odata.context":{"a":[1,{"b":null}]},"value":[{"id":"x","more":[{}],"clientState":"s"}]}`, notification.Collection{Items: []notification.Item{{ClientState: "s"}}}},
		"members of the wrong type are empty":        {`{"value":[{"changeType":7,"resourceData":"x","encryptedContent":[],"tenantId":{},"clientState":"s"}]}`, notification.Collection{Items: []notification.Item{{ClientState: "s"}}}},
		"a part of the content of the wrong type":    {`{"value":[{"encryptedContent":{"data":7,"dataKey":"k"}}]}`, notification.Collection{Items: []notification.Item{{EncryptedContent: &notification.EncryptedContent{DataKey: "k"}}}}},
		"a date that is none is the zero time":       {`{"value":[{"subscriptionExpirationDateTime":"NA"},{"subscriptionExpirationDateTime":7}]}`, notification.Collection{Items: []notification.Item{{}, {}}}},
		"the id comes from the resource without one": {`{"value":[{"resource":"copilot/interactionHistory/interactions('17')","resourceData":{"id":null}}]}`, notification.Collection{Items: []notification.Item{{Resource: "copilot/interactionHistory/interactions('17')", ResourceID: "17"}}}},
		"a resource without an id has none":          {`{"value":[{"resource":"users('17')"},{"resource":"interactions('17"}]}`, notification.Collection{Items: []notification.Item{{Resource: "users('17')"}, {Resource: "interactions('17"}}}},
		"white space around the object":              {" \r\n\t{\"value\":[]}\n", notification.Collection{Items: []notification.Item{}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parse([]byte(test.body))
			require.NoError(t, err)
			assert.Empty(t, cmp.Diff(&test.want, got))
		})
	}
}

func TestParseRefusesWhatIsNoCollection(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"nothing":                     "",
		"no JSON":                     "hello",
		"null":                        "null",
		"an array":                    `[{"value":[]}]`,
		"a string":                    `"value"`,
		"no value":                    `{}`,
		"a value that is null":        `{"value":null}`,
		"a value that is an object":   `{"value":{}}`,
		"a value that is a string":    `{"value":"[]"}`,
		"an object that does not end": `{"value":[]`,
		"a string that does not end":  `{"value":["a\"`,
		"garbage behind the object":   `{"value":[]} x`,
		"another object behind it":    `{"value":[]}{"value":[]}`,
		"a byte order mark":           "\ufeff{\"value\":[]}",
	}
	for name, body := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parse([]byte(body))
			require.ErrorIs(t, err, notification.ErrNotCollection)
			assert.Nil(t, got)
		})
	}
}

func TestParseBoundsDepth(t *testing.T) {
	t.Parallel()
	nested := func(depth int) []byte {
		// The object itself is the first level.
		return []byte(`{"value":[],"more":` + strings.Repeat("[", depth-1) + strings.Repeat("]", depth-1) + `}`)
	}
	_, err := parse(nested(64))
	require.NoError(t, err)

	_, err = parse(nested(65))
	require.ErrorIs(t, err, notification.ErrTooDeep)
	require.ErrorIs(t, err, notification.ErrNotCollection)

	_, err = parse([]byte(`{"value":[],"more":"` + strings.Repeat(`[\"{\\`, 100) + `"}`))
	require.NoError(t, err, "brackets in a string do not nest")
}

func TestParseBoundsTheNumberOfItems(t *testing.T) {
	t.Parallel()
	items := func(n int) []byte {
		return []byte(`{"value":[` + strings.TrimSuffix(strings.Repeat("{},", n), ",") + `]}`)
	}
	got, err := parse(items(20_000))
	require.NoError(t, err)
	assert.Len(t, got.Items, 20_000)

	_, err = parse(items(20_001))
	require.ErrorIs(t, err, notification.ErrTooMany)
	require.ErrorIs(t, err, notification.ErrNotCollection)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(rich))
	f.Add([]byte(`{"value":[{"resource":"interactions('"}],"validationTokens":[null]}`))
	f.Add([]byte(`{"value":[{"clientState":"\\\""}]}`))
	f.Add(bytes.Repeat([]byte("["), 70))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := parse(body)
		if err != nil {
			require.ErrorIs(t, err, notification.ErrNotCollection)
			require.Nil(t, got)
			return
		}
		require.NotNil(t, got.Items)
		require.LessOrEqual(t, len(got.Items), 20_000)
		again, err := parse(append(body, " \n"...))
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(got, again), "white space changes nothing")
		_, err = parse(append(body, '0'))
		require.ErrorIs(t, err, notification.ErrNotCollection, "what follows the object is garbage")
	})
}
