package notification

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"
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
	SubscriptionID string
	ClientState    string
	// ChangeType is created, updated or deleted; empty for lifecycle items.
	ChangeType string
	// Resource is for example copilot/interactionHistory/interactions('1764599405123').
	Resource string
	// ResourceID is the id of the interaction, from resourceData or else from Resource.
	ResourceID string
	TenantID   string
	// LifecycleEvent is set for lifecycle items only.
	LifecycleEvent string
	// SubscriptionExpiration is in UTC.
	SubscriptionExpiration time.Time
	// EncryptedContent is nil if the item has none or an empty one.
	EncryptedContent *EncryptedContent
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

// ContentDigest returns the SHA-256 of the dataSignature and the changeType, which identifies an item that is sent again. It is
// zero if there is no dataSignature.
func (i *Item) ContentDigest() [sha256.Size]byte {
	if i.EncryptedContent == nil || i.EncryptedContent.DataSignature == "" {
		return [sha256.Size]byte{}
	}
	return sha256.Sum256([]byte(i.EncryptedContent.DataSignature + "\x1f" + strings.ToLower(i.ChangeType)))
}

// ErrNotCollection is wrapped by every error of Inspect.
var ErrNotCollection = errors.New("not a change notification collection")

type wireItem struct {
	SubscriptionID         string            `json:"subscriptionId"`
	ClientState            string            `json:"clientState"`
	ChangeType             string            `json:"changeType"`
	Resource               string            `json:"resource"`
	ResourceData           wireResourceData  `json:"resourceData"`
	TenantID               string            `json:"tenantId"`
	LifecycleEvent         string            `json:"lifecycleEvent"`
	SubscriptionExpiration string            `json:"subscriptionExpirationDateTime"`
	EncryptedContent       *EncryptedContent `json:"encryptedContent"`
}

type wireResourceData struct {
	ID string `json:"id"`
}

// Envelope is a parsed notification body whose items are not decoded yet. It refers to the body, which must not be modified
// while the envelope is in use.
type Envelope struct {
	// Foreign is the number of items without a clientState of ours. Nothing else of them is kept.
	Foreign int
	// own holds the JSON of each of the other items; tokens holds that of validationTokens, or nil.
	own    [][]byte
	tokens []byte
}

// itemCost is an estimate of the bytes that a decoded item takes: the item, its content and the interaction, without their
// text, which takes as many bytes as in the body.
const itemCost = 1 << 10

// Inspect parses a notification body without decoding its items, so that unauthenticated items cost little and allocate
// nothing. It calls ours for each item to find out whether its clientState, empty if it has none, is that of one of our
// subscriptions. The argument of ours is only valid during the call.
//
// The body must be a JSON object with an array named value and nothing after it, nested at most 64 deep, with at most 20,000
// items and tokens. Everything else may be missing, unknown or of another type than documented.
//
// Every error wraps ErrNotCollection. Errors for exceeded limits also wrap ErrTooDeep or ErrTooMany, and are a *LimitError if
// an item is ours. No error quotes the body.
func Inspect(body []byte, ours func(clientState []byte) bool) (*Envelope, error) {
	limit := checkLimits(body)
	if !json.Valid(body) {
		return nil, fmt.Errorf("%w: invalid JSON", ErrNotCollection)
	}
	envelope, found := &Envelope{}, false
	for name, value := range members(bytes.TrimSpace(body)) {
		switch {
		case nameEquals(name, "value") && (isArray(value) || isNull(value)):
			found = isArray(value)
			envelope.split(value, ours)
		case nameEquals(name, "validationTokens") && (isArray(value) || isNull(value)):
			envelope.tokens = value
		}
	}
	switch {
	case !found:
		return nil, fmt.Errorf("%w: not an object with an array named value", ErrNotCollection)
	case limit != nil && len(envelope.own) > 0:
		return nil, newLimitError(limit, envelope.own)
	case limit != nil:
		return nil, limit
	default:
		return envelope, nil
	}
}

