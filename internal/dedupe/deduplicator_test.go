package dedupe_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

func TestTake_DeliversEachVersionOnce(t *testing.T) {
	t.Parallel()
	elsewhere := item("1")
	elsewhere.SessionID = "another"
	abroad := item("1")
	abroad.TenantID = "another"
	shouted := item("1")
	shouted.TenantID = "6F1D2C3B-0A4E-4D55-9B77-2F8E1C0A9D10"
	withoutETag := item("1")
	withoutETag.ETag = ""
	both := map[interaction.Source]int{interaction.FromNotification: 1, interaction.FromHistory: 1}
	notification := map[interaction.Source]int{interaction.FromNotification: 1}
	history := map[interaction.Source]int{interaction.FromHistory: 1}
	type batches [][]interaction.Received

	for name, test := range map[string]struct {
		batches    batches
		want       int
		calls      int
		duplicates map[interaction.Source]int
	}{
		"what comes again is dropped": {batches{{item("1")}, {item("1")}}, 1, 1, notification},
		"of a redelivered batch only the new half goes out": {
			batches{items(0, 2), items(0, 4)}, 4, 2, map[interaction.Source]int{interaction.FromNotification: 2},
		},
		"what is in a batch twice goes out once":                            {batches{{item("1"), item("2"), item("1")}}, 2, 1, notification},
		"the first of a batch may be the known one":                         {batches{{item("1")}, {item("1"), item("2"), item("3")}}, 3, 2, notification},
		"the last of a batch may be the known one":                          {batches{{item("3")}, {item("1"), item("2"), item("3")}}, 3, 2, notification},
		"another version is new":                                            {batches{{item("1")}, {updated(item("1"), "9")}}, 2, 2, nil},
		"the same id in another session is new":                             {batches{{item("1")}, {elsewhere}}, 2, 2, nil},
		"the same id in another tenant is new":                              {batches{{item("1")}, {abroad}}, 2, 2, nil},
		"a tenant is the same in capitals":                                  {batches{{item("1")}, {shouted}}, 1, 1, notification},
		"an absent etag is the id":                                          {batches{{item("1")}, {withoutETag}}, 1, 1, notification},
		"a deletion is never a duplicate of what it deletes":                {batches{{item("1")}, {deleted(item("1"))}}, 2, 2, nil},
		"a deletion comes again":                                            {batches{{deleted(item("1"))}, {deleted(item("1"))}}, 1, 1, notification},
		"a creation that comes by notification after its deletion goes out": {batches{{deleted(item("1"))}, {item("1")}}, 2, 2, nil},
		"the history is a duplicate of a notification":                      {batches{{item("1")}, {fromHistory(item("1"))}}, 1, 1, history},
		"a notification is a duplicate of the history":                      {batches{{fromHistory(item("1"))}, {item("1")}}, 1, 1, notification},
		"the history comes again, and a notification late":                  {batches{{fromHistory(item("1"))}, {fromHistory(item("1")), item("1")}}, 1, 1, both},
		"the history is a duplicate of an update by notification":           {batches{{updated(item("1"), "9")}, {fromHistory(updated(item("1"), "9"))}}, 1, 1, history},
		"a version that only the history has goes out":                      {batches{{item("1")}, {fromHistory(updated(item("1"), "9"))}}, 2, 2, nil},
		"the history is a duplicate of a deletion of the same version":      {batches{{deleted(item("1"))}, {fromHistory(item("1"))}}, 1, 1, history},
		"the history is a duplicate of a deletion of another version":       {batches{{deleted(updated(item("1"), "9"))}, {fromHistory(item("1"))}}, 1, 1, history},
		"the history is a duplicate of a deletion in the same batch":        {batches{{deleted(item("1")), fromHistory(item("1"))}}, 1, 1, history},
		"a deletion does not affect another id":                             {batches{{deleted(item("1"))}, {fromHistory(item("2"))}}, 2, 2, nil},
		"a deletion without content comes again":                            {batches{{tombstone("a", "1")}, {tombstone("a", "1")}}, 1, 1, notification},
		"a deletion without content is known by its subscription":           {batches{{tombstone("a", "1")}, {tombstone("b", "1")}}, 2, 2, nil},
		"a deletion without content does not affect the history":            {batches{{tombstone("a", "1")}, {fromHistory(item("1"))}}, 2, 2, nil},
		"a deletion without content does not affect an empty session":       {batches{{tombstone("a", "1")}, {fromHistory(response("", "", "1"))}}, 2, 2, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, dropped := &fakePipeline{}, &duplicateCounter{}
			d := newDeduplicator(t, out, func(set *dedupe.Settings) { set.Telemetry = dropped })
			for _, batch := range test.batches {
				require.NoError(t, d.Take(t.Context(), batch))
			}
			assert.Len(t, out.got, test.want)
			assert.Equal(t, test.calls, out.calls, "one call for what is new, none where nothing is")
			assert.Equal(t, test.duplicates, dropped.of)
		})
	}
}

