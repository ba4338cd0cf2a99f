// SPDX-License-Identifier: Apache-2.0

package turn_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/turn"
)

// kind is how the interactions of a session look.
type kind int

const (
	ordinary  kind = iota // one user, each turn has a request id
	withoutID             // one user, no request ids
	changing              // one user, a response has another request id than its prompt
	inMeeting             // several users; Graph names the meeting in each prompt, and in some responses
	shared                // several users, and nothing of Graph tells
	kinds
)

// conversation is a session of the model.
type conversation struct {
	kind
	id       string
	users    []string
	requests int
	sent     map[string]int  // the ids of prompts that came, with how many prompts had come of all conversations
	asked    map[string]bool // the users of its turns so far
}

// event is one interaction on its way.
type event struct {
	at       int // when it arrives
	received interaction.Received
	// learnOnly is set if the dedupe cache drops it.
	learnOnly bool
	session   *conversation
	user      string // whose turn it is
	prompt    string // the id of the prompt of its turn
}

// model generates turns, and knows whose they are.
type model struct {
	random   *rand.Rand
	users    []string
	sessions []*conversation
	events   []event
	lastID   int
}

func newModel(seed uint64, sessions int, only ...kind) *model {
	m := &model{random: rand.New(rand.NewPCG(seed, 1))}
	for i := range 60 {
		user := fmt.Sprintf("%08x-5d31-4f0c-8e62-7a1b3c5d9f00", i*7919)
		if i%10 == 0 {
			user = "guest_" + strconv.Itoa(i) + "@fabrikam.example" // not every id is a GUID
		}
		m.users = append(m.users, user)
	}
	for i := range sessions {
		s := &conversation{
			id: "19:" + strconv.Itoa(i), kind: kind(i) % kinds, sent: map[string]int{}, asked: map[string]bool{},
			users: []string{m.pick()},
		}
		if len(only) > 0 {
			s.kind = only[i%len(only)]
		}
		for s.kind >= inMeeting && len(s.users) < 3 {
			if user := m.pick(); !slices.Contains(s.users, user) {
				s.users = append(s.users, user)
			}
		}
		m.sessions = append(m.sessions, s)
	}
	return m
}

func (m *model) pick() string { return m.users[m.random.IntN(len(m.users))] }

func (m *model) chance(p float64) bool { return m.random.Float64() < p }

// generate makes the events of turns, in the order of their arrival. A turn begins at each point in time.
func (m *model) generate(turns int) {
	for at := range turns {
		m.turn(at)
	}
	m.random.Shuffle(len(m.events), func(i, j int) { m.events[i], m.events[j] = m.events[j], m.events[i] })
	slices.SortStableFunc(m.events, func(a, b event) int { return a.at - b.at })
}

// turn makes a prompt, which is missing in 5 % of turns, arrives late in 3 % and again in 10 %, and up to three responses, of which
// 10 % come much later.
func (m *model) turn(at int) {
	s := m.sessions[m.random.IntN(len(m.sessions))]
	user := s.users[m.random.IntN(len(s.users))]
	s.requests++
	request := "r" + strconv.Itoa(s.requests) // unique only within a session
	if s.kind == withoutID {
		request = ""
	}
	asks := prompt(s.id, request, m.nextID(), user)
	if s.kind == inMeeting {
		asks = meeting(asks)
	}
	if m.chance(0.5) {
		asks.From.User.ID = strings.ToUpper(user)
	}
	e := event{at: at, session: s, user: user, prompt: asks.ID}
	// That a conversation is shared can be known only from its prompts, unless Graph names a meeting. Those come in order.
	reliable := s.kind == shared && len(s.asked) < 2
	if s.asked[user] = true; reliable || !m.chance(0.05) {
		arrives := at
		if !reliable && m.chance(0.03) {
			arrives += m.random.IntN(100)
		}
		m.add(e, arrives, asks)
		if m.chance(0.1) {
			again := m.event(e, arrives+m.random.IntN(500), asks)
			again.learnOnly = true
			m.events = append(m.events, again)
		}
	}
	for range 1 + m.random.IntN(3) {
		arrives := at
		if reliable {
			arrives += 5 // in a later batch
		} else if m.chance(0.5) {
			arrives += m.random.IntN(3)
		}
		if m.chance(0.1) {
			arrives += m.random.IntN(2000)
		}
		m.add(e, arrives, m.response(s, request))
	}
}

func (m *model) response(s *conversation, request string) interaction.Received {
	if s.kind == changing && m.chance(0.5) {
		request = "x" + m.nextID()
	}
	answer := response(s.id, request, m.nextID())
	if s.kind == inMeeting && m.chance(0.5) {
		answer = meeting(answer)
	}
	return answer
}

func (m *model) add(e event, at int, r interaction.Received) {
	m.events = append(m.events, m.event(e, at, r))
}

func (m *model) event(e event, at int, r interaction.Received) event {
	e.at, e.received = at, r
	return e
}

func (m *model) nextID() string {
	m.lastID++
	return strconv.Itoa(1_700_000_000_000 + m.lastID)
}

