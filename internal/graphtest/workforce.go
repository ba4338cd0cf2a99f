// SPDX-License-Identifier: Apache-2.0

package graphtest

import (
	"math/rand/v2"
	"slices"
	"time"
)

// WorkforceSettings configure a Workforce.
type WorkforceSettings struct {
	// TenantID is the home tenant of all people.
	TenantID string
}

// Workforce is a company whose licensed people work with Copilot by habit: at the working hours of their country, rarely on weekends and
// public holidays, in the apps of their department, and now and then with an agent. People without a license never do. Of those with one,
// by number, rounded:
//
//	12 %  power users, on most days and with many prompts
//	24 %  regular users, in most weeks
//	16 %  occasional users, in some weeks
//	10 %  begin in the course of the history, and are regular from then on
//	 6 %  were regular, and stop in the course of the history
//	12 %  tried it once or twice
//	20 %  never begin
//
// The interactions are those of Turns, with the same peculiarities. The same seed, people and settings give the same interactions for the
// same calls. It is not safe for concurrent use.
type Workforce struct {
	turns   *Turns
	seed    uint64
	rng     *rand.Rand
	workers []*worker
}

// habit is how somebody uses Copilot.
type habit struct {
	name string
	// share is the part of the people who have it.
	share float64
	// weeks is the probability that they use it in a week at all, days on a working day of such a week, and turns is the average
	// number of turns on such a day.
	weeks, days, turns float64
}

var habits = []habit{
	{"power", 0.12, 0.97, 0.9, 11},
	{"regular", 0.24, 0.9, 0.6, 5},
	{"newcomer", 0.10, 0.85, 0.6, 5},
	{"occasional", 0.16, 0.45, 0.25, 1},
	{"stopped", 0.06, 0.9, 0.6, 4},
	{"tried", 0.12, 0, 0, 0},
	{"never", 0.20, 0, 0, 0},
}

// worker is one of the licensed people.
type worker struct {
	Person
	workplace
	habit
	// number distinguishes the random numbers of the workers.
	number uint64
	// intensity is by how much their turns differ from those of the habit.
	intensity float64
	// begins and ends are when they begin and stop, as parts of the history's period.
	begins, ends float64
	// apps holds how often they use each of the package's apps.
	apps []float64
}

// NewWorkforce returns the workforce of the people, such as those of Company.
func NewWorkforce(seed uint64, people []Person, settings WorkforceSettings) *Workforce {
	w := &Workforce{seed: seed, rng: rand.New(rand.NewPCG(seed, 5))} //nolint:gosec // the stream must be repeatable
	ids := make([]string, 0, len(people))
	for _, p := range people {
		if p.licensed() {
			w.workers, ids = append(w.workers, w.newWorker(p)), append(ids, p.ID)
		}
	}
	w.turns = NewTurns(seed, TurnSettings{TenantID: settings.TenantID, UserIDs: ids})
	for i, n := range w.rng.Perm(len(w.workers)) {
		w.workers[n].habit = habitOf((float64(i) + 0.5) / float64(len(w.workers)))
		w.workers[n].setPeriod(w.rng)
	}
	return w
}

func (w *Workforce) newWorker(p Person) *worker {
	place, known := workplaces[p.Country]
	if !known {
		place = elsewhere
	}
	return &worker{
		Person: p, workplace: place, number: uint64(len(w.workers)),
		intensity: 0.5 + w.rng.Float64(), ends: 1, apps: appWeights(p.Department, w.rng),
	}
}

// habitOf returns the habit at a place between 0 and 1, if all people stood in a row by habit.
func habitOf(place float64) habit {
	for _, h := range habits {
		if place -= h.share; place < 0 {
			return h
		}
	}
	return habits[len(habits)-1]
}

func (w *worker) setPeriod(rng *rand.Rand) {
	switch part := 0.1 + 0.75*rng.Float64(); w.name {
	case "newcomer":
		w.begins = part
	case "stopped":
		w.ends = part
	}
}

// task is a turn that a worker will have.
type task struct {
	*worker
	app app
	at  time.Time
}

// History returns the interactions between two times, in order of creation.
func (w *Workforce) History(from, to time.Time) []Interaction {
	var tasks []task
	for _, worker := range w.workers {
		//nolint:gosec // the history must be repeatable
		rng := rand.New(rand.NewPCG(w.seed, 16+worker.number))
		tasks = append(tasks, worker.schedule(rng, from, to.Add(-maxTurnDuration))...)
	}
	slices.SortStableFunc(tasks, func(a, b task) int { return a.at.Compare(b.at) })
	var all []Interaction
	for _, t := range tasks {
		all = append(all, w.do(t)...)
	}
	slices.SortStableFunc(all, func(a, b Interaction) int { return a.Created.Compare(b.Created) })
	return all
}

