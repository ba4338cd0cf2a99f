package backfill_test

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/otelcopilot/m365copilotreceiver/internal/backfill"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

func TestBackfiller_StopsAtCyclicPageLinks(t *testing.T) {
	t.Parallel()
	for name, links := range map[string][]string{"to itself": {"7"}, "to the page before": {"7", "8"}, "to one long before": {"5", "6", "7", "8", "9"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness()
				h.users(1)
				n := 0
				h.graph.rewrite = func(page *graph.HistoryPage) {
					page.Next = links[n%len(links)]
					n++
				}
				b, stop := h.run(t)
				b.Open(gap(backfill.Startup))
				advance(3 * time.Minute)
				assert.LessOrEqual(t, len(h.graph.historyRequests()), (len(links)+1)*5, "a few pages for each of five tries")
				assert.Equal(t, time.Hour, b.Missing(time.Now())[backfill.Startup])
				stop()
			})
		})
	}
}

func TestDirectory_StopsAtCyclicPageLinks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		n := 0
		h.graph.rewriteList = func(page *graph.UserPage) {
			n++
			page.Next = strconv.Itoa(n % 2)
		}
		b, stop := h.run(t)
		b.Open(gap(backfill.Startup))
		advance(3 * time.Minute)
		assert.LessOrEqual(t, len(h.graph.directoryRequests()), 3*5*2, "a few pages for each of five tries, and two minutes later once more")
		stop()
	})
}
