// SPDX-License-Identifier: Apache-2.0

package turn_test

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/turn"
)

const (
	tenant = "6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10"
	anna   = "b2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f00"
	ben    = "0d9c8b7a-6f5e-4d3c-8b2a-190807060504"
)

func prompt(session, request, id, user string) interaction.Received {
	r := response(session, request, id)
	r.Type = interaction.TypeUserPrompt
	if user != "" {
		r.From.User = &interaction.Identity{ID: user}
	}
	return r
}

func response(session, request, id string) interaction.Received {
	return interaction.Received{
		Interaction: interaction.Interaction{ID: id, SessionID: session, RequestID: request, Type: interaction.TypeAIResponse},
		TenantID:    tenant,
		Change:      interaction.Created,
	}
}

// inHistory returns interactions as they are read from a user's history.
func inHistory(user string, received ...interaction.Received) []interaction.Received {
	for i := range received {
		received[i].UserID, received[i].UserSource, received[i].Source = user, interaction.UserFromHistory, interaction.FromHistory
	}
	return received
}

// meeting returns an interaction with the context that Graph sends for a meeting.
func meeting(r interaction.Received) interaction.Received {
	r.Contexts = interaction.List[interaction.Context]{{Type: "TeamsMeeting"}}
	return r
}

func changed(change interaction.Change, r interaction.Received) interaction.Received {
	r.Change = change
	return r
}

// attributor keeps what was attributed.
type attributor struct {
	*turn.Attribution
	got []interaction.Received
}

func newAttributor(maxOpen int) *attributor {
	return &attributor{Attribution: turn.New(turn.Settings{MaxOpen: maxOpen, Logger: zap.NewNop(), Telemetry: &counted{}})}
}

func (a *attributor) add(received ...interaction.Received) {
	a.Learn(received)
	a.Attribute(received)
	a.got = append(a.got, received...)
}