// run attributes all events. Some batches come from histories. It restarts after the given parts of the events.
func (m *model) run(t *testing.T, restart func(a *turn.Attribution) *turn.Attribution, restarts ...float64) counts {
	t.Helper()
	a, got := restart(nil), newCounts()
	for next := 0; next < len(m.events); {
		batch := m.events[next:min(next+1+m.random.IntN(5), len(m.events))]
		if len(restarts) > 0 && float64(next) > restarts[0]*float64(len(m.events)) {
			restarts = restarts[1:]
			a = restart(a)
		}
		next += len(batch)
		fromHistory := m.chance(0.3)
		var learn, deliver []interaction.Received
		var delivered []event
		for _, e := range batch {
			if fromHistory && m.inHistory(&e) {
				got.fromHistory++
			}
			learn = append(learn, e.received)
			if !e.learnOnly {
				deliver, delivered = append(deliver, e.received), append(delivered, e)
			}
		}
		a.Learn(learn)
		for _, e := range batch {
			if e.received.Type == interaction.TypeUserPrompt {
				got.learnt++
				e.session.sent[e.prompt] = got.learnt
			}
		}
		a.Attribute(deliver)
		for i := range deliver {
			got.check(t, delivered[i], &deliver[i])
		}
	}
	return got
}

// inHistory makes an interaction one that is read from the history of any user who has the conversation. What says neither who sent
// it nor that it is of a meeting is the history's alone, unless a prompt of the conversation came before.
func (m *model) inHistory(e *event) bool {
	s := e.session
	if s.kind >= inMeeting && len(s.sent) == 0 && e.received.Type != interaction.TypeUserPrompt && len(e.received.Contexts) == 0 {
		return false
	}
	e.received = inHistory(s.users[m.random.IntN(len(s.users))], e.received)[0]
	return true
}

// counts are numbers of prompts and responses.
type counts struct {
	prompts, fromHistory int
	learnt               int // prompts, with repetitions
	// right and none are responses with their user and with none, by whether their prompt came before or together with them.
	right, none map[bool]int
	sources     map[interaction.UserSource]int
	wrong       int
	// forgotten are responses of none whose request was of the latest recent prompts.
	forgotten int
}

// recent is how many prompts are remembered at least where 50 are to be: all blocks but one are full.
const recent = 45

func newCounts() counts {
	return counts{right: map[bool]int{}, none: map[bool]int{}, sources: map[interaction.UserSource]int{}}
}

func (c *counts) check(t *testing.T, e event, r *interaction.Received) {
	t.Helper()
	right := strings.EqualFold(r.UserID, e.user)
	if r.Type == interaction.TypeUserPrompt {
		assert.True(t, right && r.UserSource == interaction.UserFromPrompt)
		c.prompts++
		return
	}
	c.sources[r.UserSource]++
	at, known := e.session.sent[e.prompt]
	switch {
	case r.UserID == "" && r.UserSource == "":
		c.none[known]++
		if known && c.learnt-at < recent && e.session.kind != changing && e.session.kind != withoutID {
			c.forgotten++
		}
	case right:
		c.right[known]++
	default:
		c.wrong++
		t.Logf("conversation of kind %d, prompt sent: %t, wrong by %s", e.session.kind, known, r.UserSource)
	}
}

// restarts returns a function that stores what an Attribution knows, and returns one of the next run.
func restarts(t *testing.T, maxOpen int, save bool) func(a *turn.Attribution) *turn.Attribution {
	t.Helper()
	store := newMemory()
	return func(a *turn.Attribution) *turn.Attribution {
		if a != nil && save {
			require.NoError(t, a.Save(t.Context()))
		}
		return store.load(t, maxOpen, zap.NewNop())
	}
}

// Turns of 500 conversations arrive in random order, with duplicates, late responses, 5 % missing prompts, and two restarts. A response
// that comes before its prompt has the right user or none, since nobody can know it then.
func TestAttribution_IsRightInRandomOrder(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			const turns, maxOpen = 10_000, 20_000
			m := newModel(seed, 500)
			m.generate(turns)
			got := m.run(t, restarts(t, maxOpen, true), 1./3, 2./3)
			t.Logf("%+v", got)
			assert.Zero(t, got.wrong)
			assert.Zero(t, got.none[true], "every response whose prompt was sent has its user")
			assert.Greater(t, got.right[true], turns)
			assert.Greater(t, got.right[false]+got.none[false], turns/20, "prompts are missing and late")
			for _, source := range []interaction.UserSource{interaction.UserFromRequest, interaction.UserFromConversation, interaction.UserFromHistory} {
				assert.Greater(t, got.sources[source], 10, source)
			}
		})
	}
}

// Of 500 conversations only a few fit into the memory. Of others it is unknown whether they are shared, before and after a restart.
func TestAttribution_IsNotWrongAfterEvictions(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			const turns, maxOpen = 10_000, 50
			m := newModel(seed, 500)
			m.generate(turns)
			got := m.run(t, restarts(t, maxOpen, true), 1./3, 2./3)
			t.Logf("%+v", got)
			assert.Zero(t, got.wrong)
			assert.Greater(t, got.right[true], turns/2)
			assert.Greater(t, got.none[true], turns/20, "much is evicted")
			assert.Zero(t, got.forgotten, "the latest prompts are known")
		})
	}
}

// A crash loses what was learnt since the last write: here everything since the last crash but one. Meetings are known as such.
func TestAttribution_IsNotWrongAfterCrash(t *testing.T) {
	t.Parallel()
	m := newModel(7, 500, ordinary, withoutID, changing, inMeeting)
	m.generate(10_000)
	n, restart := 0, restarts(t, 20_000, false)
	got := m.run(t, func(a *turn.Attribution) *turn.Attribution {
		if n++; n == 2 {
			require.NoError(t, a.Save(t.Context())) // only the first restart is no crash
		}
		return restart(a)
	}, 1./4, 1./2, 3./4)
	t.Logf("%+v", got)
	assert.Zero(t, got.wrong)
	assert.Positive(t, got.none[true])
}
