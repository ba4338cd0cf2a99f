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

func TestALinkThatLeadsBackIsNotFollowedForever(t *testing.T) {
	t.Parallel()
	for name, links := range map[string][]string{"to itself": {"7"}, "to the page before": {"7", "8"}, "to one long before": {"5", "6", "7", "8", "9"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newHarness()
				w.users(1)
				n := 0
				w.graph.rewrite = func(page *graph.HistoryPage) {
					page.Next = links[n%len(links)]
					n++
				}
				f, stop := w.run(t)
				f.Open(gap(backfill.Startup))
				pass(3 * time.Minute)
				assert.LessOrEqual(t, len(w.graph.asked()), (len(links)+1)*5, "a few pages for each of five tries")
				assert.Equal(t, time.Hour, f.Missing(time.Now())[backfill.Startup])
				stop()
			})
		})
	}
}

func TestADirectoryWhoseLinksLeadBackIsReadNoFurther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newHarness()
		n := 0
		w.graph.rewriteList = func(page *graph.UserPage) {
			n++
			page.Next = strconv.Itoa(n % 2)
		}
		f, stop := w.run(t)
		f.Open(gap(backfill.Startup))
		pass(3 * time.Minute)
		assert.LessOrEqual(t, len(w.graph.lists()), 3*5*2, "a few pages for each of five tries, and two minutes later once more")
		stop()
	})
}
