// SPDX-License-Identifier: Apache-2.0

package notification

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
)

// Collection is the changeNotificationCollection resource of Graph, the body of one POST:
// https://learn.microsoft.com/graph/api/resources/changenotificationcollection
type Collection struct {
	// Items holds the notifications with a clientState of ours. They may be of several subscriptions.
	Items []Item
	// ValidationTokens holds one token for each pair of application and tenant among the items, truncated to one more than is
	// accepted. It is nil if Graph sent null, which it does if it cannot issue a token for the application.
	ValidationTokens []string
}

// Item is the changeNotification resource of Graph: https://learn.microsoft.com/graph/api/resources/changenotification
//
// Members that are missing, null or of the wrong type are the zero value.
type Item struct {
	SubscriptionID string `json:"subscriptionId"`
	// ChangeType is created, updated or deleted; empty for lifecycle items.
	ChangeType string `json:"changeType"`
	// Resource is for example copilot/interactionHistory/interactions('1764599405123').
	Resource string `json:"resource"`
	// ResourceID is the id of the interaction, from resourceData or else from Resource.
	ResourceID string `json:"-"`
	TenantID   string `json:"tenantId"`
	// LifecycleEvent is set for lifecycle items only.
	LifecycleEvent string `json:"lifecycleEvent"`
	// EncryptedContent is nil if the item has none or an empty one.
	EncryptedContent *EncryptedContent `json:"encryptedContent"`
}

// EncryptedContent is the changeNotificationEncryptedContent resource of Graph. Data, DataKey and DataSignature are
// standard base64:
// https://learn.microsoft.com/graph/api/resources/changenotificationencryptedcontent
type EncryptedContent struct {
	Data                  string `json:"data"`
	DataKey               string `json:"dataKey"`
	DataSignature         string `json:"dataSignature"`
	CertificateID         string `json:"encryptionCertificateId"`
	CertificateThumbprint string `json:"encryptionCertificateThumbprint"`
}

// ContentDigest returns what identifies an item that is sent again: the SHA-256 of the dataSignature, or else the ids, and of the
// changeType.
func (i *Item) ContentDigest() [sha256.Size]byte {
	content := i.SubscriptionID + "\x1f" + i.ResourceID
	if i.EncryptedContent != nil && i.EncryptedContent.DataSignature != "" {
		content = i.EncryptedContent.DataSignature
	}
	return sha256.Sum256([]byte(content + "\x1f" + strings.ToLower(i.ChangeType)))
}

// ErrNotCollection says that a body is not a collection.
var ErrNotCollection = errors.New("not a change notification collection")

// Envelope is a parsed notification body whose items are not decoded yet. It refers to the body, which must not be modified
// while the envelope is in use.
type Envelope struct {
	// Foreign is the number of items without a clientState of ours. Nothing else of them is kept.
	Foreign int
	// own holds the JSON of each of the other items; tokens holds that of validationTokens, or nil.
	own    [][]byte
	tokens []byte
}

// Inspect parses a notification body without decoding its items, so that unauthenticated items cost little and allocate
// nothing. It calls ours for each item to find out whether its clientState, empty if it has none, is that of one of our
// subscriptions. The argument of ours is only valid during the call.
//
// The body must be a JSON object with an array named value and nothing after it, nested at most 10,000 deep, which is the limit
// of encoding/json. Everything else may be missing, unknown or of another type than documented. An error wraps ErrNotCollection
// and does not quote the body.
func Inspect(body []byte, ours func(clientState []byte) bool) (*Envelope, error) {
	if !json.Valid(body) {
		return nil, fmt.Errorf("%w: invalid JSON", ErrNotCollection)
	}
	envelope, found := &Envelope{}, false
	for name, value := range children(bytes.TrimSpace(body)) {
		switch {
		case isNamed(name, `"value"`):
			found = value[0] == '['
			envelope.split(value, ours)
		case isNamed(name, `"validationTokens"`):
			envelope.tokens = value
		}
	}
	if !found {
		return nil, fmt.Errorf("%w: not an object with an array named value", ErrNotCollection)
	}
	return envelope, nil
}