// Next returns a turn, as Turns does, of somebody who is likely to work with Copilot at this time: never of those who have stopped, only
// tried it, or never began. It returns nothing if there is nobody else.
func (w *Workforce) Next(now time.Time) []Interaction {
	weights := make([]float64, len(w.workers))
	for i, worker := range w.workers {
		weights[i] = worker.weight(now)
	}
	if !slices.ContainsFunc(weights, func(weight float64) bool { return weight > 0 }) {
		return nil
	}
	worker := w.workers[weighted(w.rng, weights)]
	return w.do(task{worker, apps[weighted(w.rng, worker.apps)], w.turns.shortlyBefore(now)})
}

// quietHour is the least weight of an hour for Next, so that there is somebody at any time.
const quietHour = 0.02

// weight returns how likely the worker has a turn at a time, in proportion to the others.
func (w *worker) weight(now time.Time) float64 {
	if w.ends < 1 {
		return 0
	}
	local := now.In(w.zone())
	return w.weeks * w.days * w.turns * w.intensity * w.dayWeight(local) * max(hourWeights[local.Hour()], quietHour)
}

// schedule returns the turns of the worker from one time to another.
func (w *worker) schedule(rng *rand.Rand, from, to time.Time) []task {
	days := localDays(from, to, w.zone())
	var tasks []task
	if w.name == "tried" {
		for range 1 + rng.IntN(2) {
			tasks = append(tasks, w.workOn(w.workday(rng, days), 1+rng.IntN(2), rng)...)
		}
	}
	busy := false
	for i, day := range days {
		if i == 0 || day.Weekday() == time.Monday {
			busy = rng.Float64() < w.weeks
		}
		likely := w.dayWeight(day)
		if rng.Float64() < w.days*likely && busy {
			average := w.turns * w.intensity * max(likely, 0.3)
			tasks = append(tasks, w.workOn(day, 1+int(average*(0.5+rng.Float64())), rng)...)
		}
	}
	period := float64(to.Sub(from))
	begin, end := from.Add(time.Duration(w.begins*period)), from.Add(time.Duration(w.ends*period))
	return slices.DeleteFunc(tasks, func(t task) bool { return t.at.Before(begin) || !t.at.Before(end) })
}

// localDays returns the beginnings of the days between two times.
func localDays(from, to time.Time, zone *time.Location) []time.Time {
	year, month, day := from.In(zone).Date()
	var days []time.Time
	for at := time.Date(year, month, day, 0, 0, 0, 0, zone); at.Before(to); at = at.AddDate(0, 0, 1) {
		days = append(days, at)
	}
	return days
}

// workday returns one of the days, a working day if one of a few attempts finds any, and not the last, which is not over yet.
func (w *worker) workday(rng *rand.Rand, days []time.Time) time.Time {
	day := days[0]
	for range 10 {
		if day = days[rng.IntN(max(1, len(days)-1))]; w.dayWeight(day) == 1 {
			break
		}
	}
	return day
}

// workOn returns n turns on a day, in conversations of one to four turns in the same app.
func (w *worker) workOn(day time.Time, n int, rng *rand.Rand) []task {
	var tasks []task
	for len(tasks) < n {
		at, used := day.Add(timeOfDay(rng)), apps[weighted(rng, w.apps)]
		for range min(1+rng.IntN(4), n-len(tasks)) {
			tasks = append(tasks, task{w, used, at})
			at = at.Add(time.Duration(20_000+rng.IntN(280_000)) * time.Millisecond)
		}
	}
	return tasks
}

// do returns the interactions of a task.
func (w *Workforce) do(t task) []Interaction {
	one := &turn{Turns: w.turns, app: t.app, user: t.ID, locale: t.locale}
	one.topic, one.agent = w.subject(t)
	one.endIdleSession(t.at)
	one.begin()
	return one.interactions(t.at)
}

const (
	// localLanguage is how often people write in the language of their country, if it isn't English, and otherLanguage how often anybody
	// writes in Arabic.
	localLanguage, otherLanguage = 0.6, 0.01
	// ownTopic is how often people write of what only their department does.
	ownTopic = 0.6
	// agentCall is how often a prompt calls an agent in an app that has agents.
	agentCall = 0.12
)

// subject returns what a turn is about and the agent that it calls, if any.
func (w *Workforce) subject(t task) (topic, *agent) {
	rng := w.turns.rng
	if slices.Contains(appsWithAgents, t.app.name()) && w.turns.roll(agentCall) {
		called := choose(rng, agentsOf(t.Department))
		return choose(rng, called.topics), &called
	}
	language := "en"
	switch n := rng.Float64(); {
	case n < otherLanguage:
		language = "ar"
	case n < otherLanguage+localLanguage:
		language = t.language
	}
	fitting := fittingTopics(language, t.Department, t.app.name())
	own := slices.DeleteFunc(slices.Clone(fitting), func(s topic) bool { return s.department == "" })
	if len(own) > 0 && w.turns.roll(ownTopic) {
		return choose(rng, own), nil
	}
	return choose(rng, fitting), nil
}

// idleSession is after how long a conversation is not continued.
const idleSession = 4 * time.Hour

func (t *turn) endIdleSession(at time.Time) {
	key := [2]string{t.user, t.class}
	session := t.sessions[key]
	if at.UnixMilli()-t.lastID[session] > idleSession.Milliseconds() {
		delete(t.lastID, session)
		delete(t.sessions, key)
	}
}