func TestTake_ReturnsErrorOfPipeline(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	out, dropped := &fakePipeline{err: refused}, &duplicateCounter{}
	d := newDeduplicator(t, out, func(set *dedupe.Settings) { set.Telemetry = dropped })
	twice := []interaction.Received{item("1"), deleted(item("2")), item("1")}

	assert.Equal(t, refused, d.Take(t.Context(), twice), "unchanged, so that the caller can examine it")
	assert.False(t, d.Known(item("1").ContentDigest))
	assert.Zero(t, dropped.count(), "what was not delivered has no duplicates")
	assert.NoError(t, d.Take(t.Context(), nil), "an empty batch does not reach the pipeline")

	out.err = nil
	require.NoError(t, d.Take(t.Context(), append(twice, fromHistory(item("3")))))
	assert.Equal(t, []string{"1", "2", "3"}, out.ids(), "what was refused is new when it comes again")
	assert.True(t, d.Known(item("1").ContentDigest))
	assert.Equal(t, 2, dropped.count())
}

func TestTake_ForgetsUndeliveredDeletion(t *testing.T) {
	t.Parallel()
	out := &fakePipeline{err: errors.New("refused")}
	d := newDeduplicator(t, out, nil)
	require.Error(t, d.Take(t.Context(), []interaction.Received{deleted(item("1"))}))
	out.err = nil
	require.NoError(t, d.Take(t.Context(), []interaction.Received{fromHistory(item("1"))}))
	assert.Equal(t, []string{"1"}, out.ids())
}

func TestTake_KeepsOrderOfBatch(t *testing.T) {
	t.Parallel()
	d := newDeduplicator(t, &fakePipeline{}, nil)
	require.NoError(t, d.Take(t.Context(), items(1, 2)))
	batch := items(0, 4)
	require.NoError(t, d.Take(t.Context(), batch))
	for i := range batch {
		assert.Equal(t, item(string(rune('0'+i))).ID, batch[i].ID, "the caller may go on with its slice")
	}
}

func TestTake_LearnsUserFromDuplicatePrompt(t *testing.T) {
	t.Parallel()
	out := &fakePipeline{}
	d := newDeduplicator(t, out, func(set *dedupe.Settings) { set.MaxOpen = 1 })
	asked := prompt("s", "r", "1", anna)
	require.NoError(t, d.Take(t.Context(), []interaction.Received{asked}))
	require.NoError(t, d.Take(t.Context(), []interaction.Received{prompt("other", "r", "2", ben)}), "anna's is evicted")
	require.NoError(t, d.Take(t.Context(), []interaction.Received{asked, response("s", "r", "3")}))
	require.Len(t, out.got, 3)
	assert.Equal(t, anna, out.got[2].UserID)
}

func TestKnown_AfterDelivery(t *testing.T) {
	t.Parallel()
	dropped := &duplicateCounter{}
	d := newDeduplicator(t, &fakePipeline{}, func(set *dedupe.Settings) { set.Telemetry = dropped })
	one := item("1")
	assert.False(t, d.Known(one.ContentDigest))
	require.NoError(t, d.Take(t.Context(), []interaction.Received{one, fromHistory(item("2"))}))
	assert.True(t, d.Known(one.ContentDigest))
	assert.False(t, d.Known(item("2").ContentDigest))
	assert.False(t, d.Known([32]byte{}), "a zero digest is never known")
	assert.Equal(t, map[interaction.Source]int{interaction.FromNotification: 1}, dropped.of, "it is no longer passed to Take")
}

