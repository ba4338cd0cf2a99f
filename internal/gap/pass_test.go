// SPDX-License-Identifier: Apache-2.0

package gap_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
)

func reason(r gap.Reason, from, to time.Time) gap.Gap {
	return gap.Gap{Reasons: []gap.Reason{r}, From: from, To: to}
}

func of(scope gap.Scope, g gap.Gap) gap.Gap {
	g.Scope = scope
	return g
}

// begin returns a state with gaps, of which a pass has begun.
func begin(t *testing.T, now time.Time, gaps ...gap.Gap) gap.State {
	t.Helper()
	s := gap.State{Gaps: gaps}
	s.Begin(listed, now)
	require.NotNil(t, s.Pass)
	return s
}

func TestPass_BeginTakesWhatIsReadTogether(t *testing.T) {
	t.Parallel()
	open := gap.Gap{Reasons: []gap.Reason{gap.Subscription}, From: at(9, 0), Cause: "tenant"}
	waiting := reason(gap.Startup, at(8, 0), at(9, 0))
	waiting.NotBefore = at(12, 1)
	second := reason(gap.Startup, at(8, 30), at(9, 0))
	second.Second = true
	for name, test := range map[string]struct {
		gaps []gap.Gap
		pass string
		left []string
	}{
		"a gap up to its end":                        {[]gap.Gap{reason(gap.Startup, at(8, 0), at(9, 0))}, "[startup] 10 08:00:00 - 10 09:00:00", []string{}},
		"an open gap up to now, the rest in an hour": {[]gap.Gap{open}, "[subscription] 10 09:00:00 - 10 12:00:00", []string{"[subscription] 10 12:00:00 - open for tenant not before 10 13:00:00"}},
		"a gap that ends later up to now, then at its end": {
			[]gap.Gap{reason(gap.Startup, at(8, 0), at(12, 5))}, "[startup] 10 08:00:00 - 10 12:00:00", []string{"[startup] 10 12:00:00 - 10 12:05:00 not before 10 12:05:00"},
		},
		"gaps within an hour of each other": {
			[]gap.Gap{reason(gap.Startup, at(8, 0), at(9, 0)), reason(gap.Undelivered, at(10, 0), at(10, 1))}, "[startup] 10 08:00:00 - 10 09:00:00, [undelivered] 10 10:00:00 - 10 10:01:00", []string{},
		},
		"not those further apart": {
			[]gap.Gap{reason(gap.Startup, at(8, 0), at(9, 0)), reason(gap.Undelivered, at(10, 1), at(10, 2))}, "[startup] 10 08:00:00 - 10 09:00:00", []string{"[undelivered] 10 10:01:00 - 10 10:02:00"},
		},
		"single users of about the same time": {
			[]gap.Gap{of(one, reason(gap.Startup, at(8, 0), at(9, 0))), of(two, reason(gap.Startup, at(8, 30), at(9, 30)))}, "[startup] 10 08:00:00 - 10 09:00:00 user 1, [startup] 10 08:30:00 - 10 09:30:00 user 2", []string{},
		},
		"not those of other times": {
			[]gap.Gap{of(one, reason(gap.Startup, at(8, 0), at(9, 0))), of(two, reason(gap.Startup, at(8, 30), at(11, 0)))}, "[startup] 10 08:00:00 - 10 09:00:00 user 1", []string{"[startup] 10 08:30:00 - 10 11:00:00 user 2"},
		},
		"not a comparison with others": {
			[]gap.Gap{reason(gap.Startup, at(8, 0), at(9, 0)), reason(gap.Reconcile, at(8, 30), at(9, 0))}, "[startup] 10 08:00:00 - 10 09:00:00", []string{"[reconcile] 10 08:30:00 - 10 09:00:00"},
		},
		"not a second reading with a first": {
			[]gap.Gap{reason(gap.Startup, at(8, 0), at(9, 0)), second}, "[startup] 10 08:00:00 - 10 09:00:00", []string{"[startup] 10 08:30:00 - 10 09:00:00 second"},
		},
		"not what must wait": {
			[]gap.Gap{waiting, reason(gap.Startup, at(8, 10), at(8, 50))}, "[startup] 10 08:10:00 - 10 08:50:00", []string{"[startup] 10 08:00:00 - 10 09:00:00 not before 10 12:01:00"},
		},
		"the one that is ready for the longest time": {
			[]gap.Gap{reason(gap.Reconcile, at(10, 0), at(11, 0)), reason(gap.Startup, at(8, 0), at(9, 0))}, "[startup] 10 08:00:00 - 10 09:00:00", []string{"[reconcile] 10 10:00:00 - 10 11:00:00"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := begin(t, at(12, 0), test.gaps...)
			assert.Equal(t, test.pass, describePass(s.Pass))
			assert.Equal(t, test.left, described(&s))
		})
	}
}

