// SPDX-License-Identifier: Apache-2.0

package gap_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
)

// at returns a time of the day on which most tests take place.
func at(hour, minute int) time.Time {
	return time.Date(2026, time.March, 10, hour, minute, 0, 0, time.UTC)
}

var (
	subscribed = gap.Rules{Subscribed: true, CheckInterval: 5 * time.Minute, MaxGap: 7 * 24 * time.Hour}
	reconciled = gap.Rules{
		Subscribed: true, CheckInterval: 5 * time.Minute, MaxGap: 7 * 24 * time.Hour,
		ReconcileInterval: 24 * time.Hour, ReconcileDelay: 5*time.Hour + 30*time.Minute,
	}
	polling = gap.Rules{CheckInterval: 5 * time.Minute, MaxGap: 7 * 24 * time.Hour, PollInterval: time.Hour}
	one     = gap.Scope{Users: []gap.User{{1}}}
	two     = gap.Scope{Users: []gap.User{{2}}}
	listed  = gap.Users{Listed: true}
)

func described(s *gap.State) []string {
	text := []string{}
	for _, g := range s.Gaps {
		text = append(text, describeGap(g))
	}
	return text
}

// earlierRun returns the state of a run whose last confirmed check was at 10:00.
func earlierRun() gap.State {
	return gap.State{Started: true, Checkpoint: at(10, 0), FirstConfirmed: at(10, 0).AddDate(0, 0, -3)}
}

// running returns the state of a run whose last confirmed check was at 10:00.
func running(r gap.Rules) gap.State {
	s := gap.State{Started: true, FirstConfirmed: at(10, 0).AddDate(0, 0, -3)}
	s.Confirmed(r, at(10, 0))
	return s
}

// found is what a start finds in storage besides the state.
type found struct {
	damaged        bool
	newestCreation time.Time
}

func TestState_StartOpensGaps(t *testing.T) {
	t.Parallel()
	future := earlierRun()
	future.Checkpoint = at(10, 0).AddDate(0, 0, 10)
	lookback := subscribed
	lookback.Lookback = 24 * time.Hour
	for name, test := range map[string]struct {
		rules gap.Rules
		state gap.State
		found found
		now   time.Time
		want  []string
	}{
		"a very first start opens nothing": {subscribed, gap.State{}, found{}, at(12, 0), []string{}},
		"a very first start imports the lookback": {
			lookback, gap.State{}, found{}, at(12, 0), []string{"[lookback] 09 12:00:00 - 10 12:00:00"},
		},
		"a second start imports nothing":   {lookback, gap.State{Started: true}, found{}, at(12, 0), []string{}},
		"a fresh checkpoint opens nothing": {subscribed, earlierRun(), found{}, at(10, 10), []string{}},
		"a checkpoint older than check_interval and 5 min opens a gap from 65 min before it": {
			subscribed, earlierRun(), found{}, at(10, 11), []string{"[startup] 10 08:55:00 - open for start"},
		},
		"a checkpoint in the future opens a gap from 65 min before the newest creation": {
			subscribed, future, found{newestCreation: at(9, 0)}, at(12, 0), []string{"[startup] 10 07:55:00 - open for start"},
		},
		"a checkpoint in the future without any creation opens a gap of max_gap": {
			subscribed, future, found{}, at(12, 0), []string{"[startup] 03 12:00:00 - open for start"},
		},
		"a damaged state opens a gap of max_gap and imports nothing": {
			lookback, gap.State{}, found{damaged: true}, at(12, 0), []string{"[startup] 03 12:00:00 - open for start"},
		},
		"without a checkpoint the gap begins at the last poll": {
			subscribed, gap.State{Started: true, Polled: at(9, 30)}, found{}, at(12, 0), []string{"[startup] 10 09:30:00 - open for start"},
		},
		"without a subscription nothing is opened": {polling, earlierRun(), found{}, at(12, 0), []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.state.Start(test.rules, test.found.damaged, test.found.newestCreation, test.now)
			assert.Equal(t, test.want, described(&test.state))
			assert.True(t, test.state.Started)
		})
	}
}

