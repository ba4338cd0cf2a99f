package webhook

import (
	"net/http"
	"strconv"
	"time"
)

// retryAfter is what a 503 asks for. The causes pass within seconds or not at all, and Microsoft Graph backs off by
// itself: https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
const retryAfter = 5 * time.Second

// answer is what a request is told. Its body is the name of the status and nothing more: the sender is not known yet.
type answer struct {
	status int
	// outcome is empty where the request is not counted, or has been.
	outcome Outcome
	// unread: the request's body was not read to its end.
	unread bool
}

// refuse is the answer to a request of which the body was not read, or not in full.
func refuse(status int, outcome Outcome) answer {
	return answer{status: status, outcome: outcome, unread: true}
}

func (a answer) write(w http.ResponseWriter, r *http.Request) {
	switch a.status {
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter/time.Second)))
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodPost)
	}
	// Without this net/http reads the rest of an HTTP/1 body before it sends the answer, so a slow sender would wait for
	// it. In HTTP/2 the stream alone is reset, and the header would end the whole connection.
	if a.unread && r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
	http.Error(w, http.StatusText(a.status), a.status)
}
