package backfill

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func noon() time.Time { return time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) }

// randomGaps returns gaps of the last four days, some of them empty, inverted or partly in the future.
func randomGaps(r *rand.Rand, n int) []Gap {
	reasons := []Reason{Startup, Subscription, Undelivered, Poll}
	gaps := make([]Gap, n)
	for i := range gaps {
		from := noon().Add(-time.Duration(r.IntN(96*60)) * time.Minute)
		gaps[i] = Gap{reasons[r.IntN(len(reasons))], from, from.Add(time.Duration(r.IntN(600)-60) * time.Minute)}
	}
	return gaps
}

func opened(gaps []Gap) *gapStore {
	gs := &gapStore{maxGap: 168 * time.Hour}
	for _, g := range gaps {
		gs.open(g, kindFull, noon(), &change{})
	}
	return gs
}

func covered(intervals []interval, at time.Time) bool {
	return slices.ContainsFunc(intervals, func(iv interval) bool { return !at.Before(iv.from) && at.Before(iv.to) })
}

func TestGapStore_MergesGapsToTheirUnion(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		gaps := randomGaps(r, 1+r.IntN(30))
		gs := opened(gaps)
		for minute := -97 * 60; minute < 11*60; minute += 7 {
			at := noon().Add(time.Duration(minute) * time.Minute)
			wanted := slices.ContainsFunc(gaps, func(g Gap) bool { return !at.Before(g.From) && at.Before(g.To) })
			require.Equal(t, wanted, covered(gs.intervals, at), "seed %d, %s", seed, at)
		}
		for i := 1; i < len(gs.intervals); i++ {
			require.True(t, gs.intervals[i-1].to.Before(gs.intervals[i].from), "adjacent intervals merge: seed %d", seed)
		}
		r.Shuffle(len(gaps), func(i, j int) { gaps[i], gaps[j] = gaps[j], gaps[i] })
		other := opened(gaps)
		require.Len(t, other.intervals, len(gs.intervals))
		for i := range gs.intervals {
			require.Equal(t, gs.intervals[i].from, other.intervals[i].from)
			require.Equal(t, gs.intervals[i].to, other.intervals[i].to)
			require.Equal(t, gs.intervals[i].reasons.sorted(), other.intervals[i].reasons.sorted())
		}
	}
}

func TestGapStore_ReadsAllPastTimeAndNoFuture(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 2))
		gaps := randomGaps(r, 1+r.IntN(20))
		gs, now := opened(gaps), noon()
		var c change
		var read []interval
		for range 10_000 {
			if !gs.begin(now, now, false, &c) {
				next, found := gs.nextAt(now)
				if !found {
					break
				}
				require.True(t, next.After(now), "what is due is read: seed %d", seed)
				now = next
				continue
			}
			_, to := gs.pass.bounds()
			require.False(t, to.After(now), "seed %d", seed)
			read = append(read, gs.pass.intervals...)
			gs.finish(passResult{}, now, &c)
			now = now.Add(time.Duration(r.IntN(30)) * time.Second)
		}
		require.Empty(t, gs.intervals, "seed %d", seed)
		for _, g := range gaps {
			for at := g.From; at.Before(g.To); at = at.Add(13 * time.Minute) {
				require.True(t, covered(read, at), "seed %d", seed)
			}
			if last := g.To.Add(-time.Minute); last.After(g.From) && g.To.After(noon().Add(-30*time.Minute)) {
				secondPass := slices.ContainsFunc(read, func(iv interval) bool { return iv.kind == kindSecondPass && covered([]interval{iv}, last) })
				require.True(t, secondPass, "its last hour is read again: seed %d", seed)
			}
		}
	}
}

