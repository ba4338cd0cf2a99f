package translate_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// countsBy sums the count over all series with the same value of an attribute.
func countsBy(t *testing.T, metrics pmetric.Metrics, attribute string) map[string]int64 {
	t.Helper()
	counts := map[string]int64{}
	for _, point := range find(t, metrics, countName).Sum().DataPoints().All() {
		counts[value(t, point.Attributes(), attribute).(string)] += point.IntValue()
	}
	return counts
}

func TestAppNamesPastTheBoundCountAsOther(t *testing.T) {
	t.Parallel()
	metrics := newMetrics()
	for n := range 1000 {
		metrics.Add([]interaction.Received{
			created(fmt.Sprintf("App%d", n), "userPrompt", interaction.FromNotification, time.Second),
		})
	}
	metrics.Add([]interaction.Received{
		created("App0", "userPrompt", interaction.FromNotification, time.Second),
		created("App999", "userPrompt", interaction.FromNotification, time.Second),
	})
	counts := countsBy(t, metrics.Collect(collected()), "microsoft.copilot.app.name")
	assert.Len(t, counts, 201)
	assert.EqualValues(t, 2, counts["App0"], "a name seen before the bound stays itself")
	assert.EqualValues(t, 1, counts["App199"])
	assert.EqualValues(t, 801, counts["other"])
}

func TestInteractionTypesPastTheBoundCountAsOther(t *testing.T) {
	t.Parallel()
	metrics := newMetrics()
	for n := range 100 {
		metrics.Add([]interaction.Received{
			created("Word", fmt.Sprintf("type%d", n), interaction.FromNotification, time.Second),
		})
	}
	counts := countsBy(t, metrics.Collect(collected()), "microsoft.copilot.interaction.type")
	assert.Len(t, counts, 11)
	assert.EqualValues(t, 1, counts["type9"])
	assert.EqualValues(t, 90, counts["other"])
}

func TestTheSameObservationsAreEmittedInTheSameOrder(t *testing.T) {
	t.Parallel()
	emit := func(reverse bool) string {
		metrics := newMetrics()
		for n := range 50 {
			if reverse {
				n = 49 - n
			}
			metrics.Add([]interaction.Received{
				created(fmt.Sprintf("App%d", n), "userPrompt", interaction.FromNotification, time.Second),
			})
		}
		data, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(metrics.Collect(collected()))
		require.NoError(t, err)
		return string(data)
	}
	want := emit(false)
	assert.Equal(t, want, emit(true))
	assert.Equal(t, want, emit(false))
}

func TestConcurrentAddsAreAllCountedAndNeverCountDown(t *testing.T) {
	t.Parallel()
	const adders, adds = 8, 200
	metrics := newMetrics()
	metrics.Add(prompts(time.Second))
	var wg sync.WaitGroup
	for range adders {
		wg.Go(func() {
			for range adds {
				metrics.Add(prompts(time.Second, time.Minute))
			}
		})
	}
	var last int64
	for range adds {
		now := find(t, metrics.Collect(collected()), countName).Sum().DataPoints().At(0).IntValue()
		assert.GreaterOrEqual(t, now, last)
		last = now
	}
	wg.Wait()
	got := metrics.Collect(collected())
	assert.EqualValues(t, 2*adders*adds+1, find(t, got, countName).Sum().DataPoints().At(0).IntValue())
	assert.EqualValues(t, 2*adders*adds+1, find(t, got, delayName).Histogram().DataPoints().At(0).Count())
}

func TestAnAbsentValueStaysAbsentPastTheBound(t *testing.T) {
	t.Parallel()
	metrics := newMetrics()
	for n := range 300 {
		metrics.Add([]interaction.Received{
			created(fmt.Sprintf("App%d", n), fmt.Sprintf("type%d", n), interaction.FromNotification, time.Second),
		})
	}
	metrics.Add([]interaction.Received{created("", "", interaction.FromNotification, time.Second)})
	first := find(t, metrics.Collect(collected()), countName).Sum().DataPoints().At(0)
	assert.Equal(t, map[string]any{"microsoft.copilot.source": "notification"}, first.Attributes().AsRaw())
	assert.EqualValues(t, 1, first.IntValue())
}