func TestState_EventsOpenAndEndGaps(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		events func(s *gap.State)
		want   []string
	}{
		"a lost subscription opens a gap from 65 min before its last confirmed check": {func(s *gap.State) {
			s.Interrupted("tenant", gap.Subscription, gap.Scope{}, at(10, 0), at(10, 5))
		}, []string{"[subscription] 10 08:55:00 - open for tenant"}},
		"the gap ends 5 min after the subscription is restored": {func(s *gap.State) {
			s.Interrupted("tenant", gap.Subscription, gap.Scope{}, at(10, 0), at(10, 5))
			s.Restored("tenant", at(10, 10))
		}, []string{"[subscription] 10 08:55:00 - 10 10:15:00"}},
		"only the gap of the restored resource ends": {func(s *gap.State) {
			s.Interrupted("one", gap.Subscription, one, at(10, 0), at(10, 5))
			s.Interrupted("two", gap.Subscription, two, at(10, 0), at(10, 5))
			s.Restored("two", at(10, 10))
			s.Confirmed(subscribed, at(10, 10))
		}, []string{"[subscription] 10 08:55:00 - open for one user 1", "[subscription] 10 08:55:00 - 10 10:15:00 user 2"}},
		"a confirmed check opens nothing after 15 min": {func(s *gap.State) {
			s.Confirmed(subscribed, at(10, 15))
		}, []string{}},
		"a confirmed check opens a gap where the last one is longer ago than two intervals and 5 min": {func(s *gap.State) {
			s.Confirmed(subscribed, at(10, 16))
		}, []string{"[subscription] 10 08:55:00 - 10 10:21:00"}},
		"a subscription for a key that is not there opens a gap of 5 h": {func(s *gap.State) {
			s.Interrupted("tenant", gap.RemovedKey, gap.Scope{}, at(10, 0), at(10, 5))
		}, []string{"[removed_key] 10 05:05:00 - open for tenant"}},
		"it begins earlier where the last confirmed check is longer ago": {func(s *gap.State) {
			s.Interrupted("tenant", gap.RemovedKey, gap.Scope{}, at(2, 0), at(10, 5))
		}, []string{"[removed_key] 10 00:55:00 - open for tenant"}},
		"a removed key opens a gap of 5 h until the next confirmed check": {func(s *gap.State) {
			s.KeyRemoved(at(10, 5))
			s.Confirmed(subscribed, at(10, 10))
		}, []string{"[removed_key] 10 05:05:00 - 10 10:15:00"}},
		"undelivered items open gaps of their minutes": {func(s *gap.State) {
			s.Undelivered([]time.Time{at(9, 30).Add(12 * time.Second), at(9, 31), at(9, 40)})
		}, []string{"[undelivered] 10 09:30:00 - 10 09:32:00", "[undelivered] 10 09:40:00 - 10 09:41:00"}},
		"an item opens a gap of the minute of its id": {func(s *gap.State) {
			s.Item(subscribed, gap.Undecryptable, idAt(at(9, 30)), at(10, 5))
		}, []string{"[undecryptable] 10 09:30:00 - 10 09:31:00"}},
		"an item of more than 6 h ago opens a gap of the last hour as well": {func(s *gap.State) {
			s.Item(subscribed, gap.Unverified, idAt(at(3, 30)), at(10, 5))
		}, []string{"[unverified] 10 03:30:00 - 10 03:31:00", "[unverified] 10 09:05:00 - 10 10:05:00"}},
		"an item whose id is no time opens a gap of the last hour": {func(s *gap.State) {
			s.Item(subscribed, gap.Empty, "x", at(10, 5))
		}, []string{"[empty] 10 09:05:00 - 10 10:05:00"}},
		"an item that is older than max_gap opens a gap of the last hour": {func(s *gap.State) {
			s.Item(subscribed, gap.Empty, idAt(at(10, 0).AddDate(0, 0, -8)), at(10, 5))
		}, []string{"[empty] 10 09:05:00 - 10 10:05:00"}},
		"an item ahead of the clock opens a gap ahead of it": {func(s *gap.State) {
			s.Item(subscribed, gap.Empty, idAt(at(12, 0)), at(10, 5))
		}, []string{"[empty] 10 12:00:00 - 10 12:01:00"}},
		"users who may be read again open a gap": {func(s *gap.State) {
			s.Rested(one.Users, at(4, 0), at(10, 5))
		}, []string{"[users_unknown] 10 04:00:00 - 10 10:05:00 user 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := running(subscribed)
			test.events(&s)
			assert.Equal(t, test.want, described(&s))
		})
	}
}

