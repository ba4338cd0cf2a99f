package dedupe_test

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zapcore"

	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
)

func TestAFailingStoreLosesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kept, out := newStore(), &outlet{}
		in, logs := start(t, out, kept, many)
		ctx, cancel := context.WithCancel(t.Context())
		go in.Run(ctx)
		deliver(t, in, 0, 10, 1)
		kept.fail(errStore)
		deliver(t, in, 10, 5000, 10)
		time.Sleep(10 * time.Minute)
		assert.Len(t, out.got, 5000, "a duplicate after a restart is better than a loss")
		assert.Zero(t, unknown(in, 0, 5000), "and until then there is none")
		require.ErrorIs(t, in.Save(t.Context()), errStore)
		require.Equal(t, 1, logs.Len(), "said once")
		assert.Equal(t, zapcore.WarnLevel, logs.All()[0].Level)
		assert.Contains(t, logs.All()[0].ContextMap()["error"], "disk full")

		kept.mend()
		deliver(t, in, 5000, 5001, 1)
		synctest.Wait()
		require.Equal(t, 2, logs.Len(), "and once that it is over")
		assert.Equal(t, zapcore.InfoLevel, logs.All()[1].Level)
		cancel()
		in, _ = start(t, &outlet{}, kept, many)
		assert.Zero(t, unknown(in, 0, 5001), "what could not be written was written later")
	})
}

func TestAStoreThatIsBackIsFilledWithoutADelivery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kept := newStore()
		in, logs := start(t, &outlet{}, kept, nil)
		ctx, cancel := context.WithCancel(t.Context())
		go in.Run(ctx)
		kept.fail(errStore)
		deliver(t, in, 0, 10, 1)
		kept.mend()
		time.Sleep(2 * time.Minute)
		cancel()
		assert.Equal(t, 2, logs.Len())
		in, _ = start(t, &outlet{}, kept, nil)
		assert.Zero(t, unknown(in, 0, 10))
	})
}

func TestAMergeThatFailsLeavesTheSegments(t *testing.T) {
	t.Parallel()
	kept := newStore()
	in, _ := start(t, &outlet{}, kept, nil)
	deliver(t, in, 0, 40, 1)
	kept.before = func(key string) error {
		if strings.HasPrefix(key, "seen/c/") {
			return errStore
		}
		return nil
	}
	require.ErrorIs(t, in.Save(t.Context()), errStore)
	deliver(t, in, 40, 60, 1)
	kept.mend()
	in, logs := start(t, &outlet{}, kept, nil)
	assert.Zero(t, unknown(in, 0, 60))
	assert.Zero(t, logs.Len())
}

func TestAStoreThatHangsHoldsADeliveryUpForASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kept := &hanging{store: newStore()}
		in := newIntake(t, &outlet{}, func(set *dedupe.Settings) { set.Store = kept })
		require.NoError(t, in.Load(t.Context()))
		begin := time.Now()
		var all []taking
		for n := range 64 {
			all = append(all, take(t.Context(), in, item(strconv.Itoa(n))))
		}
		for _, one := range all {
			require.NoError(t, <-one.end)
		}
		assert.Equal(t, 2*time.Second, time.Since(begin), "the first write, then that for all the others")
	})
}

// hanging is a store whose writes never end by themselves.
type hanging struct{ *store }

func (h *hanging) Set(ctx context.Context, _ string, _ []byte) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestWhatWasDeliveredIsWrittenEvenIfNobodyWaits(t *testing.T) {
	t.Parallel()
	kept := newStore()
	in, _ := start(t, &outlet{}, kept, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, in.Take(ctx, items(0, 1)), "the outlet took it")
	in, _ = start(t, &outlet{}, kept, nil)
	assert.Zero(t, unknown(in, 0, 1))
}

func TestSavingAndLoadingEndWithTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kept, open := newStore(), make(chan struct{})
		in, _ := start(t, &outlet{}, kept, nil)
		var once sync.Once
		kept.before = func(string) error { once.Do(func() { <-open }); return nil }
		one := take(t.Context(), in, item("1"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, in.Save(ctx), context.DeadlineExceeded, "a write is under way")
		require.ErrorIs(t, in.Load(ctx), context.DeadlineExceeded)

		ended := make(chan struct{})
		running, stop := context.WithCancel(t.Context())
		go func() { in.Run(running); close(ended) }()
		time.Sleep(2 * time.Minute)
		stop()
		<-ended
		close(open)
		assert.NoError(t, <-one.end)
	})
}