func TestPass_FinishOpensWhatRemains(t *testing.T) {
	t.Parallel()
	seen := gap.Scope{SeenSince: at(8, 0)}
	second := reason(gap.Startup, at(8, 30), at(9, 0))
	second.Second = true
	partialBefore := func(s *gap.State) { s.Pass.Partial = true }
	for name, test := range map[string]struct {
		gap    gap.Gap
		before func(*gap.State)
		end    gap.End
		want   []string
	}{
		"nothing of what is older than an hour": {gap: reason(gap.Startup, at(8, 0), at(11, 0)), want: []string{}},
		"a second reading of the last hour":     {gap: reason(gap.Startup, at(8, 0), at(12, 0)), want: []string{"[startup] 10 11:00:00 - 10 12:00:00 second not before 10 13:00:00"}},
		"a second reading of a part of it":      {gap: reason(gap.Startup, at(11, 20), at(11, 30)), want: []string{"[startup] 10 11:20:00 - 10 11:30:00 second not before 10 13:00:00"}},
		"no second reading of a replay":         {gap: reason(gap.Replay, at(8, 0), at(12, 0)), want: []string{}},
		"no third reading":                      {gap: second, want: []string{}},
		"the users who failed, in 5 min": {
			gap: reason(gap.Startup, at(8, 0), at(9, 0)), end: gap.End{Failed: one.Users}, want: []string{"[startup] 10 08:00:00 - 10 09:00:00 user 1 not before 10 12:05:00"},
		},
		"users not seen, where the directory is not known": {
			gap: reason(gap.Startup, at(8, 0), at(9, 0)), end: gap.End{Partial: true}, want: []string{"[users_unknown] 10 08:00:00 - 10 09:00:00 seen since 10 12:00:00"},
		},
		"the same where a part of the pass was so": {
			gap: reason(gap.Startup, at(8, 0), at(9, 0)), before: partialBefore, want: []string{"[users_unknown] 10 08:00:00 - 10 09:00:00 seen since 10 12:00:00"},
		},
		"but not after a comparison": {gap: reason(gap.Reconcile, at(8, 0), at(9, 0)), end: gap.End{Partial: true}, want: []string{}},
		"users seen even later, after a pass for such": {
			gap: of(seen, reason(gap.UsersUnknown, at(8, 0), at(9, 0))), end: gap.End{Partial: true}, want: []string{"[users_unknown] 10 08:00:00 - 10 09:00:00 seen since 10 12:00:00"},
		},
		"nothing once the directory is known": {gap: of(seen, reason(gap.UsersUnknown, at(8, 0), at(9, 0))), want: []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := gap.State{Gaps: []gap.Gap{test.gap}}
			s.Begin(gap.Users{Listed: true}, at(12, 0))
			if test.before != nil {
				test.before(&s)
			}
			s = stored(t, s)
			s.Finish(test.end, at(12, 0))
			assert.Nil(t, s.Pass)
			assert.Equal(t, test.want, described(&s))
		})
	}
}

