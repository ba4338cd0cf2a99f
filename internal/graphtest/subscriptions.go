package graphtest

import (
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

const maxBodyBytes = 1 << 20

var errGone = &graphError{http.StatusNotFound, "ResourceNotFound", "The object was not found."}

// serveList answers https://learn.microsoft.com/graph/api/subscription-list
func (e *Emulator) serveList(w http.ResponseWriter, r *http.Request, _ []string) {
	if !e.settings.NoListLimit {
		if wait := e.subs.admitList(time.Now()); wait > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(wait.Seconds())+1))
			(&graphError{http.StatusTooManyRequests, "TooManyRequests", "Too many requests"}).write(w)
			return
		}
	}
	subs := e.subs.live()
	first, _ := strconv.Atoi(r.URL.Query().Get("$skiptoken"))
	first = min(max(first, 0), len(subs))
	last := len(subs)
	answer := map[string]any{"@odata.context": e.base(r) + "/v1.0/$metadata#subscriptions"}
	if size := e.settings.ListPageSize; size > 0 && first+size < last {
		last = first + size
		answer["@odata.nextLink"] = e.base(r) + "/v1.0/subscriptions?" + url.Values{"$skiptoken": {strconv.Itoa(last)}}.Encode()
	}
	value := []map[string]any{}
	for _, s := range subs[first:last] {
		value = append(value, s.body(e.settings, e.settings.HideCertificateIDs))
	}
	answer["value"] = value
	writeJSON(w, http.StatusOK, answer)
}

// serveCreate answers https://learn.microsoft.com/graph/api/subscription-post-subscriptions
func (e *Emulator) serveCreate(w http.ResponseWriter, r *http.Request, _ []string) {
	body, refused := readJSON(w, r)
	if refused != nil {
		refused.write(w)
		return
	}
	s, refused := e.settings.created(body, time.Now())
	if refused == nil {
		refused = e.subs.conflict(s)
	}
	if refused == nil {
		refused = e.validate(r.Context(), s.NotificationURL, s.LifecycleNotificationURL)
	}
	if refused == nil {
		refused = e.subs.add(s)
	}
	if refused != nil {
		refused.write(w)
		return
	}
	answer := s.body(e.settings, false)
	answer["@odata.context"] = e.base(r) + "/v1.0/$metadata#subscriptions/$entity"
	writeJSON(w, http.StatusCreated, answer)
}

// serveGet answers https://learn.microsoft.com/graph/api/subscription-get
func (e *Emulator) serveGet(w http.ResponseWriter, _ *http.Request, args []string) {
	s, ok := e.subs.get(args[0])
	if !ok {
		errGone.write(w)
		return
	}
	writeJSON(w, http.StatusOK, s.body(e.settings, e.settings.HideCertificateIDs))
}

// serveRenew answers https://learn.microsoft.com/graph/api/subscription-update
func (e *Emulator) serveRenew(w http.ResponseWriter, r *http.Request, args []string) {
	body, refused := readJSON(w, r)
	if refused != nil {
		refused.write(w)
		return
	}
	s, ok := e.subs.get(args[0])
	if !ok {
		errGone.write(w)
		return
	}
	now := time.Now()
	patched, refused := e.settings.patched(s, body, now)
	if refused == nil && patched.NotificationURL != s.NotificationURL {
		refused = e.validate(r.Context(), patched.NotificationURL)
	}
	if refused != nil {
		refused.write(w)
		return
	}
	s, ok = e.subs.change(s.ID, func(s *Subscription) {
		s.Expiration, s.NotificationURL = patched.Expiration, patched.NotificationURL
		e.noteConflict(s.ID, s.Reauthorized, now)
		s.Patched, s.Authorized = now, now
	})
	if !ok {
		errGone.write(w)
		return
	}
	writeJSON(w, http.StatusOK, s.body(e.settings, false))
}

// patched returns the subscription as a PATCH makes it. Only two properties can be changed; Microsoft's pages disagree about
// the certificate, so nobody may rely on that.
func (s Settings) patched(sub Subscription, body []byte, now time.Time) (Subscription, *graphError) {
	request, names, refused := decode(body, patchable)
	if refused != nil {
		return Subscription{}, refused
	}
	if !slices.Contains(names, "expirationDateTime") && !slices.Contains(names, "notificationUrl") {
		return Subscription{}, badRequest("expirationDateTime or notificationUrl is required to update a subscription.")
	}
	if slices.Contains(names, "expirationDateTime") {
		sub.Expiration, refused = s.expiration(request.ExpirationDateTime, sub.LifecycleNotificationURL != "", now)
		if refused != nil {
			return Subscription{}, refused
		}
	}
	if slices.Contains(names, "notificationUrl") {
		if refused := checkURL("notificationUrl", request.NotificationURL); refused != nil {
			return Subscription{}, refused
		}
		sub.NotificationURL = request.NotificationURL
	}
	return sub, nil
}

// serveReauthorize answers https://learn.microsoft.com/graph/api/subscription-reauthorize
func (e *Emulator) serveReauthorize(w http.ResponseWriter, _ *http.Request, args []string) {
	now := time.Now()
	_, ok := e.subs.change(args[0], func(s *Subscription) {
		e.noteConflict(s.ID, s.Patched, now)
		s.Reauthorized, s.Authorized = now, now
	})
	if !ok {
		errGone.write(w)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// noteConflict records what Microsoft warns of: a PATCH and a reauthorize of one subscription within 10 minutes.
// https://learn.microsoft.com/graph/change-notifications-lifecycle-events
func (e *Emulator) noteConflict(id string, other, now time.Time) {
	if !other.IsZero() && now.Sub(other) < e.settings.ReauthorizeGap {
		e.records.violation("PATCH and reauthorize of subscription " + id + " within " + e.settings.ReauthorizeGap.String())
	}
}

// serveDelete answers https://learn.microsoft.com/graph/api/subscription-delete
func (e *Emulator) serveDelete(w http.ResponseWriter, _ *http.Request, args []string) {
	if _, ok := e.subs.remove(args[0]); !ok {
		errGone.write(w)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// readJSON reads a bounded body that says it is JSON.
func readJSON(w http.ResponseWriter, r *http.Request) ([]byte, *graphError) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return nil, &graphError{
			http.StatusBadRequest, "BadRequest",
			"Write requests (excluding DELETE) must contain the Content-Type header declaration.",
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	if err != nil {
		return nil, &graphError{http.StatusBadRequest, "BadRequest", "The request body can't be read."}
	}
	return body, nil
}
