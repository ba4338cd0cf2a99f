package graphtest

import (
	"encoding/json"
	"fmt"
	"time"
)

// Collection is the body of a notification:
// https://learn.microsoft.com/graph/api/resources/changenotificationcollection
type Collection struct {
	Value            []Item   `json:"value"`
	ValidationTokens []string `json:"validationTokens,omitempty"`
	// NullTokens sends validationTokens as null, as Graph does when it can't mint a token for the application.
	NullTokens bool `json:"-"`
}

// MarshalJSON writes validationTokens as null, as a list or not at all.
func (c Collection) MarshalJSON() ([]byte, error) {
	if c.NullTokens {
		return json.Marshal(map[string]any{"value": c.Value, "validationTokens": nil})
	}
	type plain Collection
	return json.Marshal(plain(c))
}

// Item is one change or one lifecycle event: https://learn.microsoft.com/graph/api/resources/changenotification
type Item struct {
	SubscriptionID         string            `json:"subscriptionId"`
	SubscriptionExpiration string            `json:"subscriptionExpirationDateTime"`
	ClientState            string            `json:"clientState,omitempty"`
	ChangeType             string            `json:"changeType,omitempty"`
	Resource               string            `json:"resource,omitempty"`
	ResourceData           *ResourceData     `json:"resourceData,omitempty"`
	EncryptedContent       *EncryptedContent `json:"encryptedContent,omitempty"`
	TenantID               string            `json:"tenantId"`
	LifecycleEvent         string            `json:"lifecycleEvent,omitempty"`
}

// ResourceData names the interaction. It says neither whose it is nor of which session.
type ResourceData struct {
	ID        string `json:"id"`
	ODataType string `json:"@odata.type"`
	ODataID   string `json:"@odata.id"`
}

// pacific: Graph writes the expiration with an offset now and then, so the emulator always does in notifications.
var pacific = time.FixedZone("", -8*60*60)

func (e *Emulator) lifecycleItem(s Subscription, event string) Item {
	return Item{
		SubscriptionID:         s.ID,
		SubscriptionExpiration: s.Expiration.In(pacific).Format(timeFormat),
		ClientState:            s.ClientState,
		TenantID:               e.settings.TenantID,
		LifecycleEvent:         event,
	}
}

func (e *Emulator) item(s Subscription, i essence) (Item, error) {
	resource := fmt.Sprintf("copilot/interactionHistory/interactions('%s')", i.id)
	item := e.lifecycleItem(s, "")
	item.ChangeType = i.Change
	item.Resource = resource
	item.ResourceData = &ResourceData{ID: i.id, ODataType: "#Microsoft.Graph.aiInteraction", ODataID: resource}
	if !s.IncludeResourceData || i.WithoutContent {
		return item, nil
	}
	content, err := Seal(s.EncryptionCertificate, s.EncryptionCertificateID, i.JSON)
	if err != nil {
		return Item{}, err
	}
	item.EncryptedContent = &content
	return item, nil
}

// audience is the application that the validation token is for.
func (e *Emulator) audience(s Subscription) string {
	if s.NotificationURLAppID != "" {
		return s.NotificationURLAppID
	}
	return e.settings.ClientID
}

// collection adds what proves the sender. Only rich notifications carry tokens.
func (e *Emulator) collection(s Subscription, items []Item) Collection {
	c := Collection{Value: items}
	if !s.IncludeResourceData {
		return c
	}
	if e.keys.nullTokens.Load() {
		c.NullTokens = true
		return c
	}
	c.ValidationTokens = []string{e.keys.token(e.audience(s), time.Now())}
	return c
}

// SendNullTokens makes every notification carry validationTokens: null, as Graph does while the application's service principal
// demands an assignment that Graph Change Tracking lacks.
func (e *Emulator) SendNullTokens(on bool) { e.keys.nullTokens.Store(on) }