func TestAttribution_FindsUserAndTurn(t *testing.T) {
	t.Parallel()
	type known struct {
		user   string
		source interaction.UserSource
		turn   string
	}
	elsewhere := response("s", "r1", "20")
	elsewhere.TenantID = "another"

	for name, test := range map[string]struct {
		batches [][]interaction.Received
		want    []known
	}{
		"a prompt names its user": {
			batches: [][]interaction.Received{{prompt("s", "r1", "10", anna)}},
			want:    []known{{anna, interaction.UserFromPrompt, "r1"}},
		},
		"a response belongs to the user of the prompt of its request": {
			batches: [][]interaction.Received{{prompt("s", "r1", "10", anna)}, {response("s", "r1", "11")}},
			want:    []known{{anna, interaction.UserFromPrompt, "r1"}, {anna, interaction.UserFromRequest, "r1"}},
		},
		"a batch has no order: a response before its prompt is attributed as well": {
			batches: [][]interaction.Received{{response("s", "r1", "11"), prompt("s", "r1", "10", anna)}},
			want:    []known{{anna, interaction.UserFromRequest, "r1"}, {anna, interaction.UserFromPrompt, "r1"}},
		},
		"a response of an unknown request belongs to the one user of its conversation": {
			batches: [][]interaction.Received{{prompt("s", "r1", "10", anna)}, {response("s", "r9", "11")}},
			want:    []known{{anna, interaction.UserFromPrompt, "r1"}, {anna, interaction.UserFromConversation, "r9"}},
		},
		"a conversation that two users share does not attribute a response of an unknown request": {
			batches: [][]interaction.Received{{prompt("s", "r1", "10", anna)}, {prompt("s", "r2", "11", ben)}, {prompt("s", "r3", "12", anna)}, {response("s", "r9", "13")}},
			want: []known{
				{anna, interaction.UserFromPrompt, "r1"},
				{ben, interaction.UserFromPrompt, "r2"},
				{anna, interaction.UserFromPrompt, "r3"},
				{"", "", "r9"},
			},
		},
		"in a shared conversation the request still decides": {
			batches: [][]interaction.Received{{prompt("s", "r1", "10", anna), prompt("s", "r2", "11", ben), response("s", "r1", "12")}},
			want: []known{
				{anna, interaction.UserFromPrompt, "r1"},
				{ben, interaction.UserFromPrompt, "r2"},
				{anna, interaction.UserFromRequest, "r1"},
			},
		},
		"a response whose prompt was never seen has no user": {
			batches: [][]interaction.Received{{response("s", "r1", "11")}},
			want:    []known{{"", "", "r1"}},
		},
		"another conversation is not used": {
			batches: [][]interaction.Received{{prompt("s", "r1", "10", anna)}, {response("t", "r1", "11")}},
			want:    []known{{anna, interaction.UserFromPrompt, "r1"}, {"", "", "r1"}},
		},
		"another tenant is not used": {
			batches: [][]interaction.Received{{prompt("s", "r1", "10", anna)}, {elsewhere}},
			want:    []known{{anna, interaction.UserFromPrompt, "r1"}, {"", "", "r1"}},
		},
		"what was read from a history belongs to its user if nothing else is known": {
			batches: [][]interaction.Received{inHistory(ben, response("s", "r1", "11"), response("", "", "12"))},
			want:    []known{{ben, interaction.UserFromHistory, "r1"}, {ben, interaction.UserFromHistory, ""}},
		},
		"a prompt without a user belongs to the user of the history as well": {
			batches: [][]interaction.Received{inHistory(ben, prompt("s", "r1", "10", ""), response("s", "r1", "11"))},
			want:    []known{{ben, interaction.UserFromHistory, "r1"}, {ben, interaction.UserFromHistory, "r1"}},
		},
		"in a history the prompt and the request decide, whoever's it is": {
			batches: [][]interaction.Received{inHistory(ben, prompt("s", "r1", "10", anna), response("s", "r1", "11"))},
			want:    []known{{anna, interaction.UserFromPrompt, "r1"}, {anna, interaction.UserFromRequest, "r1"}},
		},
		"in a history the one user of the conversation goes before the user of the history, who is the same": {
			batches: [][]interaction.Received{inHistory(ben, prompt("s", "r1", "10", strings.ToUpper(ben)), response("s", "r9", "11"))},
			want:    []known{{ben, interaction.UserFromPrompt, "r1"}, {ben, interaction.UserFromConversation, "r9"}},
		},
		"a conversation of one user in the history of another is shared: only the request decides": {
			batches: [][]interaction.Received{
				{prompt("s", "r1", "10", anna)},
				inHistory(ben, response("s", "", "30")),
				{response("s", "r9", "31"), response("s", "r1", "32")},
			},
			want: []known{
				{anna, interaction.UserFromPrompt, "r1"},
				{"", "", ""},
				{"", "", "r9"},
				{anna, interaction.UserFromRequest, "r1"},
			},
		},
		"a shared conversation does not belong to the user of a history": {
			batches: [][]interaction.Received{{prompt("s", "r1", "10", anna), prompt("s", "r2", "11", ben)}, inHistory(ben, response("s", "r9", "30"))},
			want:    []known{{anna, interaction.UserFromPrompt, "r1"}, {ben, interaction.UserFromPrompt, "r2"}, {"", "", "r9"}},
		},
		"in a meeting only the request decides, since others may ask next": {
			batches: [][]interaction.Received{
				{meeting(prompt("s", "r1", "10", anna))},
				{response("s", "r1", "11"), response("s", "r9", "12")},
				inHistory(anna, response("s", "r9", "13"), meeting(response("t", "r9", "14"))),
			},
			want: []known{
				{anna, interaction.UserFromPrompt, "r1"},
				{anna, interaction.UserFromRequest, "r1"},
				{"", "", "r9"},
				{"", "", "r9"},
				{"", "", "r9"},
			},
		},
		"a request of two users, who share its conversation, decides nothing": {
			batches: [][]interaction.Received{{prompt("s", "r1", "10", anna), prompt("s", "r1", "11", ben)}, {response("s", "r1", "12")}},
			want:    []known{{anna, interaction.UserFromPrompt, "r1"}, {ben, interaction.UserFromPrompt, "r1"}, {"", "", "r1"}},
		},
		"without request ids a turn is a prompt with the responses until the next prompt": {
			batches: [][]interaction.Received{
				{prompt("s", "", "9", anna)},
				{response("s", "", "10"), response("s", "", "11")},
				{prompt("s", "", "20", anna)},
				{response("s", "", "21")},
			},
			want: []known{
				{anna, interaction.UserFromPrompt, "9"},
				{anna, interaction.UserFromConversation, "9"},
				{anna, interaction.UserFromConversation, "9"},
				{anna, interaction.UserFromPrompt, "20"},
				{anna, interaction.UserFromConversation, "20"},
			},
		},
		"a late response does not join the turn of a younger prompt": {
			batches: [][]interaction.Received{{prompt("s", "", "20", anna)}, {response("s", "", "10")}},
			want:    []known{{anna, interaction.UserFromPrompt, "20"}, {anna, interaction.UserFromConversation, ""}},
		},
		"an older prompt that comes late does not take over the conversation": {
			batches: [][]interaction.Received{{prompt("s", "", "20", anna)}, {prompt("s", "", "9", anna)}, {response("s", "", "21")}},
			want: []known{
				{anna, interaction.UserFromPrompt, "20"},
				{anna, interaction.UserFromPrompt, "9"},
				{anna, interaction.UserFromConversation, "20"},
			},
		},
		"an update teaches what its prompt does, a deletion without content nothing": {
			batches: [][]interaction.Received{{changed(interaction.Updated, prompt("s", "r1", "10", anna))}, {
				response("s", "r1", "11"), {Interaction: interaction.Interaction{ID: "10"}, Change: interaction.Deleted, WithoutContent: true},
			}},
			want: []known{{anna, interaction.UserFromPrompt, "r1"}, {anna, interaction.UserFromRequest, "r1"}, {"", "", ""}},
		},
		"a prompt without a user is not used": {
			batches: [][]interaction.Received{{prompt("s", "r1", "10", "")}, {response("s", "r1", "11")}},
			want:    []known{{"", "", "r1"}, {"", "", "r1"}},
		},
		"without a session nothing is joined": {
			batches: [][]interaction.Received{{prompt("", "r1", "10", anna)}, {response("", "r1", "11")}},
			want:    []known{{anna, interaction.UserFromPrompt, "r1"}, {"", "", "r1"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAttributor(100)
			for _, batch := range test.batches {
				a.add(batch...)
			}
			var got []known
			for i := range a.got {
				got = append(got, known{a.got[i].UserID, a.got[i].UserSource, a.got[i].Turn})
			}
			assert.Equal(t, test.want, got)
		})
	}
}

// A delivery that failed is attributed again, by what was learnt since.
func TestAttribution_DecidesAgainAtEachAttempt(t *testing.T) {
	t.Parallel()
	a := newAttributor(100)
	a.add(prompt("s", "r1", "10", anna), response("s", "r2", "11"))
	again := a.got[1:]
	assert.Equal(t, anna, again[0].UserID)
	a.Attribute(again)
	assert.Equal(t, anna, again[0].UserID)
	a.add(prompt("s", "r2", "10", ben))
	a.Attribute(again)
	assert.Equal(t, ben, again[0].UserID)
	assert.Equal(t, interaction.UserFromRequest, again[0].UserSource)
}

func TestAttribution_IsBounded(t *testing.T) {
	t.Parallel()
	a := newAttributor(2)
	for i := range 3 {
		n := strconv.Itoa(i)
		a.add(prompt("s"+n, "r", "1", anna))
	}
	a.got = nil
	for i := range 3 {
		a.add(response("s"+strconv.Itoa(i), "r", "2"))
	}
	assert.Empty(t, a.got[0].UserID, "the oldest is evicted")
	assert.Equal(t, anna, a.got[1].UserID)
	assert.Equal(t, anna, a.got[2].UserID)
}

// An evicted conversation may have had other users before.
func TestAttribution_TreatsEvictedConversationAsShared(t *testing.T) {
	t.Parallel()
	other := func(n int) interaction.Received { return prompt("other"+strconv.Itoa(n), "r", "1", ben) }
	for name, test := range map[string]struct {
		before [][]interaction.Received
		again  interaction.Received
		want   string
	}{
		"two users shared it, one of them asks again": {
			before: [][]interaction.Received{{prompt("s", "r1", "10", anna)}, {prompt("s", "r2", "11", ben)}},
			again:  prompt("s", "r3", "20", anna),
		},
		"one user asked, another asks now": {
			before: [][]interaction.Received{{prompt("s", "r1", "10", anna)}},
			again:  prompt("s", "r3", "20", ben),
		},
		"it was never seen before": {
			again: prompt("s", "r3", "20", ben),
			want:  ben,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAttributor(2)
			batches := append(slices.Clone(test.before), []interaction.Received{other(1)}, []interaction.Received{other(2)}, []interaction.Received{other(3)},
				[]interaction.Received{test.again}, []interaction.Received{response("s", "r2", "21")}, []interaction.Received{response("s", "r3", "22")})
			for _, batch := range batches {
				a.add(batch...)
			}
			evicted, asked := a.got[len(a.got)-2], a.got[len(a.got)-1]
			assert.Equal(t, test.want, evicted.UserID, "of an evicted request")
			assert.Equal(t, test.again.From.User.ID, asked.UserID, "the request still decides")
		})
	}
}

