// SPDX-License-Identifier: Apache-2.0

package interaction

import "time"

// Received is an interaction with how it was received and what was determined about it.
type Received struct {
	Interaction

	// TenantID is the tenant it belongs to, in lower case.
	TenantID string
	// SubscriptionID is the Graph subscription that delivered it. It is empty for history.
	SubscriptionID string
	// Change is what happened to it.
	Change Change
	// Source is where it was received from.
	Source Source
	// At is when it was received.
	At time.Time
	// WithoutContent is true for a tombstone: a deletion of which Graph sent only the id.
	WithoutContent bool
	// ContentDigest identifies a notification that is sent again, see notification.Item. It is zero for history.
	ContentDigest [32]byte

	// UserID is the Entra object id of the user whose conversation it is, in lower case. It is empty while unknown.
	UserID string
	// UserSource is how UserID was determined. It is empty while unknown.
	UserSource UserSource
	// Person is what the directory says about that user. It is nil while unknown.
	Person *Person
	// Turn is the request id of its turn, or the id of the turn's prompt if Graph sent no request id.
	// It is empty while unknown.
	Turn string
}

// Change is what happened to an interaction, as Graph names it.
type Change string

// The changes that Graph notifies of.
const (
	Created Change = "created"
	Updated Change = "updated"
	Deleted Change = "deleted"
)

// Source is where an interaction was received from.
type Source string

// The sources of interactions.
const (
	FromNotification Source = "notification"
	FromHistory      Source = "history"
)

// UserSource is how the user of an interaction was determined.
type UserSource string

// The ways to determine a user, the most reliable first.
const (
	// UserFromPrompt: the prompt itself names its user.
	UserFromPrompt UserSource = "prompt"
	// UserFromRequest: the prompt of the same request named the user.
	UserFromRequest UserSource = "request"
	// UserFromConversation: every prompt of the same session so far named this user.
	UserFromConversation UserSource = "conversation"
	// UserFromHistory: it was read from this user's history.
	UserFromHistory UserSource = "history"
)

// HappenedAt returns the time of the change in UTC: for an update the time in the etag, if it holds one, and otherwise the
// time of creation, also for a deletion, whose time Graph does not send. It returns false if no time is known.
func (r *Received) HappenedAt() (time.Time, bool) {
	if r.Change == Updated {
		if at, ok := epochMillis(r.ETag); ok {
			return at, true
		}
	}
	return r.CreatedAt()
}