func TestNew_RejectsInvalidSizes(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*dedupe.Settings){
		"no users":         func(set *dedupe.Settings) { set.MaxOpen = 0 },
		"no window":        func(set *dedupe.Settings) { set.Window = 0 },
		"no entries":       func(set *dedupe.Settings) { set.MaxEntries = 0 },
		"too many entries": func(set *dedupe.Settings) { set.MaxEntries = 1 << 30 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := dedupe.Settings{Next: &fakePipeline{}, MaxOpen: 1, Window: 1, MaxEntries: 1}
			_, err := dedupe.New(set)
			require.NoError(t, err)
			change(&set)
			_, err = dedupe.New(set)
			assert.Error(t, err)
		})
	}
}

// takeCall is a running call of Take.
type takeCall struct {
	in  *dedupe.Deduplicator
	end chan error
}

func take(ctx context.Context, d *dedupe.Deduplicator, received ...interaction.Received) takeCall {
	t := takeCall{in: d, end: make(chan error, 1)}
	go func() { t.end <- d.Take(ctx, received) }()
	synctest.Wait()
	return t
}

func (t takeCall) ended() bool {
	synctest.Wait()
	return len(t.end) > 0
}

func TestTake_WaitsForInFlight(t *testing.T) {
	t.Parallel()
	refused, busy := errors.New("refused permanently"), errors.New("busy")

	for name, test := range map[string]struct {
		// first is the result of the pipeline for the first call, which has 1 and 2, second that for the second call,
		// of which 3 is new.
		first, second error
		want          []error
		wantNot       []error
		duplicates    int
	}{
		"both succeed":            {nil, nil, nil, nil, 1},
		"the one in flight fails": {busy, nil, []error{dedupe.ErrFailedElsewhere}, []error{busy}, 0},
		"the one in flight is refused permanently: this call still asks for a retry": {refused, nil, []error{dedupe.ErrFailedElsewhere}, []error{refused}, 0},
		"the new one fails":                  {nil, busy, []error{busy}, []error{dedupe.ErrFailedElsewhere}, 1},
		"both fail, each for its own reason": {busy, refused, []error{refused, dedupe.ErrFailedElsewhere}, []error{busy}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				out, dropped := newBlockingPipeline(), &duplicateCounter{}
				d := newDeduplicator(t, out, func(set *dedupe.Settings) { set.Telemetry = dropped })

				first := take(t.Context(), d, item("1"), item("2"))
				one := <-out.arrived
				second := take(t.Context(), d, item("2"), item("3"))
				two := <-out.arrived
				assert.Equal(t, []string{"3"}, two.ids, "what is in flight is not delivered twice")
				two.decide <- test.second
				assert.False(t, second.ended(), "it depends on the other call")
				assert.False(t, d.Known(item("2").ContentDigest), "what is in flight may still fail")

				one.decide <- test.first
				assert.Equal(t, test.first, <-first.end)
				err := <-second.end
				if test.want == nil {
					require.NoError(t, err)
				}
				for _, want := range test.want {
					require.ErrorIs(t, err, want)
				}
				for _, not := range test.wantNot {
					require.NotErrorIs(t, err, not)
				}
				assert.Equal(t, test.duplicates, dropped.count())
			})
		})
	}
}

func TestTake_JoinsErrorsUnchanged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		refused, busy := errors.New("refused permanently"), errors.New("busy")
		out := newBlockingPipeline()
		d := newDeduplicator(t, out, nil)
		first := take(t.Context(), d, item("1"))
		one := <-out.arrived
		second := take(t.Context(), d, item("1"), item("2"))
		(<-out.arrived).decide <- refused
		one.decide <- busy
		require.Error(t, <-first.end)
		tree, ok := (<-second.end).(interface{ Unwrap() []error })
		assert.True(t, ok)
		assert.Equal(t, []error{refused, dedupe.ErrFailedElsewhere}, tree.Unwrap())
	})
}

