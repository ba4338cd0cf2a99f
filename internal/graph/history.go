// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const opHistory = "read history"

// HistoryPage is one page of a user's interactions, the newest first as far as is known: aiInteraction resources in the JSON
// that Graph sent.
type HistoryPage = Page[json.RawMessage]

// History reads one page of a user's interactions that were created after from and before to. Both bounds are exclusive and
// sent in whole seconds: from is rounded down and to is rounded up. An interaction created at from exactly, on a whole second,
// is therefore not returned, so callers need a margin. next is the link of the previous page, empty for the first page; it is
// followed unchanged, and only on the endpoint's own host (ErrForeignHost). The call needs the application permission
// AiEnterpriseInteraction.Read.All. An *Error has no text of Graph's message; Unlicensed, Forbidden and Unsupported classify it.
// See https://learn.microsoft.com/microsoft-365/copilot/extensibility/api/ai-services/interaction-export/aiinteractionhistory-getallenterpriseinteractions
func (c *Client) History(ctx context.Context, user string, from, to time.Time, next string) (HistoryPage, error) {
	r := call{operation: opHistory, method: http.MethodGet, target: next}
	if next == "" {
		filter := "createdDateTime gt " + formatTime(from) + " and createdDateTime lt " + formatTime(to.Add(time.Second-1))
		r.target = "/copilot/users/" + url.PathEscape(user) + "/interactionHistory/getAllEnterpriseInteractions?" +
			encodeQuery(url.Values{"$top": {"100"}, "$filter": {filter}}) // the page size that Microsoft recommends
	}
	return readPage[json.RawMessage](ctx, c, r)
}

// encodeQuery encodes a query as Graph does in its own links, where a space is %20.
func encodeQuery(query url.Values) string { return strings.ReplaceAll(query.Encode(), "+", "%20") }