func idAt(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

func TestState_StartupGapEnds(t *testing.T) {
	t.Parallel()
	start := func(s gap.State, now time.Time) gap.State {
		s.Start(subscribed, false, time.Time{}, now)
		return s
	}
	t.Run("by a confirmed check", func(t *testing.T) {
		t.Parallel()
		s := start(earlierRun(), at(12, 0))
		s.Confirmed(subscribed, at(12, 1))
		assert.Equal(t, []string{"[startup] 10 08:55:00 - 10 12:06:00"}, described(&s))
	})
	t.Run("only when the subscription that was gone is restored", func(t *testing.T) {
		t.Parallel()
		s := start(earlierRun(), at(12, 0))
		s.Interrupted("tenant", gap.Subscription, gap.Scope{}, time.Time{}, at(12, 0))
		s.Confirmed(subscribed, at(12, 1))
		assert.Equal(t, []string{"[startup] 10 08:55:00 - open for tenant"}, described(&s))
		s.Restored("tenant", at(12, 30))
		assert.Equal(t, []string{"[startup] 10 08:55:00 - 10 12:35:00"}, described(&s))
	})
	t.Run("as it was open in the last run, by a confirmed check", func(t *testing.T) {
		t.Parallel()
		last := running(subscribed)
		last.Interrupted("tenant", gap.Subscription, gap.Scope{}, at(10, 0), at(10, 2))
		s := start(stored(t, last), at(10, 5))
		s.Confirmed(subscribed, at(10, 6))
		assert.Equal(t, []string{"[subscription] 10 08:55:00 - 10 10:11:00"}, described(&s))
	})
	t.Run("where only some subscriptions are gone, for the others", func(t *testing.T) {
		t.Parallel()
		s := start(earlierRun(), at(10, 5))
		s.Interrupted("one", gap.Subscription, one, time.Time{}, at(10, 5))
		s.Confirmed(subscribed, at(10, 5))
		assert.Equal(t, []string{"[startup] 10 08:55:00 - open for one user 1"}, described(&s))
	})
}

// stored returns the state as another run reads it.
func stored(t *testing.T, s gap.State) gap.State {
	t.Helper()
	w := world{disk: memory{state: s}}
	return w.stored()
}

func TestState_AdoptedReads5hOnceWhereNothingIsKnown(t *testing.T) {
	t.Parallel()
	s := gap.State{}
	s.Start(subscribed, false, time.Time{}, at(12, 0))
	s.Adopted(at(12, 0))
	s.Adopted(at(12, 5))
	assert.Equal(t, []string{"[startup] 10 07:00:00 - 10 12:05:00"}, described(&s))

	known := earlierRun()
	known.Start(subscribed, false, time.Time{}, at(10, 5))
	known.Adopted(at(10, 5))
	assert.Empty(t, described(&known))
}

func TestState_InterruptedBeforeAnySubscription(t *testing.T) {
	t.Parallel()
	s := gap.State{}
	s.Start(subscribed, false, time.Time{}, at(12, 0))
	s.Interrupted("tenant", gap.Subscription, gap.Scope{}, time.Time{}, at(12, 0))
	s.Restored("tenant", at(12, 0))
	assert.Empty(t, described(&s))
}

func TestState_RestoredCountsAsConfirmedAtStart(t *testing.T) {
	t.Parallel()
	s := earlierRun()
	s.Start(subscribed, false, time.Time{}, at(12, 0))
	s.Interrupted("tenant", gap.Subscription, gap.Scope{}, time.Time{}, at(12, 0))
	s.Restored("tenant", at(12, 0))
	s.Confirmed(subscribed, at(14, 0)) // the listener was not up until now
	assert.Contains(t, described(&s), "[startup subscription] 10 08:55:00 - 10 14:05:00")
}

func TestState_MergesGaps(t *testing.T) {
	t.Parallel()
	item := func(reason gap.Reason, minute time.Time) func(*gap.State) {
		return func(s *gap.State) { s.Item(subscribed, reason, idAt(minute), at(10, 0)) }
	}
	missed := func(scope gap.Scope, minutes ...time.Time) func(*gap.State) {
		return func(s *gap.State) {
			if len(scope.Users) > 0 {
				s.Rested(scope.Users, minutes[0], minutes[0].Add(time.Minute))
			} else {
				s.Undelivered(minutes)
			}
		}
	}
	for name, test := range map[string]struct {
		events []func(*gap.State)
		want   []string
	}{
		"that touch, with the reasons of both": {
			[]func(*gap.State){item(gap.Empty, at(9, 0)), item(gap.Unverified, at(9, 1))},
			[]string{"[unverified empty] 10 09:00:00 - 10 09:02:00"},
		},
		"but not those apart": {
			[]func(*gap.State){item(gap.Empty, at(9, 0)), item(gap.Empty, at(9, 2))},
			[]string{"[empty] 10 09:00:00 - 10 09:01:00", "[empty] 10 09:02:00 - 10 09:03:00"},
		},
		"but not those of items with others, which are read at once": {
			[]func(*gap.State){item(gap.Empty, at(9, 0)), missed(gap.Scope{}, at(9, 0))},
			[]string{"[empty] 10 09:00:00 - 10 09:01:00", "[undelivered] 10 09:00:00 - 10 09:01:00"},
		},
		"but not those of other users": {
			[]func(*gap.State){missed(one, at(9, 0)), missed(two, at(9, 0))},
			[]string{"[users_unknown] 10 09:00:00 - 10 09:01:00 user 1", "[users_unknown] 10 09:00:00 - 10 09:01:00 user 2"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := running(subscribed)
			for range 2 { // what is known is not opened again
				for _, event := range test.events {
					event(&s)
				}
				assert.Equal(t, test.want, described(&s))
			}
		})
	}
}

func TestState_BoundsGaps(t *testing.T) {
	t.Parallel()
	t.Run("of all users: they become one", func(t *testing.T) {
		t.Parallel()
		s := running(subscribed)
		var minutes []time.Time
		for n := range 600 {
			minutes = append(minutes, at(0, 2*n))
		}
		s.Undelivered(minutes)
		require.LessOrEqual(t, len(s.Gaps), 500)
		assertCovered(t, &s, minutes)
	})
	t.Run("of single users: those of both are read", func(t *testing.T) {
		t.Parallel()
		s := running(subscribed)
		for n := range 600 {
			s.Rested([]gap.User{{byte(n), byte(n >> 8)}}, at(0, n), at(0, n+1))
		}
		require.LessOrEqual(t, len(s.Gaps), 500)
		users := map[gap.User]bool{}
		for _, g := range s.Gaps {
			for _, user := range g.Scope.Users {
				users[user] = true
			}
		}
		assert.Len(t, users, 600)
	})
}

func assertCovered(t *testing.T, s *gap.State, times []time.Time) {
	t.Helper()
	for _, at := range times {
		covered := false
		for _, g := range s.Gaps {
			covered = covered || !at.Before(g.From) && at.Before(g.To)
		}
		assert.True(t, covered, at)
	}
}

func TestState_ExpireGivesUpWhatIsTooOld(t *testing.T) {
	t.Parallel()
	old := func(reason gap.Reason, scope gap.Scope, from, to time.Time) gap.State {
		return gap.State{Gaps: []gap.Gap{{Reasons: []gap.Reason{reason}, Scope: scope, From: from, To: to}}}
	}
	for name, test := range map[string]struct {
		state gap.State
		want  []string
		lost  int
	}{
		"all of it":        {old(gap.Startup, gap.Scope{}, at(0, 0).AddDate(0, 0, -9), at(0, 0).AddDate(0, 0, -8)), []string{}, 1},
		"a part of a day":  {old(gap.Startup, gap.Scope{}, at(0, 0).AddDate(0, 0, -9), at(0, 0)), []string{"[startup] 03 12:00:00 - 10 00:00:00"}, 1},
		"no part of an h":  {old(gap.Startup, gap.Scope{}, at(11, 0).AddDate(0, 0, -7), at(0, 0)), []string{"[startup] 03 11:00:00 - 10 00:00:00"}, 0},
		"not of an import": {old(gap.Lookback, gap.Scope{}, at(0, 0).AddDate(0, 0, -9), at(0, 0)), []string{"[lookback] 01 00:00:00 - 10 00:00:00"}, 0},
		"of users not seen, which is no loss": {
			old(gap.UsersUnknown, gap.Scope{SeenSince: at(0, 0)}, at(0, 0).AddDate(0, 0, -9), at(0, 0).AddDate(0, 0, -8)), []string{}, 0,
		},
		"not of a comparison, whose result says that it was too late": {
			old(gap.Reconcile, gap.Scope{}, at(0, 0).AddDate(0, 0, -9), at(0, 0).AddDate(0, 0, -8)), []string{"[reconcile] 01 00:00:00 - 02 00:00:00"}, 0,
		},
		"of a comparison of single users, which is no loss": {
			old(gap.Reconcile, one, at(0, 0).AddDate(0, 0, -9), at(0, 0).AddDate(0, 0, -8)), []string{}, 0,
		},
		"of single users, with their number": {old(gap.Startup, one, at(0, 0).AddDate(0, 0, -9), at(0, 0).AddDate(0, 0, -8)), []string{}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			losses := test.state.Expire(subscribed, at(12, 0))
			assert.Equal(t, test.want, described(&test.state))
			require.Len(t, losses, test.lost)
			for _, lost := range losses {
				assert.Equal(t, at(0, 0).AddDate(0, 0, -9), lost.From)
			}
		})
	}
}

