// SPDX-License-Identifier: Apache-2.0

package notification_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

const fullBody = `{
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

// parse decodes a body whose items are all ours.
func parse(body []byte) (*notification.Collection, error) {
	envelope, err := notification.Inspect(body, func([]byte) bool { return true })
	if err != nil {
		return nil, err
	}
	return envelope.Decode(), nil
}

func TestDecode_ReadsEveryMember(t *testing.T) {
	t.Parallel()
	got, err := parse([]byte(fullBody))
	require.NoError(t, err)
	want := &notification.Collection{
		Items: []notification.Item{{
			SubscriptionID: "0c1e7a52-3b9d-4f7e-8a61-5d2f9b0c4e33",
			ChangeType:     "created",
			Resource:       "copilot/interactionHistory/interactions('1764599405123')",
			ResourceID:     promptID,
			TenantID:       tenant,
			EncryptedContent: &notification.EncryptedContent{
				Data: "d", DataKey: "k", DataSignature: "s", CertificateID: "c", CertificateThumbprint: "t",
			},
		}, {
			SubscriptionID: "s2", LifecycleEvent: notification.ReauthorizationRequired,
		}},
		ValidationTokens: []string{"a.b.c"},
	}
	assert.Empty(t, cmp.Diff(want, got))
}

func TestDecode_ToleratesMissingAndMistypedMembers(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		body string
		want notification.Collection
	}{
		"an empty array is an empty collection":     {`{"value":[]}`, notification.Collection{Items: []notification.Item{}}},
		"tokens that are null are no tokens":        {`{"value":[],"validationTokens":null}`, notification.Collection{Items: []notification.Item{}}},
		"tokens of the wrong type are no tokens":    {`{"validationTokens":"a.b.c","value":[]}`, notification.Collection{Items: []notification.Item{}}},
		"a token of the wrong type is an empty one": {`{"value":[{}],"validationTokens":["a",7]}`, notification.Collection{Items: []notification.Item{{}}, ValidationTokens: []string{"a", ""}}},
		"an element that is not an object is empty": {`{"value":[null,7,"x",{"clientState":"s"}]}`, notification.Collection{Items: []notification.Item{{}, {}, {}, {}}}},
		"unknown members are ignored":               {`{"@odata.context":{"a":[1,{"b":null}]},"value":[{"id":"x","more":[{}],"clientState":"s"}]}`, notification.Collection{Items: []notification.Item{{}}}},
		"members of the wrong type are empty":       {`{"value":[{"changeType":7,"resourceData":"x","encryptedContent":[],"tenantId":{},"clientState":"s"}]}`, notification.Collection{Items: []notification.Item{{}}}},
		"a part of the content of the wrong type":   {`{"value":[{"encryptedContent":{"data":7,"dataKey":"k"}}]}`, notification.Collection{Items: []notification.Item{{EncryptedContent: &notification.EncryptedContent{DataKey: "k"}}}}},
		"a missing id is taken from the resource":   {`{"value":[{"resource":"copilot/interactionHistory/interactions('17')","resourceData":{"id":null}}]}`, notification.Collection{Items: []notification.Item{{Resource: "copilot/interactionHistory/interactions('17')", ResourceID: "17"}}}},
		"a resource without an id has none":         {`{"value":[{"resource":"users('17')"},{"resource":"interactions('17"}]}`, notification.Collection{Items: []notification.Item{{Resource: "users('17')"}, {Resource: "interactions('17"}}}},
		"white space around the object":             {" \r\n\t{\"value\":[]}\n", notification.Collection{Items: []notification.Item{}}},
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

func TestInspect_RejectsOtherBodies(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"an empty body":               "",
		"not JSON":                    "hello",
		"null":                        "null",
		"an array":                    `[{"value":[]}]`,
		"a string":                    `"value"`,
		"no value":                    `{}`,
		"a value that is null":        `{"value":null}`,
		"a value that is an object":   `{"value":{}}`,
		"a value that is a string":    `{"value":"[]"}`,
		"an object that does not end": `{"value":[]`,
		"a string that does not end":  `{"value":["a\"`,
		"garbage after the object":    `{"value":[]} x`,
		"another object after it":     `{"value":[]}{"value":[]}`,
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

func TestInspect_LimitsDepth(t *testing.T) {
	t.Parallel()
	nested := func(depth int) []byte {
		// The object itself is the first level.
		return []byte(`{"value":[],"more":` + strings.Repeat("[", depth-1) + strings.Repeat("]", depth-1) + `}`)
	}
	_, err := parse(nested(10_000))
	require.NoError(t, err)
	_, err = parse(nested(10_001))
	require.ErrorIs(t, err, notification.ErrNotCollection)
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(fullBody))
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
		again, err := parse(append(body, " \n"...))
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(got, again), "white space is ignored")
		_, err = parse(append(body, '0'))
		require.ErrorIs(t, err, notification.ErrNotCollection, "what follows the object is garbage")
	})
}

func isOurs(state []byte) bool { return string(state) == "ours" }

