package notification

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// maxTokens is far more than the one token that a single application and tenant get.
const maxTokens = 64

// ErrClientState tells of an item that does not carry the client state of a subscription of ours.
var ErrClientState = errors.New("client state is not ours: dropped; if Graph sent it, its subscription was made with another " +
	"encryption key or by another receiver, and is replaced or expires within 3 days")

// errNoTenant tells of an item that no validation token can cover, since these are for tenants.
var errNoTenant = errors.New("item names no tenant, so no validation token covers it: the interaction is fetched from the history")

// errTokenMissing tells of a trap that looks like an attack: https://learn.microsoft.com/graph/change-notifications-with-resource-data
var errTokenMissing = refuse(ReasonTokenMissing, "Graph sent none, because the enterprise application has "+
	"appRoleAssignmentRequired = true: in Entra > Enterprise applications > Properties set \"Assignment required\" to No, or grant "+
	"the service principal Microsoft Graph Change Tracking (%s) an app role of the application", publisher)

// authentic gives the indexes of the items with the right clientState and tenant, and rejects the others.
func (o *Decrypter) authentic(items []Item, outcomes []outcome) []int {
	var passed []int
	for i := range items {
		item := &items[i]
		switch {
		case !o.states.match([]byte(item.ClientState)):
			// The id is the forger's, and there is nothing to look for.
			outcomes[i].rejection = &Rejection{Reason: ReasonClientState, Err: ErrClientState}
		case item.TenantID == "" && item.LifecycleEvent != "": // it needs no token
			passed = append(passed, i)
		case item.TenantID == "":
			outcomes[i].rejection = item.unverified(ReasonTenant, errNoTenant)
		case !strings.EqualFold(item.TenantID, o.tenant):
			outcomes[i].rejection = item.unverified(ReasonTenant, fmt.Errorf("item is of tenant %s and not of %s: check tenant_id",
				short(item.TenantID), o.tenant))
		default:
			passed = append(passed, i)
		}
	}
	return passed
}

// verified gives the indexes of the items to decrypt: those whose collection carries genuine tokens. It settles lifecycle
// items, which need tokens only where Graph sends them, and rejects the others.
func (o *Decrypter) verified(ctx context.Context, c *Collection, authentic []int, outcomes []outcome, at time.Time) ([]int, error) {
	refused, err := o.checkTokens(ctx, c.ValidationTokens, at)
	if err != nil {
		return nil, err
	}
	var data []int
	for _, i := range authentic {
		item := &c.Items[i]
		switch {
		case refused != nil:
			outcomes[i].rejection = item.unverified(refused.Reason, refused)
		case item.LifecycleEvent != "":
			outcomes[i].lifecycle = &Lifecycle{
				SubscriptionID: item.SubscriptionID,
				Event:          item.LifecycleEvent,
				Expiration:     item.SubscriptionExpiration,
			}
		case len(c.ValidationTokens) == 0:
			outcomes[i].rejection = item.unverified(ReasonTokenMissing, errTokenMissing)
		default:
			data = append(data, i)
		}
	}
	return data, nil
}

// checkTokens asks for every token to be genuine: one that is not makes the whole collection doubtful. The error is for
// what cannot be said now.
func (o *Decrypter) checkTokens(ctx context.Context, tokens []string, at time.Time) (*TokenError, error) {
	if len(tokens) > maxTokens {
		return refuse(ReasonTokenCount, "%d of them, Graph sends one for each application and tenant", len(tokens)), nil
	}
	for _, token := range tokens {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		err := o.verifier.Verify(ctx, token, at)
		if refused, ok := errors.AsType[*TokenError](err); ok {
			return refused, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// unverified rejects an item that Graph may well have sent. A lifecycle item leaves nothing to fetch.
func (i *Item) unverified(reason Reason, err error) *Rejection {
	if i.LifecycleEvent != "" {
		return &Rejection{Reason: reason, Err: err}
	}
	return &Rejection{Reason: reason, Gap: GapUnverified, ItemID: i.ResourceID, Err: err}
}