func TestGapStore_ClosesEveryOpenedGap(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		gs, now := &gapStore{maxGap: 24 * time.Hour}, noon()
		var c change
		for range 40 {
			for _, g := range randomGaps(r, r.IntN(3)) {
				gs.open(g, kind(r.IntN(2)), now, &c)
			}
			gs.expire(now, &c)
			if gs.begin(now, now.Add(time.Duration(r.IntN(3)-1)*time.Hour), false, &c) {
				var result passResult
				from, to := gs.pass.bounds()
				if r.IntN(3) == 0 {
					result.failed = []failedUser{{user{byte(r.IntN(4))}, from, to}}
				}
				result.partial = r.IntN(4) == 0 && gs.pass.kind() != kindFailedUsers
				gs.finish(result, now, &c)
			}
			now = now.Add(time.Duration(r.IntN(120)) * time.Minute)
		}
		for now.Before(noon().Add(30 * 24 * time.Hour)) {
			now = now.Add(time.Hour)
			gs.expire(now, &c)
			if gs.begin(now, now, false, &c) {
				gs.finish(passResult{}, now, &c)
			}
		}
		require.Empty(t, gs.intervals, "seed %d", seed)
		for reason, n := range c.opened {
			require.Equal(t, n, c.closed[reason], "seed %d: %s", seed, reason)
		}
	}
}

func TestGapStore_CountsMissingTimeForGravestReason(t *testing.T) {
	t.Parallel()
	gs := opened([]Gap{
		{Poll, noon().Add(-2 * time.Hour), noon()},
		{Startup, noon().Add(-time.Hour), noon().Add(time.Hour)},
		{"newer", noon().Add(-9 * time.Hour), noon().Add(-8 * time.Hour)},
		{Undelivered, noon().Add(-7 * time.Hour), noon().Add(-5 * time.Hour)},
	})
	assert.Equal(t, map[Reason]time.Duration{Startup: 2 * time.Hour, "newer": time.Hour, Undelivered: 2 * time.Hour}, gs.missing(noon()))
}

func TestGapStore_LimitsGapsToMaxGap(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		gap  Gap
		kept time.Duration
		lost time.Duration
	}{
		"longer":   {Gap{Startup, noon().Add(-200 * time.Hour), noon().Add(-time.Hour)}, 167 * time.Hour, 32 * time.Hour},
		"older":    {Gap{Startup, noon().Add(-200 * time.Hour), noon().Add(-190 * time.Hour)}, 0, 10 * time.Hour},
		"within":   {Gap{Startup, noon().Add(-168 * time.Hour), noon()}, 168 * time.Hour, 0},
		"lookback": {Gap{Lookback, noon().Add(-2000 * time.Hour), noon()}, 2000 * time.Hour, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gs := &gapStore{maxGap: 168 * time.Hour}
			var c change
			gs.open(test.gap, kindFull, noon(), &c)
			assert.Equal(t, test.kept, gs.missing(noon())[test.gap.Reason])
			var lost time.Duration
			for _, one := range c.lost {
				lost += one.to.Sub(one.from)
			}
			assert.Equal(t, test.lost, lost)
			assert.Equal(t, reasonCounts{test.gap.Reason: 1}, c.opened)
			assert.Equal(t, test.kept == 0, len(c.closed) == 1)
		})
	}
}

func TestGapStore_ClipsOldGapWhenPassBegins(t *testing.T) {
	t.Parallel()
	gs := &gapStore{maxGap: 8 * time.Hour}
	var c change
	gs.open(Gap{Startup, noon().Add(-6 * time.Hour), noon()}, kindFull, noon(), &c)
	later := noon().Add(2*time.Hour + 30*time.Minute)
	gs.expire(later, &c)
	assert.Empty(t, c.lost, "half an hour is too short to be reported by itself")
	require.True(t, gs.begin(later, later, false, &c))
	from, _ := gs.pass.bounds()
	assert.Equal(t, later.Add(-8*time.Hour), from)
	require.Len(t, c.lost, 1)
	assert.Equal(t, 30*time.Minute, c.lost[0].to.Sub(c.lost[0].from))
}