// split separates our items from foreign ones. A clientState or a name with escapes is not recognized: Graph sends none, since
// base64url needs none.
func (e *Envelope) split(items []byte, ours func(clientState []byte) bool) {
	e.Foreign, e.own = 0, nil
	for _, item := range children(items) {
		var state []byte
		for name, value := range children(item) {
			if isNamed(name, `"clientState"`) && value[0] == '"' {
				state = value[1 : len(value)-1]
			}
		}
		if ours(state) {
			e.own = append(e.own, item)
		} else {
			e.Foreign++
		}
	}
}

// OwnItems returns the number of items that Decode returns.
func (e *Envelope) OwnItems() int { return len(e.own) }

// Cost estimates the bytes that Decode allocates in addition to the size of the body: for each item the item, its content and
// the interaction, without their text, which takes as many bytes as in the body.
func (e *Envelope) Cost() int64 {
	const itemCost = 1 << 10
	return int64(len(e.own)) * itemCost
}

// Decode decodes the items with a clientState of ours, and the tokens if there are such items. Members of another type than
// documented are the zero value. The result does not refer to the body.
func (e *Envelope) Decode() *Collection {
	collection := &Collection{Items: make([]Item, len(e.own))}
	for i, text := range e.own {
		collection.Items[i] = decodeItem(text)
	}
	if len(e.own) == 0 {
		return collection
	}
	for _, text := range children(e.tokens) {
		if len(collection.ValidationTokens) > maxTokens {
			break // too many already
		}
		var token string
		_ = json.Unmarshal(text, &token) // see decodeItem
		collection.ValidationTokens = append(collection.ValidationTokens, token)
	}
	return collection
}

func decodeItem(text []byte) Item {
	var wire struct {
		Item

		ResourceData struct {
			ID string `json:"id"`
		} `json:"resourceData"`
	}
	// The JSON is valid, so an error means a member of another type; encoding/json still decodes all other members.
	_ = json.Unmarshal(text, &wire)
	item := wire.Item
	item.ResourceID = cmp.Or(wire.ResourceData.ID, idInResource(item.Resource))
	if item.EncryptedContent != nil && *item.EncryptedContent == (EncryptedContent{}) {
		item.EncryptedContent = nil
	}
	return item
}

// idInResource returns the id in a path like copilot/interactionHistory/interactions('1764599405123').
func idInResource(resource string) string {
	_, rest, _ := strings.Cut(resource, "interactions('")
	id, _, closed := strings.Cut(rest, "')")
	if !closed {
		return ""
	}
	return id
}

// The following functions scan JSON that json.Valid accepted, without decoding or copying it. Each reads its input once, so a
// fixed number of nested calls takes linear time.

// children yields the JSON of each value directly inside an array or object, with its quoted name in an object. For other values
// it yields nothing.
func children(container []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		if len(container) == 0 || container[0] != '{' && container[0] != '[' {
			return
		}
		var name []byte
		for i := 1; i < len(container)-1; {
			if endsValue(container[i]) { // white space, comma or colon
				i++
				continue
			}
			end := endOfValue(container, i)
			value := container[i:end]
			i = end
			switch {
			case name == nil && container[0] == '{':
				name = value
			case !yield(name, value):
				return
			default:
				name = nil
			}
		}
	}
}

// endOfValue returns the index after the value that starts at from.
func endOfValue(text []byte, from int) int {
	depth := 0
	for i := from; i < len(text); i++ {
		switch text[i] {
		case '"':
			i = endOfString(text, i+1)
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if depth == 0 && i+1 < len(text) && endsValue(text[i+1]) {
			return i + 1
		}
	}
	return len(text)
}

// endsValue reports whether a byte after a number or literal is not a part of it.
func endsValue(b byte) bool {
	switch b {
	case ' ', '\t', '\r', '\n', ',', ':', ']', '}':
		return true
	default:
		return false
	}
}

// endOfString returns the index of the closing quote of the string whose text starts at from. It searches for quotes instead of
// visiting each byte, since most of a body is the base64 of the content.
func endOfString(text []byte, from int) int {
	for end := from; ; end++ {
		end += bytes.IndexByte(text[end:], '"')
		inside := text[from:end]
		if backslashes := len(inside) - len(bytes.TrimRight(inside, `\`)); backslashes%2 == 0 {
			return end
		}
	}
}

// isNamed compares a quoted name case-insensitively, as encoding/json does.
func isNamed(name []byte, quoted string) bool {
	return len(name) == len(quoted) && bytes.EqualFold(name, []byte(quoted))
}
