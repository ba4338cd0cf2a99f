package webhook_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

func stateIsOurs(state []byte) bool { return string(state) == "ours" }

func TestHandler_OpensOnlyItemsOfOurs(t *testing.T) {
	t.Parallel()
	around := newHarness()
	around.ours = stateIsOurs
	answer := answerTo(around.handler(), notify(t.Context(), `{"value":[{},{"clientState":"ours"},{"clientState":"x"},7]}`))
	assert.Equal(t, http.StatusAccepted, answer.StatusCode)
	assert.Equal(t, []part{"reject client_state", "open", "take"}, around.happened())
	assert.Equal(t, []notification.Rejection{notification.ForeignItems(3)}, around.rejected)
	assert.Equal(t, counts{webhook.Delivered: 1}, around.counted())
}

func TestHandler_AnswersForeignItemsAsAnyOther(t *testing.T) {
	t.Parallel()
	around := newHarness()
	around.ours = stateIsOurs
	handler := around.handler()
	answer := answerTo(handler, notify(t.Context(), `{"value":[{},{}]}`))
	assert.Equal(t, http.StatusAccepted, answer.StatusCode)
	assertPlain(t, answer)
	assert.Equal(t, []part{"reject client_state"}, around.happened(), "nothing is opened, in one call for all items")
	assert.Zero(t, handler.InFlightBytes())
}

// 60 KB of empty items became 38 MB when each was decoded and kept. It counts what the process allocates, so nothing runs
// beside it.
func TestHandler_LeavesLittleOfForeignItems(t *testing.T) {
	around := newHarness()
	around.ours = stateIsOurs
	opensTo(notification.Opened{})(around)
	handler := around.handler()
	body := `{"value":[` + strings.TrimSuffix(strings.Repeat("{},", 19_999), ",") + `]}`
	const posts = 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range posts {
		require.Equal(t, http.StatusAccepted, answerTo(handler, notify(t.Context(), body)).StatusCode)
	}
	runtime.ReadMemStats(&after)
	assert.Less(t, (after.TotalAlloc-before.TotalAlloc)/posts, uint64(megabytes))
}

// What is decoded is charged before, so that the budget bounds it too.
func TestHandler_ChargesForWhatItDecodes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		around := newHarness()
		around.ours = stateIsOurs
		unblock := around.blockTake(nil)
		settings := around.settings()
		settings.MaxInFlightBytes = 2 * megabytes
		handler := webhook.NewHandler(settings)
		items := func(n int) string {
			return `{"value":[` + strings.TrimSuffix(strings.Repeat(`{"clientState":"ours"},{},`, n), ",") + `]}`
		}
		body := items(1000)
		blocked := send(t, handler, -1)
		blocked.write(t, body)
		require.NoError(t, blocked.body.Close())
		synctest.Wait()
		assert.EqualValues(t, len(body)+1000*decodedItem, handler.InFlightBytes())

		answer := answerTo(handler, notify(t.Context(), items(800)))
		assert.Equal(t, http.StatusServiceUnavailable, answer.StatusCode)
		assert.Equal(t, counts{webhook.Overloaded: 1}, around.counted())
		assert.EqualValues(t, len(body)+1000*decodedItem, handler.InFlightBytes())
		unblock()
		<-blocked.answer
		assert.Zero(t, handler.InFlightBytes())
	})
}

// The largest body that the configuration permits is taken in with the smallest budget that it permits.
func TestLeastInFlightBytes_AdmitsLargestBody(t *testing.T) {
	t.Parallel()
	item := fmt.Sprintf(`{"clientState":%q},`, strings.Repeat("o", 256-len(`{"clientState":""},`)))
	for _, size := range []int{1, 100, 4096, 30 << 10, 64 << 10, 100_000, megabytes, 3 * megabytes} {
		body := `{"value":[` + strings.Repeat(item, min(size/len(item), 20_000))
		body = strings.TrimSuffix(body, ",") + "]}"
		body = body[:len(body)-2] + strings.Repeat(" ", max(size-len(body), 0)) + "]}"
		settings := newHarness().settings()
		settings.MaxBodySize = int64(len(body))
		settings.MaxInFlightBytes = webhook.MinInFlightBytes(settings.MaxBodySize)
		assert.Equal(t, http.StatusAccepted, answerTo(webhook.NewHandler(settings), notify(t.Context(), body)).StatusCode, "%d bytes", len(body))
	}
	assert.Positive(t, webhook.MinInFlightBytes(1<<63-1))
}

