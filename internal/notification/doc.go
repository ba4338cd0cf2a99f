// Package notification is the wire: the envelope of a Graph change notification, its authenticity and its decryption.
//
// It knows neither HTTP codes nor what becomes of an interaction. The only call it ever makes is the one for the signing
// keys of the authority, and only for a collection whose clientState is right.
package notification
