// SPDX-License-Identifier: Apache-2.0

// Package turn attributes interactions to users and turns.
package turn

import (
	"cmp"
	"strings"
	"sync"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/health"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

// Settings configures an Attribution. All fields but Store are required.
type Settings struct {
	// MaxOpen is how many prompts are remembered, at least one: twice as many requests and conversations.
	MaxOpen int
	// Store keeps what was learnt for the next run: ids and hashes of ids, no text. Without it, it is in memory alone.
	Store     *statestore.Store
	Logger    *zap.Logger
	Telemetry Telemetry
}

// Telemetry counts evictions. It is called concurrently and must not block.
type Telemetry interface {
	// AttributionEvicted counts requests and conversations that are no longer remembered because of MaxOpen.
	AttributionEvicted(n int)
}

// Attribution finds the user of an interaction. A response of Graph names an application and no user, so its user is
//
//   - that of the prompt of the same request,
//   - else that of its conversation, if all known prompts of it came from one user,
//   - else the user from whose history it was read.
//
// Where several users share the conversation, or may, only the request tells whose response it is. It is safe for concurrent use.
type Attribution struct {
	s      Settings
	health health.Part

	mu    sync.Mutex // guards what follows
	known *entries
}

// New returns an Attribution that knows nothing. Load must be called before anything else.
func New(s Settings) *Attribution {
	return &Attribution{
		s: s, known: newEntries(s),
		health: health.Part{
			Logger: s.Logger, Failing: "attributions can't be stored", Recovered: "attributions are stored again",
			Code: failure.StorageFailing,
		},
	}
}

// Learn notes whose requests and conversations those of the prompts are. It is called with everything that is received, before
// Attribute and also if it was delivered before: a prompt may have been forgotten since. Learning the same again is cheap.
func (a *Attribution) Learn(received []interaction.Received) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range received {
		a.learn(&received[i])
	}
}

// Attribute sets UserID, UserSource and Turn. A user whose history it was read from is replaced where another source knows better,
// and removed where it may be another's.
func (a *Attribution) Attribute(received []interaction.Received) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range received {
		r := &received[i]
		var request, conversation entry
		if r.SessionID != "" {
			request, _ = a.known.find(requestKey(r))
			conversation, _ = a.known.find(conversationKey(r))
		}
		r.Turn = turnOf(r, conversation)
		r.UserID, r.UserSource = userOf(r, request, conversation)
	}
}

// learn is called with mu held.
func (a *Attribution) learn(r *interaction.Received) {
	prompt, fromHistory := r.Type == interaction.TypeUserPrompt, r.UserSource == interaction.UserFromHistory
	if r.SessionID == "" || !prompt && !fromHistory {
		return
	}
	conversation, known := a.known.find(conversationKey(r))
	if prompt {
		user := author(r)
		if r.RequestID != "" && user != "" {
			request, _ := a.known.find(requestKey(r))
			a.known.put(request.with(user))
		}
		if r.RequestID == "" && compareIDs(r.ID, conversation.Prompt) > 0 {
			conversation.Prompt = r.ID
		}
		conversation.Shared = conversation.Shared || inMeeting(r)
		conversation = conversation.with(user)
	} else if !known {
		return
	}
	if fromHistory && conversation.User != "" { // If it is in the history of another user as well, they share it.
		conversation = conversation.with(r.UserID)
	}
	a.known.put(conversation)
}

// userOf decides whose interaction it is by what is known of its request and its conversation.
func userOf(r *interaction.Received, request, conversation entry) (string, interaction.UserSource) {
	switch user := author(r); {
	case user != "":
		return user, interaction.UserFromPrompt
	case request.User != "":
		return request.User, interaction.UserFromRequest
	case conversation.Shared || inMeeting(r):
		return "", ""
	case conversation.User != "":
		return conversation.User, interaction.UserFromConversation
	default:
		return r.UserID, r.UserSource
	}
}

// inMeeting reports whether an interaction took place in a Teams meeting, whose conversation appears in the histories of several
// users. There one prompt that is missing, or is still to come, must not make its response that of the other user. Graph leaves
// the meeting out of some responses, but not of prompts:
// https://learn.microsoft.com/microsoftteams/export-teams-content-copilot
func inMeeting(r *interaction.Received) bool {
	for i := range r.Contexts {
		if strings.EqualFold(r.Contexts[i].Type, "TeamsMeeting") {
			return true
		}
	}
	return false
}

// turnOf returns the id of the turn: the request, or the prompt if Graph sent no request id. A response older than the
// latest prompt of its conversation belongs to an unknown turn.
func turnOf(r *interaction.Received, conversation entry) string {
	switch {
	case r.RequestID != "":
		return r.RequestID
	case r.Type == interaction.TypeUserPrompt:
		return r.ID
	case conversation.Prompt != "" && compareIDs(conversation.Prompt, r.ID) <= 0:
		return conversation.Prompt
	default:
		return ""
	}
}

// author returns the user whom an interaction itself names, in lower case as in histories and in the directory.
func author(r *interaction.Received) string {
	if r.From.User == nil {
		return ""
	}
	return strings.ToLower(r.From.User.ID)
}

// compareIDs compares ids as epoch milliseconds of any length.
func compareIDs(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}