// Bodies of strangers that wait to be decoded are answered in time, too, and those of usual size don't wait for large ones.
func TestHandler_DecodesFewBodiesAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		around := newHarness()
		var decoding, most atomic.Int32
		release := make(chan struct{})
		around.ours = func([]byte) bool {
			most.Store(max(most.Load(), decoding.Add(1)))
			<-release
			decoding.Add(-1)
			return false
		}
		handler := around.handler()
		began := time.Now()
		answers := map[int]int{}
		var senders []*sender
		for i := range 20 {
			s := send(t, handler, -1)
			senders = append(senders, s)
			s.write(t, padded([]int{len(oneItem), 100_000}[i%2]))
			require.NoError(t, s.body.Close())
			synctest.Wait()
		}
		assert.EqualValues(t, 3, most.Load(), "two small ones and a large one")
		time.Sleep(2500 * time.Millisecond)
		synctest.Wait()
		close(release)
		for _, s := range senders {
			answers[(<-s.answer).StatusCode]++
		}
		assert.Equal(t, map[int]int{http.StatusAccepted: 3, http.StatusServiceUnavailable: 17}, answers)
		assert.Equal(t, 2500*time.Millisecond, time.Since(began))
		assert.Equal(t, counts{webhook.Overloaded: 17}, around.counted())
		assert.Zero(t, handler.InFlightBytes())
	})
}

// A 400 that only the receiver's own limits caused says what is missing before the sender is answered, but only where the
// sender knows a clientState.
func TestHandler_RejectsWhatOnlyLimitsRefuse(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]int{"ours": 1, "theirs": 0} {
		around := newHarness()
		around.ours = stateIsOurs
		item := `{"clientState":"` + state + `","resourceData":{"id":"1764599405123"},"x":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `}`
		answer := answerTo(around.handler(), notify(t.Context(), `{"value":[`+item+`]}`))
		assert.Equal(t, http.StatusBadRequest, answer.StatusCode)
		assertPlain(t, answer)
		assert.Equal(t, counts{webhook.Malformed: 1}, around.counted())
		require.Len(t, around.rejected, want)
		for _, r := range around.rejected {
			assert.Equal(t, notification.GapUnverified, r.Gap)
			assert.Equal(t, "1764599405123", r.ItemID)
		}
	}
}

// Microsoft Graph gives such a notification up in silence, so the log says what to do; strangers can't fill it.
func TestHandler_LogsBodyOverLimitOnceAMinute(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		announced int64
		size      string
	}{
		"an announced size": {megabytes + 7, "1048583"},
		"no announced size": {-1, "more than 1048576"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				around := newHarness()
				settings := around.settings()
				core, lines := observer.New(zap.DebugLevel)
				settings.Logger, settings.MaxBodySize = zap.New(core), megabytes
				settings.Overloaded = func(time.Time) { t.Error("told of an overload") }
				handler := webhook.NewHandler(settings)
				post := func() {
					r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, bytes.NewReader(make([]byte, megabytes+7)))
					r.Header.Set("Content-Type", "application/json")
					r.ContentLength = test.announced
					assert.Equal(t, http.StatusRequestEntityTooLarge, answerTo(handler, r).StatusCode)
				}
				post()
				time.Sleep(59 * time.Second)
				post()
				require.Equal(t, 1, lines.Len())
				time.Sleep(time.Second)
				post()
				require.Equal(t, 2, lines.Len())
				line := lines.All()[0]
				assert.Equal(t, zap.WarnLevel, line.Level)
				assert.Contains(t, line.Message, "webhook.max_request_body_size")
				fields := line.ContextMap()
				assert.Equal(t, test.size, fields["size_bytes"])
				assert.EqualValues(t, megabytes, fields["limit_bytes"])
				assert.Contains(t, fields["hint"], "raise webhook.max_request_body_size")
				assert.Equal(t, counts{webhook.TooLarge: 3}, around.counted())
				assert.Empty(t, around.happened(), "it opens no gap: nobody knows who sent it")
			})
		})
	}
}
