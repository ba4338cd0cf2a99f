package endtoend_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

func TestTenCrashesDuring20000InteractionsLoseNothingAndRepeatLittle(t *testing.T) {
	t.Parallel()
	const (
		total   = 20_000
		crashes = 10
		// Half a million an hour, more than a large organization has.
		pace = 75 * time.Millisecond
		each = 10
	)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 1))
	// The exporter repeats the request that was under way during a crash, with what came in one notification: mostly one
	// interaction, as people ask one by one.
	s := newSite(t, "", func(settings *graphtest.Settings) { settings.BatchSize = 1 })
	collector := s.run(t)
	s.subscribed(t)

	in := prompts(t, total, 100)
	published := make(chan error, 1)
	go func() {
		ticker := time.NewTicker(pace)
		defer ticker.Stop()
		var failed error
		for batch := range slices.Chunk(in, each) {
			<-ticker.C
			_, err := s.emulator.Publish(t.Context(), batch...)
			failed = errors.Join(failed, err)
		}
		published <- failed
	}()
	span := time.Duration(total/each) * pace / crashes
	for range crashes {
		<-time.After(time.Duration(chance.Int64N(int64(span))))
		collector.kill9()
		collector = s.run(t)
	}
	require.NoError(t, <-published)
	s.backend.await(t, names(t, in...), 2*time.Minute)
	repeated := s.backend.repetitions()
	t.Logf("%d interactions, %d crashes, %d repetitions at the backend", total, crashes, repeated)
	assert.Less(t, repeated, total/1000)
	assert.Empty(t, s.emulator.Requests(graphtest.OpHistory), "nothing had to be fetched: what Graph was told to be taken survived")
}
