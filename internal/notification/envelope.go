package notification

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Collection is the changeNotificationCollection resource of Graph, the body of one POST:
// https://learn.microsoft.com/graph/api/resources/changenotificationcollection
type Collection struct {
	// Items holds at least zero notifications. They may be of several subscriptions.
	Items []Item
	// ValidationTokens holds one token for each pair of application and tenant among the items. It is nil where Graph
	// sent null, which it does when it cannot mint a token for the application.
	ValidationTokens []string
}

// Item is the changeNotification resource of Graph: https://learn.microsoft.com/graph/api/resources/changenotification
//
// Whatever was missing, null or of the wrong type is the zero value.
type Item struct {
	SubscriptionID string
	ClientState    string
	// ChangeType is created, updated or deleted; empty in lifecycle items.
	ChangeType string
	// Resource is for example copilot/interactionHistory/interactions('1764599405123').
	Resource string
	// ResourceID is the id of the interaction, from resourceData or else from Resource.
	ResourceID string
	TenantID   string
	// LifecycleEvent is set in lifecycle items only.
	LifecycleEvent string
	// SubscriptionExpiration is in UTC.
	SubscriptionExpiration time.Time
	// EncryptedContent is nil when the item came without content, or with an empty one.
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

// Signature is the SHA-256 of the dataSignature and the changeType, by which an item is recognized when it is sent again;
// zero where it has no dataSignature.
func (i *Item) Signature() [sha256.Size]byte {
	if i.EncryptedContent == nil || i.EncryptedContent.DataSignature == "" {
		return [sha256.Size]byte{}
	}
	return sha256.Sum256([]byte(i.EncryptedContent.DataSignature + "\x1f" + strings.ToLower(i.ChangeType)))
}

// ErrNotCollection is what Parse returns for a body that is no notification collection.
var ErrNotCollection = errors.New("not a change notification collection")

type wireCollection struct {
	Value            []wireItem `json:"value"`
	ValidationTokens []string   `json:"validationTokens"`
}

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

// Parse reads the body of a notification.
//
// It asks for a JSON object with an array value and nothing behind it, nested at most 64 deep. Everything else may be
// missing, unknown or of another type than documented: an element of value that is no object becomes an empty Item, which
// no clientState can make authentic.
//
// Every error wraps ErrNotCollection; those for its size also wrap ErrTooDeep or ErrTooMany. No error quotes the body.
func Parse(body []byte) (*Collection, error) {
	if err := measure(body); err != nil {
		return nil, err
	}
	var wire wireCollection
	err := json.Unmarshal(body, &wire)
	// The decoder reports a member of the wrong type only after it has read all the others.
	if _, wrongType := errors.AsType[*json.UnmarshalTypeError](err); err != nil && !wrongType {
		return nil, fmt.Errorf("%w: broken JSON", ErrNotCollection)
	}
	if wire.Value == nil {
		return nil, fmt.Errorf("%w: not an object with an array named value", ErrNotCollection)
	}
	collection := &Collection{Items: make([]Item, len(wire.Value)), ValidationTokens: wire.ValidationTokens}
	for i := range wire.Value {
		collection.Items[i] = wire.Value[i].item()
	}
	return collection, nil
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

// idInResource finds the id in a path like copilot/interactionHistory/interactions('1764599405123').
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

// lenientTime reads RFC 3339 with any number of decimals and any offset; the zero time stands for everything else.
func lenientTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}