func TestPass_RetriesWithBackoff(t *testing.T) {
	t.Parallel()
	var waits []time.Duration
	s := gap.State{Gaps: []gap.Gap{reason(gap.Startup, at(0, 0), at(1, 0))}}
	now := at(12, 0)
	for range 6 {
		s.Begin(listed, now)
		assert.Equal(t, len(waits) > 0, s.Pass.Retry())
		s.Abort(now)
		next := s.NextAt(subscribed, listed, now)
		waits = append(waits, next.Sub(now))
		now = next
	}
	assert.Equal(t, "[5m0s 10m0s 20m0s 40m0s 1h0m0s 1h0m0s]", fmt.Sprint(waits))
	s.Begin(listed, now)
	s.Finish(gap.End{}, now)
	assert.Empty(t, s.Gaps)
}

func TestPass_AbortKeepsIntervalAndUsers(t *testing.T) {
	t.Parallel()
	s := begin(t, at(12, 0), of(one, reason(gap.Startup, at(8, 0), at(9, 0))), of(two, reason(gap.Undelivered, at(8, 30), at(9, 30))))
	before := s.Count()
	s.Abort(at(12, 0))
	assert.Equal(t, []string{"[startup undelivered] 10 08:00:00 - 10 09:30:00 user 1 user 2 not before 10 12:05:00"}, described(&s))
	assert.Equal(t, map[gap.Reason]int{gap.Startup: 1, gap.Undelivered: 1}, before)
	assert.Equal(t, map[gap.Reason]int{gap.Startup: 1}, s.Count(), "they are one gap now")
}

func TestPass_AbortKeepsTheRestOfAnOpenGap(t *testing.T) {
	t.Parallel()
	s := begin(t, at(12, 0), gap.Gap{Reasons: []gap.Reason{gap.Subscription}, From: at(9, 0), Cause: "tenant"})
	assert.Equal(t, map[gap.Reason]int{gap.Subscription: 1}, s.Count(), "what is read of it is no other gap")
	s.Abort(at(12, 1))
	want := []string{"[subscription] 10 09:00:00 - 10 12:00:00 not before 10 12:06:00", "[subscription] 10 12:00:00 - open for tenant not before 10 13:00:00"}
	assert.Equal(t, want, described(&s))
	s.Abort(at(12, 2))
	assert.Equal(t, want, described(&s), "no pass is aborted")
}

func TestPass_OpenGapIsReadHourly(t *testing.T) {
	t.Parallel()
	s := gap.State{Gaps: []gap.Gap{{Reasons: []gap.Reason{gap.Subscription}, From: at(9, 0), Cause: "tenant"}}}
	first := 0
	for now := at(12, 0); now.Before(at(18, 0)); now = now.Add(time.Minute) {
		for s.Begin(listed, now); s.Pass != nil; s.Begin(listed, now) {
			if !s.Pass.Second() {
				first++
			}
			s.Finish(gap.End{}, now)
		}
	}
	assert.Equal(t, 6, first)
}

func TestPass_ItemsAreReadHourly(t *testing.T) {
	t.Parallel()
	var s gap.State
	passes := 0
	for now := at(6, 0); now.Before(at(12, 0)); now = now.Add(time.Minute) {
		s.Item(subscribed, gap.Undecryptable, idAt(now), now)
		for s.Begin(listed, now); s.Pass != nil; s.Begin(listed, now) {
			passes++
			s.Finish(gap.End{}, now)
		}
	}
	assert.LessOrEqual(t, passes, 7)
	assert.GreaterOrEqual(t, passes, 5)
}