func TestItemGaps_DerivesMinuteFromID(t *testing.T) {
	t.Parallel()
	now := noon().Add(30 * time.Second)
	id := func(at time.Time) string { return strconv.FormatInt(at.UnixMilli(), 10) }
	minute := Gap{Empty, noon().Add(-6*time.Hour + time.Minute), noon().Add(-6*time.Hour + 2*time.Minute)}
	hour := Gap{Empty, now.Add(-time.Hour), now}
	minuteAt := func(at time.Time) Gap {
		return Gap{Empty, at.Truncate(time.Minute), at.Truncate(time.Minute).Add(time.Minute)}
	}
	tests := map[string]struct {
		id     string
		wanted []Gap
	}{
		"within the last six hours":          {id(minute.From.Add(59 * time.Second)), []Gap{minute}},
		"a little ahead":                     {id(now), []Gap{{Empty, noon(), noon().Add(time.Minute)}}},
		"older: changed, or a clock ahead":   {id(now.Add(-8 * time.Hour)), []Gap{minuteAt(now.Add(-8 * time.Hour)), hour}},
		"ahead: a clock behind":              {id(now.Add(time.Hour)), []Gap{minuteAt(now.Add(time.Hour)), hour}},
		"too old to be known as a duplicate": {id(now.Add(-21 * time.Hour)), []Gap{hour}},
		"further ahead than any time zone":   {id(now.Add(25 * time.Hour)), []Gap{hour}},
		"no number":                          {"AAMkAGI=", []Gap{hour}},
		"nothing":                            {"", []Gap{hour}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.wanted, itemGaps(Empty, test.id, now))
		})
	}
}

func TestGapStore_BoundsNumberOfIntervals(t *testing.T) {
	t.Parallel()
	gs := &gapStore{maxGap: 168 * time.Hour}
	for i := range 3000 {
		from := noon().Add(-time.Duration(3*i+3) * time.Minute)
		gs.open(Gap{Undelivered, from, from.Add(time.Minute)}, kindFull, noon(), &change{})
	}
	assert.Len(t, gs.intervals, maxIntervals)
	for i := range 3000 {
		assert.True(t, covered(gs.intervals, noon().Add(-time.Duration(3*i+3)*time.Minute)))
	}
}

func TestGapStore_JoinsNearIntervals(t *testing.T) {
	t.Parallel()
	at := func(hours float64) time.Time { return noon().Add(time.Duration(hours * float64(time.Hour))) }
	tests := map[string]struct {
		gaps   []Gap
		kind   kind
		joined int
	}{
		"less than an hour apart":               {[]Gap{{Undelivered, at(-5), at(-4)}, {Undelivered, at(-3.5), at(-3)}}, kindFull, 2},
		"more than an hour apart":               {[]Gap{{Undelivered, at(-5), at(-4)}, {Undelivered, at(-2), at(-1)}}, kindFull, 1},
		"items, however far apart":              {[]Gap{{Empty, at(-5), at(-4)}, {Empty, at(-2), at(-1)}}, kindItem, 2},
		"so old that duplicates may be unknown": {[]Gap{{Undelivered, at(-50), at(-49)}, {Undelivered, at(-48.5), at(-48)}}, kindFull, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gs := &gapStore{maxGap: 168 * time.Hour}
			for _, g := range test.gaps {
				gs.open(g, test.kind, noon(), &change{})
			}
			require.True(t, gs.begin(noon(), noon(), false, &change{}))
			assert.Len(t, gs.pass.intervals, test.joined)
		})
	}
}

func TestGapStore_ContinuesWhenClockIsSetBack(t *testing.T) {
	t.Parallel()
	gs := &gapStore{maxGap: 168 * time.Hour, polled: noon().Add(48 * time.Hour), itemsRead: noon().Add(48 * time.Hour)}
	var c change
	gs.poll(noon(), 5*time.Minute, &c)
	require.Len(t, gs.intervals, 1)
	assert.Equal(t, noon().Add(-maxJoinAge), gs.intervals[0].from, "the time of the last poll is unknown")
	gs.open(Gap{Empty, noon().Add(-3 * time.Hour), noon().Add(-2 * time.Hour)}, kindItem, noon(), &c)
	require.True(t, gs.begin(noon(), noon(), false, &c))
	assert.True(t, slices.ContainsFunc(gs.pass.intervals, func(iv interval) bool { return iv.kind == kindItem }))
}

func TestGapStore_ReadsPartlyFutureIntervalOnce(t *testing.T) {
	t.Parallel()
	for _, k := range []kind{kindFull, kindItem, kindUnknownUsers} {
		gs := &gapStore{maxGap: 168 * time.Hour}
		gs.open(Gap{Startup, noon().Add(-time.Hour), noon().Add(5 * time.Minute)}, k, noon(), &change{})
		require.True(t, gs.begin(noon(), noon(), false, &change{}))
		assert.Len(t, gs.pass.intervals, 1)
		gs.finish(passResult{}, noon(), &change{})
		assert.False(t, gs.begin(noon().Add(time.Second), noon(), false, &change{}))
	}
}
