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

func TestJournal_LosesNothingWhileStoreFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stored, out := newFakeStore(), &fakePipeline{}
		d, logs := start(t, out, stored, with100000Entries)
		ctx, cancel := context.WithCancel(t.Context())
		go d.Run(ctx)
		deliver(t, d, 0, 10, 1)
		stored.fail(errStore)
		deliver(t, d, 10, 5000, 10)
		time.Sleep(10 * time.Minute)
		assert.Len(t, out.got, 5000, "a duplicate after a restart is better than a loss")
		assert.Zero(t, countUnknown(d, 0, 5000), "and until then there is none")
		require.ErrorIs(t, d.Save(t.Context()), errStore)
		require.Equal(t, 1, logs.Len(), "said once")
		assert.Equal(t, zapcore.WarnLevel, logs.All()[0].Level)
		assert.Contains(t, logs.All()[0].ContextMap()["error"], "disk full")

		stored.repair()
		deliver(t, d, 5000, 5001, 1)
		synctest.Wait()
		require.Equal(t, 2, logs.Len(), "and once that it is over")
		assert.Equal(t, zapcore.InfoLevel, logs.All()[1].Level)
		cancel()
		d, _ = start(t, &fakePipeline{}, stored, with100000Entries)
		assert.Zero(t, countUnknown(d, 0, 5001), "what could not be written was written later")
	})
}

func TestJournal_WritesWithoutDeliveryOnceStoreWorks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stored := newFakeStore()
		d, logs := start(t, &fakePipeline{}, stored, nil)
		ctx, cancel := context.WithCancel(t.Context())
		go d.Run(ctx)
		stored.fail(errStore)
		deliver(t, d, 0, 10, 1)
		stored.repair()
		time.Sleep(2 * time.Minute)
		cancel()
		assert.Equal(t, 2, logs.Len())
		d, _ = start(t, &fakePipeline{}, stored, nil)
		assert.Zero(t, countUnknown(d, 0, 10))
	})
}

func TestJournal_KeepsSegmentsWhenMergeFails(t *testing.T) {
	t.Parallel()
	stored := newFakeStore()
	d, _ := start(t, &fakePipeline{}, stored, nil)
	deliver(t, d, 0, 40, 1)
	stored.before = func(key string) error {
		if strings.HasPrefix(key, "seen/c/") {
			return errStore
		}
		return nil
	}
	require.ErrorIs(t, d.Save(t.Context()), errStore)
	deliver(t, d, 40, 60, 1)
	stored.repair()
	d, logs := start(t, &fakePipeline{}, stored, nil)
	assert.Zero(t, countUnknown(d, 0, 60))
	assert.Zero(t, logs.Len())
}

func TestJournal_BoundsDelayByHangingStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stored := &hangingStore{fakeStore: newFakeStore()}
		d := newDeduplicator(t, &fakePipeline{}, func(set *dedupe.Settings) { set.Store = stored })
		require.NoError(t, d.Load(t.Context()))
		begin := time.Now()
		var all []takeCall
		for n := range 64 {
			all = append(all, take(t.Context(), d, item(strconv.Itoa(n))))
		}
		for _, one := range all {
			require.NoError(t, <-one.end)
		}
		assert.Equal(t, 2*time.Second, time.Since(begin), "the first write, then that for all the others")
	})
}

// hangingStore is a store whose writes never end by themselves.
type hangingStore struct{ *fakeStore }

func (h *hangingStore) Set(ctx context.Context, _ string, _ []byte) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestJournal_WritesDeliveryAfterCallerIsGone(t *testing.T) {
	t.Parallel()
	stored := newFakeStore()
	d, _ := start(t, &fakePipeline{}, stored, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, d.Take(ctx, items(0, 1)), "the outlet took it")
	d, _ = start(t, &fakePipeline{}, stored, nil)
	assert.Zero(t, countUnknown(d, 0, 1))
}

func TestJournal_SaveAndLoadEndWithContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stored, open := newFakeStore(), make(chan struct{})
		d, _ := start(t, &fakePipeline{}, stored, nil)
		var once sync.Once
		stored.before = func(string) error { once.Do(func() { <-open }); return nil }
		one := take(t.Context(), d, item("1"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, d.Save(ctx), context.DeadlineExceeded, "a write is under way")
		require.ErrorIs(t, d.Load(ctx), context.DeadlineExceeded)

		ended := make(chan struct{})
		running, stop := context.WithCancel(t.Context())
		go func() { d.Run(running); close(ended) }()
		time.Sleep(2 * time.Minute)
		stop()
		<-ended
		close(open)
		assert.NoError(t, <-one.end)
	})
}