func TestState_DueOpensGapsByTheClock(t *testing.T) {
	t.Parallel()
	future := earlierRun()
	future.Reconciled = at(0, 0).AddDate(0, 0, 5)
	inconclusive := earlierRun()
	inconclusive.Reconciled, inconclusive.Inconclusive = at(0, 0).AddDate(0, 0, -1), at(0, 0).AddDate(0, 0, -2)
	compared := earlierRun()
	compared.Reconciled = at(0, 0).AddDate(0, 0, -1)
	disabled := reconciled
	disabled.Disabled = true
	for name, test := range map[string]struct {
		rules gap.Rules
		state gap.State
		now   time.Time
		want  []string
	}{
		"a first poll reads the last interval":                       {polling, gap.State{}, at(12, 0), []string{"[poll] 10 11:00:00 - 10 11:59:59"}},
		"a poll reads from the last one":                             {polling, gap.State{Polled: at(10, 0)}, at(12, 0), []string{"[poll] 10 10:00:00 - 10 11:59:59"}},
		"no poll is due within the interval":                         {polling, gap.State{Polled: at(11, 30)}, at(12, 0), []string{}},
		"after a subscription it reads from 65 min before the check": {polling, gap.State{Checkpoint: at(10, 0)}, at(12, 0), []string{"[poll] 10 08:55:00 - 10 11:59:59"}},
		"and not from a poll of long before":                         {polling, gap.State{Polled: at(1, 0), Checkpoint: at(10, 0)}, at(12, 0), []string{"[poll] 10 08:55:00 - 10 11:59:59"}},
		"a last poll in the future does not count":                   {polling, gap.State{Polled: at(23, 0)}, at(12, 0), []string{"[poll] 10 11:00:00 - 10 11:59:59"}},
		"a comparison reads up to the delay":                         {reconciled, compared, at(6, 0), []string{"[reconcile] 09 00:00:00 - 10 00:30:00"}},
		"no comparison is due before interval and delay":             {reconciled, compared, at(5, 28), []string{}},
		"a first comparison begins at the first confirmed check":     {reconciled, earlierRun(), at(12, 0), []string{"[reconcile] 07 10:00:00 - 10 06:30:00"}},
		"so does one after a comparison in the future":               {reconciled, future, at(12, 0), []string{"[reconcile] 07 10:00:00 - 10 06:30:00"}},
		"what was inconclusive is compared once more":                {reconciled, inconclusive, at(6, 0), []string{"[reconcile] 08 00:00:00 - 10 00:30:00"}},
		"no comparison without a confirmed check":                    {reconciled, gap.State{}, at(12, 0), []string{}},
		"no comparison without an interval":                          {subscribed, compared, at(12, 0), []string{}},
		"nothing where the history is not read":                      {disabled, compared, at(12, 0), []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, len(test.want) > 0, !test.state.NextAt(test.rules, listed, test.now).After(test.now), "NextAt")
			test.state.Due(test.rules, test.now)
			assert.Equal(t, test.want, described(&test.state))
			test.state.Due(test.rules, test.now.Add(time.Minute))
			assert.Equal(t, test.want, described(&test.state), "it is opened once")
		})
	}
}

