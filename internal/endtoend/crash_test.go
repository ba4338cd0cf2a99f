package endtoend_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

func TestTenCrashesDuring20000InteractionsLoseNothingAndRepeatLittle(t *testing.T) {
	t.Parallel()
	const (
		total   = 20_000
		crashes = 10
		pace    = 50 * time.Millisecond
		each    = 20
	)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // moments, not secrets
	s := newSite(t, "")
	collector := s.run(t)
	s.subscribed(t)

	published := make(chan []graphtest.Interaction, 1)
	go func() {
		all := prompts(t, 0, total, 100)
		ticker := time.NewTicker(pace)
		defer ticker.Stop()
		for i := 0; i < total; i += each {
			<-ticker.C
			s.publish(t, all[i:i+each]...)
		}
		published <- all
	}()
	span := time.Duration(total/each) * pace / crashes
	for range crashes {
		<-time.After(time.Duration(chance.Int64N(int64(span))))
		collector.kill9()
		collector = s.run(t)
	}
	in := <-published
	s.backend.await(t, names(t, in...), 2*time.Minute)
	repeated := s.backend.repetitions()
	t.Logf("%d interactions, %d crashes, %d repetitions at the backend", total, crashes, repeated)
	assert.Less(t, repeated, total/1000)
}
