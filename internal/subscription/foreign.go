package subscription

import "fmt"

// ForeignError says that a subscription with another notification URL has the place of a wanted one. An application may
// have one for the whole tenant, and one for each user:
// https://learn.microsoft.com/graph/change-notifications-overview#subscription-limits
type ForeignError struct {
	// ID is the other subscription's, Host where it sends to.
	ID, Host string
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("subscription %s of the same application, which sends to %s, takes the place of ours", e.ID, e.Host)
}

// Mend says in one sentence what to do about it.
func (*ForeignError) Mend() string {
	return "Delete that subscription, use another app registration, or set subscription.replace_foreign: true to take its place."
}