func TestState_ReplayIsDoneAgainOnlyIfConfiguredAnew(t *testing.T) {
	t.Parallel()
	r := polling
	r.PollInterval = 0
	r.Replays = []gap.Interval{{From: at(1, 0), To: at(2, 0), Users: one.Users}}
	var s gap.State
	s.Due(r, at(12, 0))
	require.Equal(t, []string{"[replay] 10 01:00:00 - 10 02:00:00 user 1"}, described(&s))
	s = stored(t, s)
	s.Gaps = nil // it was read
	s.Due(r, at(12, 0))
	assert.Empty(t, s.Gaps)
	without := r
	without.Replays = nil
	s.Due(without, at(12, 0))
	s.Due(r, at(12, 0))
	assert.Len(t, s.Gaps, 1)
}

func TestState_DamagedStatePollsMaxGap(t *testing.T) {
	t.Parallel()
	var s gap.State
	s.Start(polling, true, time.Time{}, at(12, 0))
	s.Due(polling, at(12, 0))
	assert.Equal(t, []string{"[poll] 03 12:00:00 - 10 11:59:59"}, described(&s))
}

func TestState_MissingCountsWhatIsKnownAndNotRead(t *testing.T) {
	t.Parallel()
	s := running(reconciled)
	s.Item(reconciled, gap.Empty, idAt(at(9, 30)), at(10, 5))
	s.Interrupted("tenant", gap.Subscription, gap.Scope{}, at(10, 0), at(10, 5))
	s.Due(reconciled, at(10, 5))
	s.Rested(one.Users, at(1, 0), at(9, 0))
	missing := s.Missing(reconciled, at(10, 10))
	assert.Equal(t, 75*time.Minute, missing[gap.Subscription])
	assert.Equal(t, time.Minute, missing[gap.Empty])
	assert.Len(t, missing, len(gap.Reasons())-3)
	for _, reason := range []gap.Reason{gap.Reconcile, gap.Replay, gap.Poll} {
		assert.NotContains(t, missing, reason)
	}
	s.Begin(listed, at(10, 10))
	assert.Equal(t, 75*time.Minute, s.Missing(reconciled, at(10, 10))[gap.Subscription], "it is being read")
	for s.Pass != nil {
		s.Finish(gap.End{}, at(10, 10))
		s.Begin(listed, at(10, 10))
	}
	assert.Equal(t, 5*time.Minute, s.Missing(reconciled, at(10, 15))[gap.Subscription], "the cause lasts, and second readings do not count")
}

