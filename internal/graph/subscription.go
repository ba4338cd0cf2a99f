package graph

import "time"

// Subscription is the subscription resource of Graph: https://learn.microsoft.com/graph/api/resources/subscription
type Subscription struct {
	// ID is given by Graph; a recreated subscription has a new one.
	ID string
	// Resource is what is watched, with or without a leading slash.
	Resource string
	// ChangeTypes holds created, updated and deleted in any order.
	ChangeTypes []string
	// NotificationURL and LifecycleNotificationURL are where Graph sends to.
	NotificationURL          string
	LifecycleNotificationURL string
	// Expiration is when the subscription ends. What Graph granted counts, not what was asked for.
	// In a list it is the zero time where Graph gave none that can be read.
	Expiration time.Time
	// ClientState is written and never read back: Graph does not return it.
	ClientState string
	// EncryptionCertificate is the certificate in DER, EncryptionCertificateID our label of it.
	// A list may leave out both.
	EncryptionCertificate   []byte
	EncryptionCertificateID string
}