func TestInspect_SeparatesOwnItems(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		items        string
		own, foreign int
	}{
		"our client state":                            {`{"clientState":"ours"}`, 1, 0},
		"another one":                                 {`{"clientState":"theirs"}`, 0, 1},
		"none":                                        {`{}`, 0, 1},
		"elements that are not objects":               {`null,7,"ours",["clientState","ours"]`, 0, 4},
		"ours among others":                           {`{},{"clientState":"ours"},{"clientState":"x"}`, 1, 2},
		"ours after the content":                      {`{"encryptedContent":{"data":"]}\"{"},"clientState" : "ours" }`, 1, 0},
		"ours inside another member":                  {`{"resourceData":{"clientState":"ours"}}`, 0, 1},
		"ours as the name of a member":                {`{"x":"clientState","ours":1}`, 0, 1},
		"a client state of another type":              {`{"clientState":["ours"]}`, 0, 1},
		"a name in another case, as in encoding/json": {`{"ClientSTATE":"ours"}`, 1, 0},
		"escapes, which Graph does not use there":     {`{"client\u0053tate":"ours"},{"clientState":"\u006furs"}`, 0, 2},
		"the last of two counts":                      {`{"clientState":"ours","clientState":"x"},{"clientState":"x","clientState":"ours"}`, 1, 1},
		"numbers and literals":                        {`{"a":-1.5e3,"b":true,"c":null,"d":[1,2],"clientState":"ours"}`, 1, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := `{"@odata.context":[{"clientState":"ours"}],"value":[` + test.items + `],"validationTokens":["t"]}`
			envelope, err := notification.Inspect([]byte(body), isOurs)
			require.NoError(t, err)
			assert.Equal(t, test.own, envelope.OwnItems())
			assert.Equal(t, test.foreign, envelope.Foreign)
			rejected := notification.ForeignItems(test.foreign)
			assert.Equal(t, failure.ForeignClientState, failure.Of(rejected.Err).Code)
			assert.Empty(t, rejected.Gap)
			decoded := envelope.Decode()
			assert.Len(t, decoded.Items, test.own)
			if test.own == 0 {
				assert.Empty(t, decoded.ValidationTokens, "not needed without items")
			}
		})
	}
}

// The test is not parallel, since it measures the allocations of the process.
func TestInspect_AllocatesLittleForForeignItems(t *testing.T) {
	for name, item := range map[string]string{
		"empty": `{}`,
		"full": strings.Replace(fullBody[strings.Index(fullBody, `{
    "subscriptionId"`):strings.Index(fullBody, `, {`)], `"state"`, `"`+strings.Repeat("x", 43)+`"`, 1),
		"with a guessed state": `{"clientState":"` + strings.Repeat("x", 43) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			key := contentKey(t, 2048)
			ours := newDecrypter(t, decrypterSettings(firstKey(t), key)).OwnClientState
			body := []byte(`{"value":[` + strings.TrimSuffix(strings.Repeat(item+",", 1000), ",") + `]}`)
			result := testing.Benchmark(func(b *testing.B) {
				b.Helper()
				for b.Loop() {
					envelope, err := notification.Inspect(body, ours)
					require.NoError(b, err)
					require.Equal(b, 1000, envelope.Foreign)
				}
			})
			assert.Less(t, result.AllocedBytesPerOp(), int64(1000), "less than one byte for each item")
		})
	}
}

func TestInspect_CostCountsOnlyOwnItems(t *testing.T) {
	t.Parallel()
	// A lifecycle event is the smallest item that Graph sends.
	member := func(name, value string) string { return fmt.Sprintf("%q:%q,", name, value) }
	item := "{" + member("subscriptionId", tenant) + member("subscriptionExpirationDateTime", "2025-12-04T12:00:00.0000000+02:00") +
		member("clientState", strings.Repeat("o", 43)) + member("tenantId", tenant) + `"lifecycleEvent":"missed"},`
	for n, ours := range map[int]bool{1: true, 1000: true, 20_000: true, 19_999: false} {
		body := []byte(`{"value":[` + strings.TrimSuffix(strings.Repeat(item, n), ",") + `]}`)
		envelope, err := notification.Inspect(body, func([]byte) bool { return ours })
		require.NoError(t, err)
		if !ours {
			assert.Zero(t, envelope.Cost())
			continue
		}
		assert.EqualValues(t, n<<10, envelope.Cost())
	}
}

// FuzzInspect compares the result with that of encoding/json.
func FuzzInspect(f *testing.F) {
	f.Add([]byte(fullBody))
	f.Add([]byte(`{"value":[{"clientState":"ours"},{"clientState":"\u006furs"},{"CLIENTSTATE":"ours","x":[{}]}, 7 ,"a]"]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		envelope, err := notification.Inspect(body, isOurs)
		if err != nil {
			require.ErrorIs(t, err, notification.ErrNotCollection)
			return
		}
		var plain struct {
			Value []struct {
				ClientState string `json:"clientState"`
			} `json:"value"`
		}
		_ = json.Unmarshal(body, &plain) // an error is a member of another type
		if strings.Count(strings.ToLower(string(body)), "val") > 1 || strings.Contains(string(body), `\`) {
			return // encoding/json merges the items of several members with the same name
		}
		require.Len(t, plain.Value, envelope.OwnItems()+envelope.Foreign)
		own := 0
		for _, item := range plain.Value {
			if item.ClientState == "ours" {
				own++
			}
		}
		require.Equal(t, own, envelope.OwnItems())
		require.Len(t, envelope.Decode().Items, own)
	})
}