func TestState_MissingCountsAnUnconfirmedTime(t *testing.T) {
	t.Parallel()
	s := running(subscribed)
	assert.True(t, s.Recent(subscribed, at(10, 15)))
	assert.Zero(t, s.Missing(subscribed, at(10, 15))[gap.Subscription])
	assert.False(t, s.Recent(subscribed, at(11, 0)))
	assert.Equal(t, 125*time.Minute, s.Missing(subscribed, at(11, 0))[gap.Subscription])
}

// While no subscription is active, the open gap is what is known to be missing, however long that lasts.
func TestState_AllInterrupted(t *testing.T) {
	t.Parallel()
	interrupted := func(now time.Time) gap.State {
		s := running(subscribed)
		s.Interrupted("tenant", gap.Subscription, gap.Scope{}, at(10, 0), at(10, 5))
		for check := at(10, 5); !check.After(now); check = check.Add(5 * time.Minute) {
			s.AllInterrupted(subscribed, check)
			if s.Begin(listed, check); s.Pass != nil {
				s.Finish(gap.End{}, check)
			}
		}
		return s
	}
	later := at(10, 0).AddDate(0, 0, 8)

	s := interrupted(later)
	assert.Equal(t, later, s.Checkpoint)
	assert.LessOrEqual(t, s.Missing(subscribed, later)[gap.Subscription], time.Hour, "it is read hourly")
	assert.False(t, s.NeededFrom(subscribed, later).Before(later.Add(-70*time.Minute)))
	s.Restored("tenant", later)
	s.Confirmed(subscribed, later)
	assert.False(t, s.Lasting())
	assert.Empty(t, s.Expire(subscribed, later), "nothing is lost")
	for _, g := range s.Gaps {
		assert.False(t, g.From.Before(later.Add(-70*time.Minute)), "%v is read again", g)
	}

	restarted := stored(t, interrupted(later))
	restarted.Start(subscribed, false, time.Time{}, later.Add(time.Minute))
	assert.True(t, restarted.Recent(subscribed, later.Add(time.Minute)))
	assert.True(t, restarted.Lasting(), "so events may have been missed all the same")
	restarted.Interrupted("tenant", gap.Subscription, gap.Scope{}, time.Time{}, later.Add(time.Minute))
	for _, g := range restarted.Gaps {
		assert.False(t, g.From.Before(later.Add(-70*time.Minute)), "%v is read again after a restart", g)
	}

	never := gap.State{}
	never.Start(subscribed, false, time.Time{}, at(10, 0))
	never.Interrupted("tenant", gap.Subscription, gap.Scope{}, time.Time{}, at(10, 0))
	never.AllInterrupted(subscribed, at(10, 5))
	assert.Zero(t, never.Checkpoint, "there never was a subscription")

	// A pause ends with a list that shows a subscription, which is replaced at once and can't be created.
	paused := running(subscribed)
	paused.Interrupted("tenant", gap.Subscription, gap.Scope{}, at(15, 0), at(15, 0))
	paused.AllInterrupted(subscribed, at(15, 0))
	assert.Contains(t, described(&paused), "[subscription] 10 08:55:00 - 10 15:05:00", "what happened during the pause is unknown")
}