// An hour after the first reading of an item's minute it is read again, together with what has come since.
func TestPass_SecondReadingOfItemsIsReadWithNewOnes(t *testing.T) {
	t.Parallel()
	var s gap.State
	s.Item(subscribed, gap.Unverified, idAt(at(11, 55)), at(12, 0))
	s.Begin(listed, at(12, 0))
	require.Equal(t, "[unverified] 10 11:55:00 - 10 11:56:00", describePass(s.Pass))
	s.Finish(gap.End{}, at(12, 0))
	s.Begin(listed, at(12, 59))
	require.Nil(t, s.Pass, "not within an hour")
	s.Item(subscribed, gap.Unverified, idAt(at(12, 41)), at(13, 11))
	s.Begin(listed, at(13, 11))
	assert.Equal(t, "[unverified] 10 11:55:00 - 10 11:56:00 second not before 10 13:00:00, [unverified] 10 12:41:00 - 10 12:42:00", describePass(s.Pass))
	assert.False(t, s.Pass.Second())
	s.Abort(at(13, 11))
	assert.Contains(t, described(&s), "[unverified] 10 11:55:00 - 10 12:42:00 not before 10 13:16:00", "as a first reading")
}

func TestPass_BeginsNoSoonerThanTheLastTook(t *testing.T) {
	t.Parallel()
	s := begin(t, at(12, 0), reason(gap.Startup, at(8, 0), at(9, 0)))
	s.Finish(gap.End{Took: 2 * time.Hour}, at(14, 0))
	s.Gaps = []gap.Gap{reason(gap.Startup, at(9, 0), at(10, 0)), reason(gap.Undelivered, at(9, 0), at(9, 1))}
	s.Begin(listed, at(14, 1))
	assert.Equal(t, "[undelivered] 10 09:00:00 - 10 09:01:00", describePass(s.Pass), "another reason need not wait")
	s.Finish(gap.End{}, at(14, 1))
	s.Begin(listed, at(15, 59))
	assert.Nil(t, s.Pass)
	s.Begin(listed, at(16, 0))
	assert.NotNil(t, s.Pass)
}

func TestPass_UnknownUsersAreReadWhenOneIsSeen(t *testing.T) {
	t.Parallel()
	unknown := of(gap.Scope{SeenSince: at(10, 0)}, reason(gap.UsersUnknown, at(8, 0), at(9, 0)))
	for name, test := range map[string]struct {
		users gap.Users
		want  bool
	}{
		"nobody was seen":               {gap.Users{}, false},
		"the last was seen before":      {gap.Users{NewestSeen: at(9, 59)}, false},
		"one was seen":                  {gap.Users{NewestSeen: at(10, 0)}, true},
		"the directory names all":       {gap.Users{Listed: true}, true},
		"one was seen by a wrong clock": {gap.Users{NewestSeen: at(23, 0)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := gap.State{Gaps: []gap.Gap{unknown}}
			assert.Equal(t, test.want, s.NextAt(subscribed, test.users, at(12, 0)).Before(at(24, 0)))
			s.Begin(test.users, at(12, 10))
			assert.Equal(t, test.want, s.Pass != nil)
			if s.Pass == nil {
				return
			}
			s.Finish(gap.End{Partial: !test.users.Listed}, at(12, 11))
			s.Begin(test.users, at(12, 12))
			assert.Nil(t, s.Pass, "not again at once")
		})
	}
}

func TestPass_PollsKeepOneGapOfUnknownUsers(t *testing.T) {
	t.Parallel()
	var s gap.State
	for now := at(0, 0); now.Before(at(20, 0)); now = now.Add(10 * time.Minute) {
		s.Due(polling, now)
		for s.Begin(gap.Users{}, now); s.Pass != nil; s.Begin(gap.Users{}, now) {
			s.Finish(gap.End{Partial: true}, now)
		}
	}
	unknown := 0
	for _, g := range s.Gaps {
		if g.Reason() == gap.UsersUnknown {
			unknown++
		}
	}
	assert.Equal(t, 1, unknown)
}

func TestPass_WaitsSetByAWrongClockDoNotCount(t *testing.T) {
	t.Parallel()
	g := reason(gap.Startup, at(8, 0), at(9, 0))
	g.NotBefore = at(0, 0).AddDate(0, 0, 10)
	s := begin(t, at(12, 0), g)
	assert.Equal(t, at(8, 0), s.Pass.From)
}

