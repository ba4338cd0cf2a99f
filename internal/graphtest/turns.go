package graphtest

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"time"
)

// TurnSettings say who converses with Copilot.
type TurnSettings struct {
	// TenantID is the home tenant of all users.
	TenantID string
	// Users is how many there are, 5 by default.
	Users int
	// Updates and Deletes are the chances, between 0 and 1, that with a turn an earlier interaction is changed or deleted. 0, as
	// by default: never, as with Microsoft 365 as far as is known.
	Updates, Deletes float64
}

// Turns invents a believable stream of prompts and answers. The same seed, settings and times give the same stream, byte for byte.
// Every app class that was ever seen occurs, each with its own oddities: answers in cards that hold them twice, JSON inside a card,
// absent request ids, nulls, empty and escaped attachment tags, meetings, links, several answers to one prompt. All texts are made up.
// It is for one goroutine.
type Turns struct {
	settings TurnSettings
	chance   *rand.Rand
	users    []string
	// deck holds the apps still to come before it is shuffled anew.
	deck []app
	// sessions is the thread of a user in an app, and lastID the last id in each.
	sessions map[[2]string]string
	lastID   map[string]int64
	// recent are interactions that may be changed, the oldest first.
	recent []Interaction
}

// NewTurns begins a stream.
func NewTurns(seed uint64, settings TurnSettings) *Turns {
	settings.Users = cmp.Or(settings.Users, 5)
	//nolint:gosec // the stream must be repeatable
	t := &Turns{
		settings: settings,
		chance:   rand.New(rand.NewPCG(seed, 2)),
		sessions: map[[2]string]string{},
		lastID:   map[string]int64{},
	}
	for range settings.Users {
		t.users = append(t.users, t.guid())
	}
	return t
}

// Users returns the object ids of those who converse.
func (t *Turns) Users() []string { return append([]string(nil), t.users...) }

// turn is what the interactions of one turn have in common.
type turn struct {
	*Turns
	app
	user, session, request string
	subject                subject
	file                   string
	meeting                string
}

// Next returns the next turn: a prompt and no to three answers, all created in the last seconds before now, in the order of creation;
// after them the changes of earlier interactions, where TurnSettings want any.
func (t *Turns) Next(now time.Time) []Interaction {
	one := t.begin()
	at := now.Add(-time.Duration(2500+t.chance.IntN(5000)) * time.Millisecond)
	interactions := []Interaction{one.interaction(one.prompt(), at)}
	for range one.answers() {
		at = at.Add(time.Duration(300+t.chance.IntN(500)) * time.Millisecond)
		interactions = append(interactions, one.interaction(one.response(), at))
	}
	changes := t.changes(now)
	t.remember(interactions)
	return append(interactions, changes...)
}

func (t *Turns) begin() *turn {
	if len(t.deck) == 0 {
		t.deck = deck()
		t.chance.Shuffle(len(t.deck), func(i, j int) { t.deck[i], t.deck[j] = t.deck[j], t.deck[i] })
	}
	one := &turn{Turns: t, app: t.deck[0], user: pick(t.chance, t.users), subject: pick(t.chance, subjects)}
	t.deck = t.deck[1:]
	key := [2]string{one.user, one.class}
	if t.sessions[key] == "" || t.often(0.2) {
		delete(t.lastID, t.sessions[key])
		t.sessions[key] = "19:" + t.hex(24) + "@thread.v2"
	}
	one.session, one.request = t.sessions[key], t.guid()
	one.file = pick(t.chance, files)
	one.meeting = "19:meeting_" + t.hex(16) + "@thread.v2"
	return one
}

// answers is one most of the time; nobody always gets one.
func (t *turn) answers() int {
	switch n := t.chance.Float64(); {
	case n < 0.03:
		return 0
	case n < 0.85:
		return 1
	case n < 0.95:
		return 2
	default:
		return 3
	}
}

// interaction completes what a prompt and a response have in common.
func (t *turn) interaction(members map[string]any, at time.Time) Interaction {
	ms := max(at.UnixMilli(), t.lastID[t.session]+1)
	t.lastID[t.session] = ms
	id := strconv.FormatInt(ms, 10)
	all := map[string]any{
		"id":               id,
		"sessionId":        t.session,
		"requestId":        t.request,
		"appClass":         t.class,
		"conversationType": t.conversation,
		"etag":             id,
		"createdDateTime":  time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.999Z"),
		"locale":           pick(t.chance, locales),
		"contexts":         []any{},
		"attachments":      []any{},
		"links":            []any{},
		"mentions":         []any{},
	}
	maps.Copy(all, members)
	if t.style == styleCowork {
		all["requestId"] = nil
	}
	t.blank(all)
	return Interaction{JSON: encode(all), UserID: t.user}
}

// blank makes a property that may be null so, now and then.
func (t *turn) blank(all map[string]any) {
	for _, name := range []string{"conversationType", "etag", "createdDateTime", "contexts", "links", "mentions"} {
		if t.often(0.02) {
			all[name] = nil
		}
	}
}

func (t *Turns) often(chance float64) bool { return t.chance.Float64() < chance }

// guid and hex draw from the stream's own chance, so that they can be repeated.
func (t *Turns) guid() string {
	h := t.hex(16)
	return fmt.Sprintf("%s-%s-4%s-a%s-%s", h[:8], h[8:12], h[13:16], h[17:20], h[20:])
}

func (t *Turns) hex(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(t.chance.UintN(256)) //nolint:gosec // below 256
	}
	return hex.EncodeToString(b)
}

func pick[T any](chance *rand.Rand, list []T) T { return list[chance.IntN(len(list))] }

// encode leaves < and > as they are, as Graph does.
func encode(value any) []byte {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic(fmt.Sprintf("graphtest: encode an interaction: %v", err))
	}
	return bytes.TrimSpace(buffer.Bytes())
}
