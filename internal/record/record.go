// SPDX-License-Identifier: Apache-2.0

// Package record is what may leave the receiver: plain data, computed once for all signals.
package record

import "time"

// Record is what may leave of one interaction. An empty string, a nil slice and a zero time mean that there is no value.
type Record struct {
	// TenantID is the tenant, in lower case.
	TenantID string
	// UID is the same for the same version of the same interaction, on every replica and after every restart: 32 hex digits.
	UID string
	// CreatedAt is the time of creation, or ReceivedAt if that is unknown. ReceivedAt is when the interaction was taken in.
	CreatedAt, ReceivedAt time.Time
	// Delay is the time from the change to its receipt, at least 0, or UnknownDelay.
	Delay time.Duration

	// InteractionID, Type, ETag, RequestID, ConversationType, Locale and AppClass are as Graph sent them. AppName is the part of
	// AppClass that names the app.
	InteractionID, Type, ETag, RequestID, ConversationType, Locale, AppClass, AppName string
	// Change is created, updated or deleted.
	Change string
	// Source is notification or history.
	Source string
	// TurnID is the id of the turn, 32 hex digits.
	TurnID string

	// Body is the text if Captured, otherwise a summary that contains none of it.
	Body     string
	Captured bool
	// Length is the number of characters of the text, whether captured or not.
	Length int
	// Attachments, Links, Mentions and Contexts are the numbers of each.
	Attachments, Links, Mentions, Contexts int
	// ContextTypes and Agents are distinct values in the order of their first appearance.
	ContextTypes, Agents []string
	References           []Reference

	// UserID is the user whose conversation it is, and UserSource how the user was determined.
	UserID, UserSource string
	// Person is what the directory says about that user.
	Person Person
	// Subject distinguishes users where no user is shown. It is zero if the user is unknown.
	Subject        Subject
	ConversationID string
	// ResponseID, AgentID and AgentName are set for responses alone.
	ResponseID, AgentID, AgentName string
}

// UnknownDelay is the Delay of a record whose time of change is unknown.
const UnknownDelay time.Duration = -1

// Reference is a file, a meeting or a link that an interaction refers to.
type Reference struct {
	// Kind is attachment, context or link.
	Kind, Name, URL, Type string
}

// Subject is an opaque id of a user: the same for all records of the user, on every replica and after every restart.
type Subject [16]byte

// Person is what may leave of the directory's entry of a user.
type Person struct {
	// Name is the user principal name, FullName the display name.
	Name, FullName, Department, OfficeLocation, Country, JobTitle, Company string
	// SAMAccountName, SecurityIdentifier and Domain are those of Active Directory.
	SAMAccountName, SecurityIdentifier, Domain string
	// Licensed says whether the user has a Copilot license; nil if that is unknown or may not leave.
	Licensed *bool
}

// User is what may leave of one licensed user, whether or not there are interactions: an entry of the inventory.
type User struct {
	// TenantID is the tenant, in lower case.
	TenantID string
	// UID is the same for the same user and interval: 32 hex digits.
	UID string
	// At is the time of the entry.
	At     time.Time
	UserID string
	Person Person
	// LastActive is the time of the last prompt seen, zero for never. DaysActive is the number of the last 28 days with a prompt.
	LastActive time.Time
	DaysActive int
	Body       string
}
