package intake

import (
	"cmp"
	"fmt"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
)

// attribution knows who asked. A response of Graph names an application and no user, so its user is that of the
// prompt of the same request, else that of its conversation if all prompts seen of it came from one user: the
// conversation of a meeting has several.
type attribution struct {
	mu sync.Mutex // guards what follows
	// requests maps a request to the user of its prompt.
	requests *simplelru.LRU[request, string]
	// conversations maps a session to what its prompts said.
	conversations *simplelru.LRU[session, conversation]
}

type session struct {
	tenant, id string
}

type request struct {
	session
	id string
}

type conversation struct {
	// user asked every prompt seen; empty once there were two.
	user string
	// shared is true once two users asked.
	shared bool
	// prompt is the id of the latest prompt without a request id; the responses after it belong to its turn.
	prompt string
}

func newAttribution(maxOpen int) (*attribution, error) {
	requests, err := simplelru.NewLRU[request, string](maxOpen, nil)
	if err != nil {
		return nil, fmt.Errorf("make room for %d requests: %w", maxOpen, err)
	}
	conversations, err := simplelru.NewLRU[session, conversation](maxOpen, nil)
	if err != nil {
		return nil, fmt.Errorf("make room for %d conversations: %w", maxOpen, err)
	}
	return &attribution{requests: requests, conversations: conversations}, nil
}

// attribute fills in UserID, UserSource and Turn. The prompts come first, since a batch has no order.
func (a *attribution) attribute(received []interaction.Received) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range received {
		if received[i].Type == interaction.TypeUserPrompt {
			a.learn(&received[i])
		}
	}
	for i := range received {
		a.fill(&received[i])
	}
}

func (a *attribution) learn(prompt *interaction.Received) {
	if prompt.SessionID == "" {
		return
	}
	in := session{tenant: prompt.TenantID, id: prompt.SessionID}
	talk, _ := a.conversations.Get(in)
	if prompt.RequestID == "" {
		talk.prompt = later(talk.prompt, prompt.ID)
	}
	if user := userOf(prompt); user != "" {
		if prompt.RequestID != "" {
			a.requests.Add(request{session: in, id: prompt.RequestID}, user)
		}
		talk.shared = talk.shared || (talk.user != "" && talk.user != user)
		if talk.user = user; talk.shared {
			talk.user = ""
		}
	}
	a.conversations.Add(in, talk)
}

func (a *attribution) fill(r *interaction.Received) {
	in := session{tenant: r.TenantID, id: r.SessionID}
	talk, _ := a.conversations.Get(in)
	r.Turn = turnOf(r, talk)
	if r.UserID != "" {
		return
	}
	if user := userOf(r); user != "" {
		r.UserID, r.UserSource = user, interaction.UserFromPrompt
		return
	}
	if r.SessionID == "" {
		return
	}
	if r.RequestID != "" {
		if user, ok := a.requests.Get(request{session: in, id: r.RequestID}); ok {
			r.UserID, r.UserSource = user, interaction.UserFromRequest
			return
		}
	}
	if talk.user != "" {
		r.UserID, r.UserSource = talk.user, interaction.UserFromConversation
	}
}

// turnOf gives what identifies the turn: the request, or where Graph sent none the prompt.
// A response older than the prompt known of its conversation belongs to a turn that is not known any more.
func turnOf(r *interaction.Received, talk conversation) string {
	switch {
	case r.RequestID != "":
		return r.RequestID
	case r.Type == interaction.TypeUserPrompt:
		return r.ID
	case talk.prompt != "" && compareIDs(talk.prompt, r.ID) <= 0:
		return talk.prompt
	default:
		return ""
	}
}

func userOf(r *interaction.Received) string {
	if r.From.User == nil {
		return ""
	}
	return r.From.User.ID
}

func later(a, b string) string {
	if compareIDs(a, b) >= 0 {
		return a
	}
	return b
}

// compareIDs compares ids as the epoch milliseconds that they are, without a bound on their length.
func compareIDs(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}
