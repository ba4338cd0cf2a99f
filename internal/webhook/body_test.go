package webhook_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

// sender is a request whose body arrives piece by piece.
type sender struct {
	body   *io.PipeWriter
	answer chan *http.Response
}

// send starts a request that announces length bytes, -1 for none.
func send(t *testing.T, handler http.Handler, length int64) *sender {
	t.Helper()
	reader, writer := io.Pipe()
	s := &sender{body: writer, answer: make(chan *http.Response, 1)}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, reader)
	r.Header.Set("Content-Type", "application/json")
	r.ContentLength = length
	go func() {
		s.answer <- answerTo(handler, r)
		// As net/http does after the handler: a sender that still writes learns that nobody reads.
		_ = reader.Close()
	}()
	return s
}

func (s *sender) write(t *testing.T, piece string) {
	t.Helper()
	_, err := io.WriteString(s.body, piece)
	require.NoError(t, err)
}

// decodedItem is what an item is charged beyond its bytes.
const decodedItem = 1024

func TestASlowSenderHoldsOnlyWhatItSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		around := newHarness()
		handler := around.handler()
		slow := send(t, handler, 10*megabytes)
		synctest.Wait()
		assert.EqualValues(t, minimumShare, handler.InFlightBytes(), "a header reserves nothing")

		body := padded(100_000)
		slow.write(t, body[:10])
		synctest.Wait()
		assert.EqualValues(t, minimumShare, handler.InFlightBytes())
		for sent := 10; sent < len(body); sent += 9_999 {
			slow.write(t, body[sent:min(sent+9_999, len(body))])
			synctest.Wait()
			assert.EqualValues(t, max(minimumShare, min(sent+9_999, len(body))), handler.InFlightBytes())
		}
		require.NoError(t, slow.body.Close())

		assert.Equal(t, http.StatusAccepted, (<-slow.answer).StatusCode)
		assert.Zero(t, handler.InFlightBytes())
	})
}

func TestAFullBudgetIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		around := newHarness()
		unblock := around.blockTake(nil)
		settings := around.settings()
		settings.MaxInFlightBytes = 4 * megabytes
		handler := webhook.NewHandler(settings)

		began := time.Now()
		var blocked []*sender
		for range 3 {
			one := send(t, handler, -1)
			one.write(t, padded(megabytes))
			require.NoError(t, one.body.Close())
			blocked = append(blocked, one)
			synctest.Wait()
		}
		growing := send(t, handler, -1)
		growing.write(t, padded(50_000))
		synctest.Wait()

		_, err := io.WriteString(growing.body, padded(2*megabytes))
		require.ErrorIs(t, err, io.ErrClosedPipe, "the rest is not read")
		refused := <-growing.answer

		assert.Equal(t, http.StatusServiceUnavailable, refused.StatusCode)
		assert.Equal(t, "5", refused.Header.Get("Retry-After"))
		assert.Equal(t, "close", refused.Header.Get("Connection"))
		assert.Zero(t, time.Since(began), "without waiting")
		assert.EqualValues(t, 3*(megabytes+decodedItem), handler.InFlightBytes(), "what was refused holds nothing")
		assert.Equal(t, counts{webhook.Overloaded: 1}, around.counted())

		unblock()
		for _, one := range blocked {
			assert.Equal(t, http.StatusAccepted, (<-one.answer).StatusCode)
		}
		assert.Equal(t, http.StatusAccepted, answerTo(handler, notify(t.Context(), padded(2*megabytes))).StatusCode, "all room is back")
	})
}

func TestSmallBodiesAreBoundedInNumber(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		around := newHarness()
		unblock := around.blockTake(nil)
		settings := around.settings()
		settings.MaxInFlightBytes = 10 * minimumShare
		handler := webhook.NewHandler(settings)
		statuses := map[int]int{}
		var answers []chan *http.Response
		for range 15 {
			s := send(t, handler, -1)
			answers = append(answers, s.answer)
			_, _ = io.WriteString(s.body, oneItem)
			_ = s.body.Close()
		}
		synctest.Wait()
		unblock()
		for _, answer := range answers {
			statuses[(<-answer).StatusCode]++
		}
		assert.Equal(t, map[int]int{http.StatusAccepted: 10, http.StatusServiceUnavailable: 5}, statuses)
	})
}

// The body takes the whole timeout to arrive. Its delivery still gets a tenth of the timeout, so that the sender learns
// of a success; a blocked one is answered when that is over.
func TestALateBodyIsStillDelivered(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		pipeline time.Duration
		status   int
		answered time.Duration
	}{
		"and accepted if the pipeline is quick": {100 * time.Millisecond, http.StatusAccepted, 5100 * time.Millisecond},
		"and refused if it is not":              {time.Second, http.StatusServiceUnavailable, 5250 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				around := newHarness()
				around.slowTake(test.pipeline)
				began := time.Now()
				slow := send(t, around.handler(), -1)
				time.Sleep(5 * time.Second)
				slow.write(t, oneItem)
				require.NoError(t, slow.body.Close())

				assert.Equal(t, test.status, (<-slow.answer).StatusCode)
				assert.Equal(t, test.answered, time.Since(began))
				time.Sleep(time.Minute)
				assert.Contains(t, around.happened(), part("take"))
			})
		})
	}
}

// Anybody can have requests turned away, so it says nothing of Microsoft Graph unless its own notifications fill the room.
func TestHandler_TellsOfOverloadsThatDeliveriesCause(t *testing.T) {
	t.Parallel()
	const room = 16 * minimumShare
	for name, test := range map[string]struct {
		deliveries int
		told       int
	}{
		"a flood alone is not told of":                         {0, 0},
		"a flood beside a few deliveries is not told of":       {7, 0},
		"deliveries that hold half of the room are told of":    {8, 1},
		"deliveries that hold all of the room are told of too": {16, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				around := newHarness()
				unblock := around.blockTake(nil)
				settings := around.settings()
				told := 0
				settings.MaxInFlightBytes = room
				settings.Overloaded = func(time.Time) { told++ }
				handler := webhook.NewHandler(settings)
				for range 16 {
					s := send(t, handler, -1)
					if test.deliveries--; test.deliveries >= 0 {
						s.write(t, oneItem)
						require.NoError(t, s.body.Close())
					}
					defer func() { _ = s.body.Close() }()
				}
				synctest.Wait()
				assert.Equal(t, http.StatusServiceUnavailable, answerTo(handler, notify(t.Context(), oneItem)).StatusCode)
				assert.Equal(t, test.told, told)
				unblock()
			})
		})
	}
}

func TestHandler_TellsOfOverloadThatItsOwnItemsCause(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]int{"ours": 1, "theirs": 0} {
		around := newHarness()
		around.ours = func(state []byte) bool { return string(state) == "ours" }
		settings := around.settings()
		told := 0
		settings.MaxInFlightBytes = minimumShare
		settings.Overloaded = func(time.Time) { told++ }
		body := `{"value":[{"clientState":"` + state + `"}]}`
		body += strings.Repeat(" ", minimumShare-len(body))
		answer := answerTo(webhook.NewHandler(settings), notify(t.Context(), body))
		assert.Equal(t, want == 1, answer.StatusCode == http.StatusServiceUnavailable, "what is not decoded needs no room")
		assert.Equal(t, want, told)
	}
}
