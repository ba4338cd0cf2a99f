package backfill_test

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

func TestTheETagTellsCreatedFromUpdated(t *testing.T) {
	t.Parallel()
	for item, wanted := range map[string]interaction.Change{
		`{"id":"1764599405123"}`:                        interaction.Created,
		`{"id":"1764599405123","etag":null}`:            interaction.Created,
		`{"id":"1764599405123","etag":"1764599405123"}`: interaction.Created,
		`{"id":"1764599405123","etag":"1764599409999"}`: interaction.Updated,
	} {
		t.Run(item, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newHarness()
				w.users(1)
				w.graph.rewrite = func(page *graph.HistoryPage) { page.Items = []json.RawMessage{json.RawMessage(item)} }
				f, stop := w.run(t)
				f.Open(gap(backfill.Startup))
				synctest.Wait()
				stop()
				assert.Equal(t, wanted, w.intake.seen().last.Change)
				assert.Equal(t, "1764599405123", w.intake.seen().last.ID)
			})
		})
	}
}

func TestAnItemThatCannotBeReadIsSkippedAndSaidOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		w.users(5, time.Now().Add(-150*time.Minute))
		w.graph.rewrite = func(page *graph.HistoryPage) {
			page.Items = append([]json.RawMessage{json.RawMessage(`{"no":"id"}`), json.RawMessage(`[]`)}, page.Items...)
		}
		f, stop := w.run(t)
		f.Open(gap(backfill.Startup))
		pass(time.Minute)
		stop()
		assert.Equal(t, 5, w.intake.distinct())
		assert.Equal(t, 1, w.said("can't be read and is skipped"))
		assert.EqualValues(t, 10, w.logs.FilterMessage("history read").All()[0].ContextMap()["unreadable"])
		assert.Equal(t, map[backfill.Reason]int{backfill.Startup: 1}, w.telemetry.copy().closed)
	})
}

func TestAShutdownInTheMiddleOfAnythingEndsRun(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(w *harness){
		"while nothing is to do":         func(w *harness) {},
		"during a request":               func(w *harness) { w.graph.took = time.Hour },
		"while Graph asks to stay away":  func(w *harness) { w.graph.fail = func(request) error { return refusal(429, "", time.Hour) } },
		"while the pipeline takes none":  func(w *harness) { w.intake.refuse = func() error { return errStore } },
		"while a user waits for a retry": func(w *harness) { w.graph.fail = func(request) error { return errStore } },
		"while the directory fails": func(w *harness) {
			w.settings.Users = nil
			w.graph.failList = func() error { return errStore }
		},
		"while the directory asks to stay away": func(w *harness) {
			w.settings.Users = nil
			w.graph.failList = func() error { return refusal(503, "", time.Hour) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newHarness()
				w.users(50, time.Now().Add(-150*time.Minute))
				prepare(w)
				f, stop := w.run(t)
				if name != "while nothing is to do" {
					f.Open(gap(backfill.Startup))
				}
				pass(1200 * time.Millisecond)
				asked := time.Now()
				stop()
				assert.Equal(t, asked, time.Now(), "at once")
				if name != "while nothing is to do" {
					assert.Equal(t, time.Hour, f.Missing(time.Now())[backfill.Startup], "and the gap stays")
				}
			})
		})
	}
}