func TestPass_FutureEndIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	s := begin(t, at(12, 0), reason(gap.Startup, at(8, 0), at(9, 0).AddDate(0, 0, 10)))
	assert.Equal(t, at(12, 0), s.Pass.To)
	assert.Empty(t, s.Gaps)
}

func TestPass_ReconciliationResults(t *testing.T) {
	t.Parallel()
	compare := func(s *gap.State, from, to int, outcome gap.Outcome, scope gap.Scope) {
		s.Gaps = []gap.Gap{of(scope, reason(gap.Reconcile, at(from, 0), at(to, 0)))}
		s.Begin(listed, at(20, from))
		s.Finish(gap.End{Outcome: outcome}, at(20, from))
	}
	var s gap.State
	compare(&s, 1, 2, gap.Inconclusive, gap.Scope{})
	assert.Equal(t, gap.Result{Outcome: gap.Inconclusive, To: at(2, 0)}, s.Result)
	assert.Equal(t, at(1, 0), s.Inconclusive)
	compare(&s, 1, 3, gap.Inconclusive, gap.Scope{})
	assert.Equal(t, at(2, 0), s.Inconclusive, "what was compared twice is not compared again, but what is new")
	compare(&s, 2, 4, gap.Complete, gap.Scope{})
	assert.Equal(t, gap.Result{Outcome: gap.Complete, To: at(4, 0)}, s.Result)
	assert.Zero(t, s.Inconclusive)
	compare(&s, 4, 5, gap.Inconclusive, one)
	assert.Equal(t, gap.Complete, s.Result.Outcome, "a retry for users is not the result")
	assert.Equal(t, at(4, 0), s.Inconclusive, "and is compared once more")
}

func TestState_CloneIsNotChangedByLaterEvents(t *testing.T) {
	t.Parallel()
	r := reconciled
	r.Replays = []gap.Interval{{From: at(1, 0), To: at(2, 0)}}
	s := running(r)
	s.Interrupted("tenant", gap.Subscription, gap.Scope{}, at(10, 0), at(10, 5))
	s.Due(r, at(12, 0))
	s.Begin(listed, at(12, 0))
	clone := s.Clone()
	before := stored(t, clone)
	cursor := gap.User{1}
	s.Pass.Cursor, s.Pass.Failed = &cursor, one.Users
	s.Finish(gap.End{Failed: one.Users}, at(12, 1))
	s.Restored("tenant", at(12, 2))
	s.Expire(r, at(12, 0).AddDate(0, 0, 8))
	assert.Equal(t, before, stored(t, clone))
}

func TestPass_ProgressIsStored(t *testing.T) {
	t.Parallel()
	s := begin(t, at(12, 0), reason(gap.Reconcile, at(8, 0), at(9, 0)))
	cursor := gap.User{2}
	s.Pass.Cursor, s.Pass.Failed, s.Pass.Partial = &cursor, one.Users, true
	s.Pass.Comparison = gap.Comparison{Users: 2, Interactions: 30, Recovered: 1}
	next := stored(t, s)
	assert.Equal(t, s.Pass, next.Pass)
}

func TestPass_UserSeenBetweenTwoPartialPasses(t *testing.T) {
	t.Parallel()
	seen := func(since, from, to time.Time) gap.Gap {
		return of(gap.Scope{SeenSince: since}, reason(gap.UsersUnknown, from, to))
	}
	s := gap.State{Gaps: []gap.Gap{seen(at(10, 0), at(8, 0), at(9, 0)), reason(gap.Startup, at(9, 0), at(9, 30))}}
	s.Begin(gap.Users{}, at(12, 0))
	s.Finish(gap.End{Partial: true}, at(12, 0))
	require.Equal(t, []string{"[users_unknown] 10 08:00:00 - 10 09:30:00 seen since 10 10:00:00"}, described(&s))
	assert.True(t, s.NextAt(subscribed, gap.Users{NewestSeen: at(11, 0)}, at(12, 0)).Before(at(24, 0)))
}
