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

func TestBackfiller_DerivesChangeFromETag(t *testing.T) {
	t.Parallel()
	for raw, wanted := range map[string]interaction.Change{
		`{"id":"1764599405123"}`:                        interaction.Created,
		`{"id":"1764599405123","etag":null}`:            interaction.Created,
		`{"id":"1764599405123","etag":"1764599405123"}`: interaction.Created,
		`{"id":"1764599405123","etag":"1764599409999"}`: interaction.Updated,
	} {
		t.Run(raw, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				h.users(1)
				h.graph.rewrite = func(page *graph.HistoryPage) { page.Items = []json.RawMessage{json.RawMessage(raw)} }
				b, stop := h.run(t)
				b.Open(gap(backfill.Startup))
				synctest.Wait()
				stop()
				assert.Equal(t, wanted, h.intake.snapshot().last.Change)
				assert.Equal(t, "1764599405123", h.intake.snapshot().last.ID)
			})
		})
	}
}

func TestBackfiller_SkipsUnreadableItem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		h.users(5, time.Now().Add(-150*time.Minute))
		h.graph.rewrite = func(page *graph.HistoryPage) {
			page.Items = append([]json.RawMessage{json.RawMessage(`{"no":"id"}`), json.RawMessage(`[]`)}, page.Items...)
		}
		b, stop := h.run(t)
		b.Open(gap(backfill.Startup))
		advance(time.Minute)
		stop()
		assert.Equal(t, 5, h.intake.distinct())
		assert.Equal(t, 1, h.logged("can't be read and is skipped"))
		assert.EqualValues(t, 10, h.logs.FilterMessage("history read").All()[0].ContextMap()["unreadable"])
		assert.Equal(t, map[backfill.Reason]int{backfill.Startup: 1}, h.telemetry.copy().closed)
	})
}

func TestBackfiller_StopsAtOnce(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(h *harness){
		"while nothing is to do":         func(h *harness) {},
		"during a request":               func(h *harness) { h.graph.latency = time.Hour },
		"while Graph asks to stay away":  func(h *harness) { h.graph.fail = func(request) error { return graphError(429, "", time.Hour) } },
		"while the pipeline takes none":  func(h *harness) { h.intake.refuse = func() error { return errStore } },
		"while a user waits for a retry": func(h *harness) { h.graph.fail = func(request) error { return errStore } },
		"while the directory fails": func(h *harness) {
			h.settings.Users = nil
			h.graph.failList = func() error { return errStore }
		},
		"while the directory asks to stay away": func(h *harness) {
			h.settings.Users = nil
			h.graph.failList = func() error { return graphError(503, "", time.Hour) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				h.users(50, time.Now().Add(-150*time.Minute))
				prepare(h)
				b, stop := h.run(t)
				if name != "while nothing is to do" {
					b.Open(gap(backfill.Startup))
				}
				advance(1200 * time.Millisecond)
				asked := time.Now()
				stop()
				assert.Equal(t, asked, time.Now(), "at once")
				if name != "while nothing is to do" {
					assert.Equal(t, time.Hour, b.Missing(time.Now())[backfill.Startup], "and the gap stays")
				}
			})
		})
	}
}