// TestAttribution_NeverNamesWrongUser mixes conversations of one and of several users, of which only a fifth
// fit into the memory. Some responses come long after their prompt.
func TestAttribution_NeverNamesWrongUser(t *testing.T) {
	t.Parallel()
	const conversations, turns, maxOpen = 250, 10_000, 50
	random := rand.New(rand.NewPCG(1, 2))
	a := newAttributor(maxOpen)
	asked := map[string]string{} // request to user
	var open []interaction.Received
	for i := range turns {
		n := random.IntN(conversations)
		session, request, id := "s"+strconv.Itoa(n), "r"+strconv.Itoa(i), strconv.Itoa(1_000_000+i)
		user := "user" + strconv.Itoa(n)
		if n%2 == 0 {
			user += "-" + strconv.Itoa(random.IntN(3))
		}
		asked[request] = user
		a.add(prompt(session, request, id, user))
		open = append(open, response(session, request, id+"1"))
		if i%3 > 0 { // the answer to this prompt, or to any
			j := len(open) - 1
			if i%3 == 1 {
				j = random.IntN(len(open))
			}
			a.add(open[j])
			open[j] = open[len(open)-1]
			open = open[:len(open)-1]
		}
	}
	wrong, known, byConversation := 0, 0, 0
	for i := range a.got {
		r := &a.got[i]
		if r.Type != interaction.TypeAIResponse || r.UserID == "" {
			continue
		}
		known++
		if r.UserSource == interaction.UserFromConversation {
			byConversation++
		}
		if r.UserID != asked[r.RequestID] {
			wrong++
		}
	}
	t.Logf("%d answers with a user, %d by their conversation, %d with a wrong one", known, byConversation, wrong)
	assert.Zero(t, wrong)
	assert.Greater(t, known, turns/4)
}

// counted counts evictions.
type counted struct {
	mu      sync.Mutex
	evicted int
}

func (c *counted) AttributionEvicted(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.evicted += n
}
