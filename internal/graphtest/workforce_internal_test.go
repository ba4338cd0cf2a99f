// SPDX-License-Identifier: Apache-2.0

package graphtest

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// use is how a person used Copilot in twelve weeks.
type use struct {
	prompts int
	weeks   map[int]bool
	// first and last are weeks, counted from 0.
	first, last int
}

// usesByHabit returns how the people of each habit used Copilot.
func usesByHabit(t *testing.T) map[string][]use {
	t.Helper()
	w := NewWorkforce(1, Company(1, 200), WorkforceSettings{TenantID: "tenant"})
	to := time.Date(2025, 11, 24, 16, 0, 0, 0, time.UTC)
	from := to.AddDate(0, 0, -84)
	uses := map[string]*use{}
	for _, i := range w.History(from, to) {
		one := uses[i.UserID]
		if one == nil {
			one = &use{first: 12, weeks: map[int]bool{}}
			uses[i.UserID] = one
		}
		var graph struct{ InteractionType string }
		require.NoError(t, json.Unmarshal(i.JSON, &graph))
		if graph.InteractionType != "userPrompt" {
			continue
		}
		week := int(i.Created.Sub(from) / (7 * 24 * time.Hour))
		one.prompts++
		one.weeks[week] = true
		one.first, one.last = min(one.first, week), max(one.last, week)
	}
	byHabit := map[string][]use{}
	for _, worker := range w.workers {
		one := use{}
		if used := uses[worker.ID]; used != nil {
			one = *used
		}
		byHabit[worker.name] = append(byHabit[worker.name], one)
	}
	return byHabit
}

// The shares are those that the documentation of Workforce names.
func TestWorkforce_HabitsAreAsDocumented(t *testing.T) {
	t.Parallel()
	byHabit := usesByHabit(t)
	counts := map[string]int{}
	for name, uses := range byHabit {
		counts[name] = len(uses)
	}
	assert.Equal(t, map[string]int{
		"power": 18, "regular": 36, "occasional": 24, "newcomer": 15, "stopped": 9, "tried": 18, "never": 30,
	}, counts)
	for name, check := range map[string]func(use) bool{
		"power":      func(u use) bool { return len(u.weeks) >= 9 && u.prompts > 15*12 },
		"regular":    func(u use) bool { return len(u.weeks) >= 7 && u.first <= 2 && u.last >= 9 },
		"occasional": func(u use) bool { return len(u.weeks) >= 1 && u.prompts < 4*12 },
		"newcomer":   func(u use) bool { return u.first >= 1 && u.last >= 9 && 2*len(u.weeks) >= 12-u.first },
		"stopped":    func(u use) bool { return u.last <= 10 && u.prompts > 0 && 2*len(u.weeks) >= u.last+1 },
		"tried":      func(u use) bool { return u.prompts >= 1 && u.prompts <= 4 },
		"never":      func(u use) bool { return u.prompts == 0 },
	} {
		for _, u := range byHabit[name] {
			assert.True(t, check(u), "%s: %+v", name, u)
		}
	}
	habitual := func(uses []use) (n int) {
		for _, u := range uses {
			if len(u.weeks) >= 9 {
				n++
			}
		}
		return n
	}
	assert.Greater(t, habitual(byHabit["regular"]), 30, "most are active in 9 of 12 weeks")
	assert.Less(t, habitual(byHabit["occasional"]), 4)
}

func TestWorkforce_SmallestCompanyConverses(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 50; n++ {
		w := NewWorkforce(1, Company(1, 2*n), WorkforceSettings{})
		assert.NotEmpty(t, w.Next(time.Now()), "%d people", 2*n)
	}
}

func TestWeighted_FollowsWeights(t *testing.T) {
	t.Parallel()
	rng := NewTurns(1, TurnSettings{}).rng
	counts := make([]float64, 5)
	for range 10_000 {
		counts[weighted(rng, []float64{0, 3, 1, 0, 4})]++
	}
	assert.InDeltaSlice(t, []float64{0, 3750, 1250, 0, 5000}, counts, 200)
	assert.Zero(t, counts[0]+counts[3])
}