func TestTake_StopsWaitingWithContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out := newBlockingPipeline()
		d := newDeduplicator(t, out, nil)
		first := take(t.Context(), d, item("1"))
		one := <-out.arrived

		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		start := time.Now()
		require.ErrorIs(t, <-take(ctx, d, item("1")).end, context.DeadlineExceeded)
		assert.Equal(t, 2*time.Second, time.Since(start))

		one.decide <- nil
		assert.NoError(t, <-first.end)
		assert.NoError(t, <-take(ctx, d, item("1")).end, "a finished delivery needs no waiting")
		assert.True(t, d.Known(item("1").ContentDigest))
	})
}

func TestTake_ReportsFailureElsewhereAndContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out := newBlockingPipeline()
		d := newDeduplicator(t, out, nil)
		first, other := take(t.Context(), d, item("1")), take(t.Context(), d, item("2"))
		one, two := <-out.arrived, <-out.arrived
		ctx, cancel := context.WithCancel(t.Context())
		second := take(ctx, d, item("1"), item("2"))
		one.decide <- errors.New("busy")
		require.Error(t, <-first.end)
		synctest.Wait()
		cancel()
		err := <-second.end
		require.ErrorIs(t, err, dedupe.ErrFailedElsewhere)
		require.ErrorIs(t, err, context.Canceled)
		two.decide <- nil
		assert.NoError(t, <-other.end)
	})
}

func TestTake_HistoryWaitsForDeletionInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out, dropped := newBlockingPipeline(), &duplicateCounter{}
		d := newDeduplicator(t, out, func(set *dedupe.Settings) { set.Telemetry = dropped })
		gone := take(t.Context(), d, deleted(updated(item("1"), "8")))
		again := take(t.Context(), d, deleted(updated(item("1"), "9")))
		first, second := <-out.arrived, <-out.arrived
		read := take(t.Context(), d, fromHistory(item("1")))
		second.decide <- errors.New("busy")
		require.Error(t, <-again.end, "both deletions were in flight independently")
		assert.False(t, read.ended())
		first.decide <- nil
		assert.NoError(t, <-gone.end)
		assert.NoError(t, <-read.end)
		assert.Equal(t, 1, dropped.count())
		assert.Empty(t, out.arrived)
	})
}

func TestTake_HistoryWaitsForDeletionAfterAnotherFailed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out, dropped := newBlockingPipeline(), &duplicateCounter{}
		d := newDeduplicator(t, out, func(set *dedupe.Settings) { set.Telemetry = dropped })
		gone := take(t.Context(), d, deleted(updated(item("1"), "8")))
		again := take(t.Context(), d, deleted(updated(item("1"), "9")))
		first, second := <-out.arrived, <-out.arrived
		second.decide <- errors.New("busy")
		require.Error(t, <-again.end)
		read := take(t.Context(), d, fromHistory(item("1")))
		assert.Empty(t, out.arrived, "the end of one deletion is not that of the other")
		assert.False(t, read.ended())
		first.decide <- nil
		assert.NoError(t, <-gone.end)
		assert.NoError(t, <-read.end)
		assert.Equal(t, 1, dropped.count())
	})
}

func TestTake_DeliversOnceAcrossConcurrentCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out, dropped := newBlockingPipeline(), &duplicateCounter{}
		d := newDeduplicator(t, out, func(set *dedupe.Settings) { set.Telemetry = dropped })
		const calls = 50
		var all []takeCall
		for range calls {
			all = append(all, take(t.Context(), d, items(0, 10)...))
		}
		only := <-out.arrived
		only.decide <- nil
		for _, one := range all {
			require.NoError(t, <-one.end)
		}
		assert.Empty(t, out.arrived, "one call delivers, the others wait for it")
		assert.Equal(t, 10*(calls-1), dropped.count())
	})
}
