package notification_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

func isOurs(state []byte) bool { return string(state) == "ours" }

func TestInspect_TellsItemsApart(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		items        string
		own, foreign int
	}{
		"our client state":                         {`{"clientState":"ours"}`, 1, 0},
		"another one":                              {`{"clientState":"theirs"}`, 0, 1},
		"none":                                     {`{}`, 0, 1},
		"what is no object":                        {`null,7,"ours",["clientState","ours"]`, 0, 4},
		"ours among others":                        {`{},{"clientState":"ours"},{"clientState":"x"}`, 1, 2},
		"ours behind the content":                  {`{"encryptedContent":{"data":"]}\"{"},"clientState" : "ours" }`, 1, 0},
		"ours inside another member":               {`{"resourceData":{"clientState":"ours"}}`, 0, 1},
		"ours as the name of a member":             {`{"x":"clientState","ours":1}`, 0, 1},
		"a client state of another type":           {`{"clientState":["ours"]}`, 0, 1},
		"a name in another case, as for the codec": {`{"ClientSTATE":"ours"}`, 1, 0},
		"escapes":                                  {`{"client\u0053tate":"\u006furs"}`, 1, 0},
		"the last of two counts":                   {`{"clientState":"ours","clientState":"x"},{"clientState":"x","clientState":"ours"}`, 1, 1},
		"numbers and literals":                     {`{"a":-1.5e3,"b":true,"c":null,"d":[1,2],"clientState":"ours"}`, 1, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := `{"@odata.context":[{"clientState":"ours"}],"value":[` + test.items + `],"validationTokens":["t"]}`
			envelope, err := notification.Inspect([]byte(body), isOurs)
			require.NoError(t, err)
			assert.Equal(t, test.own, envelope.OwnItems())
			assert.Equal(t, test.foreign, envelope.Foreign)
			decoded := envelope.Decode()
			assert.Len(t, decoded.Items, test.own)
			for _, item := range decoded.Items {
				assert.Equal(t, "ours", item.ClientState, "as the codec reads it")
			}
			if test.own == 0 {
				assert.Empty(t, decoded.ValidationTokens, "nobody needs them")
			}
		})
	}
}

// It counts what the process allocates, so nothing runs beside it.
func TestInspect_LeavesNothingOfForeignItems(t *testing.T) {
	for name, item := range map[string]string{
		"empty": `{}`,
		"full": strings.Replace(rich[strings.Index(rich, `{
    "subscriptionId"`):strings.Index(rich, `, {`)], `"state"`, `"`+strings.Repeat("x", 43)+`"`, 1),
		"with a guessed state": `{"clientState":"` + strings.Repeat("x", 43) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			key := contentKey(t, 2048)
			ours, err := notification.NewDecrypter(openerSettings(firstKey(t), key)).ClientStates()
			require.NoError(t, err)
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

func TestInspect_ChargesOnlyForItemsOfOurs(t *testing.T) {
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
		assert.LessOrEqual(t, envelope.Cost(), notification.MaxCost(int64(len(body))), "the budget is made for it")
	}
}

// A limit of this receiver is no reason to lose what Graph may have sent.
func TestInspect_SaysWhatOnlyItsLimitsRefuse(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 24, 12, 0, 30, 0, time.UTC)
	own := func(id string) string { return fmt.Sprintf(`{"clientState":"ours","resourceData":{"id":%q}}`, id) }
	id := func(at time.Time) string { return strconv.FormatInt(at.UnixMilli(), 10) }
	deep := strings.Repeat("[", 100) + strings.Repeat("]", 100)
	tests := map[string]struct {
		body string
		is   error
		want []notification.Rejection
	}{
		"too many, none of them ours": {`{"value":[` + strings.Repeat(`{},`, 20_000) + `{}]}`, notification.ErrTooMany, nil},
		"too deep, none of them ours": {`{"value":[{"x":` + deep + `}]}`, notification.ErrTooDeep, nil},
		"too deep for anybody":        {`{"value":[` + own("") + `],"x":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`, notification.ErrNotCollection, nil},
		"too deep, with one of ours": {
			`{"value":[{"x":` + deep + `},` + own(id(at)) + `]}`, notification.ErrTooDeep,
			[]notification.Rejection{{Count: 1, Gap: notification.GapUnverified, ItemID: id(at)}},
		},
		"too many, of two minutes, of none, and a lifecycle event": {
			`{"value":[` + strings.Repeat(own(id(at))+","+own(id(at.Add(10*time.Second)))+",", 10_000) + own(id(at.Add(time.Hour))) + "," + own("x") +
				`,{"clientState":"ours","lifecycleEvent":"missed"},{}]}`, notification.ErrTooMany,
			[]notification.Rejection{
				{Count: 20_000, Gap: notification.GapUnverified, ItemID: id(at)},
				{Count: 1, Gap: notification.GapUnverified, ItemID: id(at.Add(time.Hour))},
				{Count: 1, Gap: notification.GapUnverified, ItemID: "x"},
				{Count: 1},
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := notification.Inspect([]byte(test.body), isOurs)
			require.ErrorIs(t, err, notification.ErrNotCollection)
			require.ErrorIs(t, err, test.is)
			var limit *notification.LimitError
			if test.want == nil {
				require.NotErrorAs(t, err, &limit)
				return
			}
			require.ErrorAs(t, err, &limit)
			for i := range limit.Rejected {
				require.ErrorIs(t, limit.Rejected[i].Err, test.is)
				assert.Equal(t, notification.ReasonLimit, limit.Rejected[i].Reason)
				limit.Rejected[i].Err, limit.Rejected[i].Reason = nil, ""
			}
			assert.Equal(t, test.want, limit.Rejected)
		})
	}
}

// FuzzInspect compares with encoding/json, which decodes everything.
func FuzzInspect(f *testing.F) {
	f.Add([]byte(rich))
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
			return // of several members with one name the codec merges the items
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
