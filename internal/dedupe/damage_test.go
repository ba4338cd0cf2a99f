package dedupe_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zapcore"

	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
)

// agedStore is a store with several chunks that does not begin with the first, and some segments that no chunk contains.
func agedStore(t *testing.T) *fakeStore {
	t.Helper()
	stored := newFakeStore()
	d, _ := start(t, &fakePipeline{}, stored, with6000Entries)
	deliver(t, d, 0, 12_000, 100)
	require.NoError(t, d.Save(t.Context()))
	deliver(t, d, 12_000, 12_300, 10)
	values := stored.keys()
	require.Contains(t, values, "seen/index")
	require.NotContains(t, values, "seen/c/0")
	require.Contains(t, values, "seen/c/4")
	return stored
}

func with6000Entries(set *dedupe.Settings) { set.MaxEntries = 6000 }

func TestJournal_ReplacesDamagedValue(t *testing.T) {
	t.Parallel()
	flip := func(value []byte) []byte { value[len(value)/2] ^= 1; return value }
	cut := func(value []byte) []byte { return value[:len(value)-1] }
	short := func(value []byte) []byte { return value[:3] }
	foreign := func([]byte) []byte { return []byte(`{"version": 2}`) }
	empty := func([]byte) []byte { return []byte{} }
	missing := func([]byte) []byte { return nil }

	for name, test := range map[string]struct {
		key    string
		damage func([]byte) []byte
		// lost is how many entries are not known afterwards.
		lost int
	}{
		"a corrupt index loses nothing":                              {"seen/index", flip, 0},
		"an index of another version loses nothing":                  {"seen/index", foreign, 0},
		"an empty index loses nothing":                               {"seen/index", empty, 0},
		"a missing index loses nothing":                              {"seen/index", missing, 0},
		"a missing chunk loses its entries":                          {"seen/c/4", missing, 1800},
		"a corrupt chunk loses its entries":                          {"seen/c/4", flip, 1800},
		"a chunk of another version loses its entries":               {"seen/c/5", foreign, 1800},
		"a chunk that was cut off loses its entries":                 {"seen/c/4", cut, 1800},
		"the last chunk loses what no segment has":                   {"seen/c/6", flip, 0},
		"a corrupt segment loses its delivery":                       {"seen/j/7", flip, 10},
		"a segment that was cut off at the start loses its delivery": {"seen/j/0", short, 10},
		"a segment that is contained in a chunk loses nothing":       {"seen/j/40", foreign, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stored := agedStore(t)
			require.Contains(t, stored.values, test.key)
			stored.values[test.key] = test.damage(slices.Clone(stored.values[test.key]))

			d, logs := start(t, &fakePipeline{}, stored, with6000Entries)
			assert.Equal(t, test.lost, countUnknown(d, 6300, 12_300))
			require.Equal(t, 1, logs.Len(), "said once")
			entry := logs.All()[0]
			assert.Equal(t, zapcore.WarnLevel, entry.Level)
			assert.Contains(t, entry.ContextMap()["error"], test.key)

			d, logs = start(t, &fakePipeline{}, stored, with6000Entries)
			assert.Equal(t, test.lost, countUnknown(d, 6300, 12_300), "and nothing more is lost by the next restart")
			assert.Zero(t, logs.Len(), "it was replaced")
			assert.LessOrEqual(t, len(stored.values), 64+1+5, "nothing is left over")
		})
	}
}

func TestJournal_ReplacesDamagedIndexAndBlock(t *testing.T) {
	t.Parallel()
	stored := agedStore(t)
	stored.values["seen/index"] = []byte("?")
	stored.values["seen/c/6"] = []byte("?")
	d, logs := start(t, &fakePipeline{}, stored, with6000Entries)
	lost := countUnknown(d, 6300, 12_300)
	assert.Less(t, lost, 1800)
	assert.EqualValues(t, 2, logs.All()[0].ContextMap()["values"])
	d, logs = start(t, &fakePipeline{}, stored, with6000Entries)
	assert.Equal(t, lost, countUnknown(d, 6300, 12_300))
	assert.Zero(t, logs.Len())
}

func TestJournal_DeletesLeftoverBlocks(t *testing.T) {
	t.Parallel()
	stored := agedStore(t)
	left := maps.Clone(stored.values)
	stored.values["seen/c/2"], stored.values["seen/c/1"] = left["seen/c/4"], []byte("?")
	d, logs := start(t, &fakePipeline{}, stored, with6000Entries)
	assert.Zero(t, logs.Len())
	assert.Zero(t, countUnknown(d, 6300, 12_300))
	assert.NotContains(t, stored.values, "seen/c/1")
	assert.NotContains(t, stored.values, "seen/c/2")
}