// split separates our items from foreign ones. Of several members with the same name the last counts, as in encoding/json.
func (e *Envelope) split(items []byte, ours func(clientState []byte) bool) {
	e.Foreign, e.own = 0, nil
	if !isArray(items) {
		return
	}
	for item := range values(items) {
		var state []byte
		for name, value := range members(item) {
			if !nameEquals(name, "clientState") {
				continue
			}
			if text, ok := unquote(value, clientStateTextLength); ok {
				state = text
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

// Cost estimates the bytes that Decode allocates in addition to the size of the body.
func (e *Envelope) Cost() int64 { return int64(len(e.own)) * itemCost }

// Decode decodes the items with a clientState of ours, and the tokens if there are such items. Members of another type than
// documented are the zero value. The result does not refer to the body.
func (e *Envelope) Decode() *Collection {
	collection := &Collection{Items: make([]Item, len(e.own))}
	var wire wireItem
	for i, text := range e.own {
		wire = wireItem{}
		// The JSON is valid, so an error means a member of another type; encoding/json still decodes all other members.
		_ = json.Unmarshal(text, &wire)
		collection.Items[i] = wire.item()
	}
	if len(e.own) == 0 || e.tokens == nil || isNull(e.tokens) {
		return collection
	}
	for text := range values(e.tokens) {
		if len(collection.ValidationTokens) > maxTokens {
			break // too many already
		}
		var token string
		_ = json.Unmarshal(text, &token)
		collection.ValidationTokens = append(collection.ValidationTokens, token)
	}
	return collection
}

func (w *wireItem) item() Item {
	id := w.ResourceData.ID
	if id == "" {
		id = idInResource(w.Resource)
	}
	content := w.EncryptedContent
	if content != nil && *content == (EncryptedContent{}) {
		content = nil
	}
	return Item{
		SubscriptionID:         w.SubscriptionID,
		ClientState:            w.ClientState,
		ChangeType:             w.ChangeType,
		Resource:               w.Resource,
		ResourceID:             id,
		TenantID:               w.TenantID,
		LifecycleEvent:         w.LifecycleEvent,
		SubscriptionExpiration: lenientTime(w.SubscriptionExpiration),
		EncryptedContent:       content,
	}
}

// idInResource returns the id in a path like copilot/interactionHistory/interactions('1764599405123').
func idInResource(resource string) string {
	_, rest, found := strings.Cut(resource, "interactions('")
	if !found {
		return ""
	}
	id, _, closed := strings.Cut(rest, "')")
	if !closed {
		return ""
	}
	return id
}

// lenientTime parses RFC 3339 with any number of decimals and any offset; for anything else it returns the zero time.
func lenientTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

// The following functions scan JSON that json.Valid accepted, without decoding or copying it. Each reads its input once, so a
// fixed number of nested calls takes linear time.

// values yields the JSON of each value directly inside an array or object. In an object, names and values alternate.
func values(container []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for i := 1; i < len(container)-1; {
			switch container[i] {
			case ' ', '\t', '\r', '\n', ',', ':':
				i++
			default:
				end := endOfValue(container, i)
				if !yield(container[i:end]) {
					return
				}
				i = end
			}
		}
	}
}

// members yields the quoted name and the value of each member of an object; for other values it yields nothing.
func members(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		if !isObject(object) {
			return
		}
		var name []byte
		for text := range values(object) {
			if name == nil {
				name = text
				continue
			}
			if !yield(name, text) {
				return
			}
			name = nil
		}
	}
}

func isObject(value []byte) bool { return value[0] == '{' }

func isArray(value []byte) bool { return value[0] == '[' }

func isNull(value []byte) bool { return value[0] == 'n' }

// endOfValue returns the index after the value that starts at from.
func endOfValue(text []byte, from int) int {
	depth := 0
	for i := from; i < len(text); i++ {
		switch text[i] {
		case '"':
			i = endOfString(text, i+1)
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
		case ' ', '\t', '\r', '\n', ',', ':':
			continue
		default: // a number or a literal
			for i+1 < len(text) && !endsLiteral(text[i+1]) {
				i++
			}
		}
		if depth == 0 {
			return min(i+1, len(text))
		}
	}
	return len(text)
}

func endsLiteral(b byte) bool {
	switch b {
	case ' ', '\t', '\r', '\n', ',', ':', ']', '}':
		return true
	default:
		return false
	}
}

// nameEquals reports whether encoding/json matches a quoted member name with want, which it does case-insensitively.
func nameEquals(name []byte, want string) bool {
	plain, ok := unquote(name, len(want))
	return ok && bytes.EqualFold(plain, []byte(want))
}

// unquote returns the text of a JSON string. It returns false for other values and for strings whose text is certainly longer
// than maxLength bytes. It copies only if there are escapes.
func unquote(value []byte, maxLength int) ([]byte, bool) {
	const maxEscapeLength, quotes = len(`\u0000`), 2
	if value[0] != '"' || len(value) > maxEscapeLength*maxLength+quotes {
		return nil, false
	}
	inside := value[1 : len(value)-1]
	if bytes.IndexByte(inside, '\\') < 0 {
		return inside, true
	}
	var text string
	if err := json.Unmarshal(value, &text); err != nil {
		return nil, false
	}
	return []byte(text), true
}

// Limits of a body. Graph documents none. 20,000 items of the smallest size that Graph sends with content take about 20 MiB.
const (
	maxDepth    = 64
	maxElements = 20_000
)

var (
	// ErrTooDeep is returned by Inspect for JSON nested more than 64 deep; it wraps ErrNotCollection.
	ErrTooDeep = fmt.Errorf("%w: nested more than %d deep", ErrNotCollection, maxDepth)
	// ErrTooMany is returned by Inspect for more than 20,000 items and tokens; it wraps ErrNotCollection.
	ErrTooMany = fmt.Errorf("%w: more than %d items", ErrNotCollection, maxElements)
)

// checkLimits checks nesting and element count by the brackets and commas of JSON that is not validated yet. Its result for
// invalid JSON does not matter, since that is refused anyway.
func checkLimits(body []byte) error {
	// The elements of value and of validationTokens are separated by the commas at this depth.
	const insideMember = 2
	depth, commas := 0, 0
	for i := 0; i < len(body); i++ {
		switch body[i] {
		case '"':
			i = endOfString(body, i+1)
		case '{', '[':
			if depth++; depth > maxDepth {
				return ErrTooDeep
			}
		case '}', ']':
			depth--
		case ',':
			if depth != insideMember {
				continue
			}
			if commas++; commas >= maxElements {
				return ErrTooMany
			}
		}
	}
	return nil
}

// endOfString returns the index of the closing quote of the string whose text starts at from, or len(body) if there is none.
// It searches for quotes instead of visiting each byte, since most of a body is the base64 of the content.
func endOfString(body []byte, from int) int {
	for at := from; ; {
		quote := bytes.IndexByte(body[at:], '"')
		if quote < 0 {
			return len(body)
		}
		end := at + quote
		text := body[at:end]
		if backslashes := len(text) - len(bytes.TrimRight(text, `\`)); backslashes%2 == 0 {
			return end
		}
		at = end + 1
	}
}
