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
	// closes: the request's body was not read to its end, or nothing in it was authentic. Whoever sent it need not hold a
	// connection.
	closes bool
}

// refuse is the answer to a request of which the body was not read, or not in full.
func refuse(status int, outcome Outcome) answer {
	return answer{status: status, outcome: outcome, closes: true}
}

func (a answer) write(w http.ResponseWriter, r *http.Request) {
	switch a.status {
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter/time.Second)))
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodPost)
	}
	if a.closes {
		closeAfter(w, r)
	}
	http.Error(w, http.StatusText(a.status), a.status)
}

// closeAfter makes an HTTP/1 connection end with the answer. Without it net/http also reads the rest of a body before it
// sends the answer, so a slow sender would wait for it. In HTTP/2 the stream alone is reset, and the header would end the
// other streams of the connection.
func closeAfter(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
}
