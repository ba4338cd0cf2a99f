package graphtest

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Interaction is one prompt or answer that happens in the tenant, and what happens to it.
type Interaction struct {
	// JSON is an aiInteraction with an id.
	JSON json.RawMessage
	// Change is created, updated or deleted; empty: created.
	Change string
	// UserID is the object id of the user whose history it belongs to. Empty: from.user.id, else the user of the prompt with
	// the same requestId, else of the last prompt of the same session.
	UserID string
	// WithoutContent leaves encryptedContent out of the notification.
	WithoutContent bool
}

// Created says that the interactions were created.
func Created(interactions ...[]byte) []Interaction {
	list := make([]Interaction, 0, len(interactions))
	for _, i := range interactions {
		list = append(list, Interaction{JSON: i})
	}
	return list
}

// essence is what the emulator needs to know of an interaction.
type essence struct {
	Interaction
	id, session, request string
	at                   time.Time
}

func (i Interaction) essence() (essence, error) {
	var got struct {
		ID              string `json:"id"`
		SessionID       string `json:"sessionId"`
		RequestID       string `json:"requestId"`
		CreatedDateTime string `json:"createdDateTime"`
		From            struct {
			User struct {
				ID string `json:"id"`
			} `json:"user"`
		} `json:"from"`
	}
	if err := json.Unmarshal(i.JSON, &got); err != nil {
		return essence{}, fmt.Errorf("publish: the interaction is not JSON as Graph writes it: %w", err)
	}
	if i.Change == "" {
		i.Change = "created"
	}
	if i.UserID == "" {
		i.UserID = got.From.User.ID
	}
	i.UserID = strings.ToLower(i.UserID)
	return essence{Interaction: i, id: got.ID, session: got.SessionID, request: got.RequestID, at: createdAt(got.CreatedDateTime, got.ID)}, nil
}

// createdAt falls back on the id, which is a time in epoch milliseconds.
func createdAt(text, id string) time.Time {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at
	}
	if ms, err := strconv.ParseInt(id, 10, 64); err == nil {
		return time.UnixMilli(ms)
	}
	return time.Time{}
}

// turnUsers knows whose turns are under way, for as many as limit; the oldest are forgotten.
type turnUsers struct {
	limit int

	mu    sync.Mutex // guards what follows
	users map[[2]string]string
	order [][2]string
}

// attribute fills in the user of a response, and remembers the user of a prompt.
func (t *turnUsers) attribute(e *essence) {
	t.mu.Lock()
	defer t.mu.Unlock()
	keys := [][2]string{{e.session, e.request}, {e.session, ""}}
	if e.UserID != "" {
		for _, key := range keys {
			t.rememberLocked(key, e.UserID)
		}
		return
	}
	for _, key := range keys {
		if user, ok := t.users[key]; ok {
			e.UserID = user
			return
		}
	}
}

func (t *turnUsers) rememberLocked(key [2]string, user string) {
	if _, known := t.users[key]; !known {
		t.order = append(t.order, key)
	}
	t.users[key] = user
	if len(t.order) > t.limit {
		delete(t.users, t.order[0])
		t.order = t.order[1:]
	}
}