func TestState_MissingCountsATimeOnce(t *testing.T) {
	t.Parallel()
	s := running(subscribed)
	s.Interrupted("tenant", gap.Subscription, gap.Scope{}, at(10, 0), at(10, 5))
	assert.Equal(t, 125*time.Minute, s.Missing(subscribed, at(11, 0))[gap.Subscription], "though no list was read since")
}

func TestState_NeededFromIsTheEarliestThatWillBeRead(t *testing.T) {
	t.Parallel()
	s := running(subscribed)
	assert.Equal(t, at(10, 5), s.NeededFrom(subscribed, at(10, 5)), "nothing")
	assert.Equal(t, at(10, 0).AddDate(0, 0, -3), s.NeededFrom(reconciled, at(10, 5)), "the first comparison")
	s.Reconciled = at(0, 0)
	assert.Equal(t, at(0, 0), s.NeededFrom(reconciled, at(10, 5)), "the next comparison")
	s.Inconclusive = at(0, 0).AddDate(0, 0, -1)
	assert.Equal(t, at(0, 0).AddDate(0, 0, -1), s.NeededFrom(reconciled, at(10, 5)), "what is compared once more")
	s.Rested(one.Users, at(9, 0), at(10, 0))
	assert.Equal(t, at(9, 0), s.NeededFrom(subscribed, at(10, 5)), "a gap")
	s.Begin(listed, at(10, 5))
	assert.Equal(t, at(9, 0), s.NeededFrom(subscribed, at(10, 5)), "a pass")
	assert.Equal(t, at(8, 55), s.NeededFrom(subscribed, at(11, 0)), "an unconfirmed time")
	s.Rested(one.Users, at(9, 0).AddDate(-1, 0, 0), at(10, 0))
	assert.Equal(t, at(9, 55).AddDate(0, 0, -7), s.NeededFrom(subscribed, at(11, 0)), "at most max_gap and 65 min")
}

func TestUser_ParsesAndPrintsGUIDs(t *testing.T) {
	t.Parallel()
	const id = "84bd8158-6d4d-4958-8b9f-9d6445542f95"
	for _, text := range []string{id, "84BD8158-6D4D-4958-8B9F-9D6445542F95"} {
		user, ok := gap.ParseUser(text)
		assert.True(t, ok)
		assert.Equal(t, id, user.String())
	}
	for _, text := range []string{"", id[1:], id + "0", "84bd8158x6d4d-4958-8b9f-9d6445542f95", "g4bd8158-6d4d-4958-8b9f-9d6445542f95"} {
		_, ok := gap.ParseUser(text)
		assert.False(t, ok, text)
		assert.Error(t, new(gap.User).UnmarshalText([]byte(text)))
	}
}

func TestState_FreshStartCountsFromTheLastRun(t *testing.T) {
	t.Parallel()
	s := earlierRun()
	s.Start(subscribed, false, time.Time{}, at(10, 8))
	s.Confirmed(subscribed, at(10, 30))
	assert.Equal(t, []string{"[subscription] 10 08:55:00 - 10 10:35:00"}, described(&s))
}
