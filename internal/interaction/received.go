package interaction

import "time"

// Received is an interaction together with how it got here and what was found out about it on the way in.
type Received struct {
	Interaction

	// TenantID is the tenant it belongs to, in lower case.
	TenantID string
	// SubscriptionID is the Graph subscription that delivered it; empty for history.
	SubscriptionID string
	// Change is what happened to it.
	Change Change
	// Source is the way it came.
	Source Source
	// At is when it was taken in.
	At time.Time
	// WithoutContent is true for a tombstone: a deletion of which Graph sent the id alone.
	WithoutContent bool
	// ContentDigest is the SHA-256 of the dataSignature that its encrypted content came with and of the change, by which the
	// same notification is recognized when it is sent again; zero where there was none.
	ContentDigest [32]byte

	// UserID is the Entra object id of the user whose conversation it is; empty while unknown.
	UserID string
	// UserSource says how UserID is known; empty while unknown.
	UserSource UserSource
	// Turn is the request id of its turn, or the id of the turn's prompt where Graph sent no request id;
	// empty while unknown.
	Turn string
}

// Change is what happened to an interaction, in Graph's own words.
type Change string

// The changes that Graph tells of.
const (
	Created Change = "created"
	Updated Change = "updated"
	Deleted Change = "deleted"
)

// Source is the way an interaction came.
type Source string

// The ways an interaction can come.
const (
	FromNotification Source = "notification"
	FromHistory      Source = "history"
)

// UserSource is how the user of an interaction is known.
type UserSource string

// The ways a user can be known, the surest first.
const (
	// UserFromPrompt: the prompt itself names its user.
	UserFromPrompt UserSource = "prompt"
	// UserFromRequest: the prompt of the same request named the user.
	UserFromRequest UserSource = "request"
	// UserFromConversation: every prompt seen of the same session named this user.
	UserFromConversation UserSource = "conversation"
	// UserFromHistory: it was read from this user's history.
	UserFromHistory UserSource = "history"
)

// HappenedAt is when the change happened, in UTC. For an update that is the time in the etag, if there is one.
// Of a deletion Graph does not tell the time, so it is the time of creation, as for everything else.
// It is false when nothing tells.
func (r *Received) HappenedAt() (time.Time, bool) {
	if r.Change == Updated {
		if at, ok := epochMillis(r.ETag); ok {
			return at, true
		}
	}
	return r.CreatedAt()
}