func TestJournal_StartsWithUnreadableStore(t *testing.T) {
	t.Parallel()

	t.Run("at all is asked a few times only, and the receiver starts", func(t *testing.T) {
		t.Parallel()
		stored, out := agedStore(t), &fakePipeline{}
		stored.all = true
		stored.fail(errStore)
		stored.gets = 0
		d, logs := start(t, out, stored, with6000Entries)
		assert.Equal(t, 3, stored.gets)
		require.Equal(t, 1, logs.Len())
		deliver(t, d, 20_000, 20_100, 10)
		assert.Len(t, out.got, 100)
		assert.Equal(t, 1, logs.Len(), "that it can't be written either was said")

		stored.all = false
		stored.repair()
		deliver(t, d, 20_100, 26_000, 100)
		d, logs = start(t, &fakePipeline{}, stored, with6000Entries)
		assert.Zero(t, logs.Len())
		assert.Zero(t, countUnknown(d, 20_000, 26_000), "what comes after is kept, and is younger than what could not be read")
	})

	t.Run("at some keys loses what is there", func(t *testing.T) {
		t.Parallel()
		stored := agedStore(t)
		stored.unreadable = map[string]bool{"seen/c/4": true, "seen/j/3": true, "seen/j/5": true, "seen/j/7": true}
		d, logs := start(t, &fakePipeline{}, stored, with6000Entries)
		assert.Equal(t, 1800+30, countUnknown(d, 6300, 12_300))
		require.Equal(t, 1, logs.Len())
	})
}

func TestJournal_StartsWithReadOnlyStore(t *testing.T) {
	t.Parallel()
	stored := agedStore(t)
	stored.fail(errStore)
	d, logs := start(t, &fakePipeline{}, stored, with6000Entries)
	assert.Equal(t, 1, logs.Len())
	assert.Zero(t, countUnknown(d, 6300, 12_300))
	stored.repair()
	deliver(t, d, 20_000, 20_010, 1)
	assert.Equal(t, 2, logs.Len(), "it is over")
	d, _ = start(t, &fakePipeline{}, stored, with6000Entries)
	assert.Zero(t, countUnknown(d, 6310, 12_300), "what was not merged is not overwritten")
	assert.Zero(t, countUnknown(d, 20_000, 20_010))
}

func TestJournal_RejectsBlockUnderWrongKey(t *testing.T) {
	t.Parallel()
	stored := agedStore(t)
	stored.values["seen/c/5"] = stored.values["seen/c/4"]
	d, logs := start(t, &fakePipeline{}, stored, with6000Entries)
	assert.Equal(t, 1800, countUnknown(d, 6300, 12_300))
	assert.Equal(t, 1, logs.Len())
	d, logs = start(t, &fakePipeline{}, stored, with6000Entries)
	assert.Equal(t, 1800, countUnknown(d, 6300, 12_300))
	assert.Zero(t, logs.Len())
}

func TestJournal_DeletesOutdatedBlock(t *testing.T) {
	t.Parallel()
	ancient := newFakeStore()
	first, _ := start(t, &fakePipeline{}, ancient, nil)
	deliver(t, first, 0, 1, 1)
	require.NoError(t, first.Save(t.Context()))
	stored := agedStore(t)
	require.NotContains(t, stored.values, "seen/c/8")
	stored.values["seen/c/8"] = ancient.values["seen/c/0"]
	d, logs := start(t, &fakePipeline{}, stored, with6000Entries)
	assert.Zero(t, logs.Len())
	assert.Zero(t, countUnknown(d, 6300, 12_300))
	assert.NotContains(t, stored.values, "seen/c/8")
}

// Whatever is in the store, a start comes to an end, warns once, and leaves a store that the next start can read.
func TestJournal_SurvivesRandomDamage(t *testing.T) {
	t.Parallel()
	whole := agedStore(t)
	keys := slices.Sorted(maps.Keys(whole.values))
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 1))
		stored := newFakeStore()
		stored.values = maps.Clone(whole.values)
		for range 1 + random.IntN(5) {
			key := keys[random.IntN(len(keys))]
			value := slices.Clone(stored.values[key])
			switch n := len(value); {
			case n == 0 || random.IntN(4) == 0:
				delete(stored.values, key)
			case random.IntN(3) == 0:
				stored.values[key] = value[:random.IntN(n)]
			case random.IntN(2) == 0:
				stored.values[key] = slices.Clone(stored.values[keys[random.IntN(len(keys))]])
			default:
				value[random.IntN(n)] ^= byte(1 + random.IntN(255))
				stored.values[key] = value
			}
		}
		d, logs := start(t, &fakePipeline{}, stored, with6000Entries)
		assert.LessOrEqual(t, logs.Len(), 1)
		lost := countUnknown(d, 6300, 12_300)
		deliver(t, d, 50_000, 50_100, 10)

		d, logs = start(t, &fakePipeline{}, stored, with6000Entries)
		assert.Zero(t, logs.Len(), "seed %d", seed)
		assert.LessOrEqual(t, countUnknown(d, 6400, 12_300), lost, "seed %d", seed)
		assert.Zero(t, countUnknown(d, 50_000, 50_100), "seed %d", seed)
	}
}
