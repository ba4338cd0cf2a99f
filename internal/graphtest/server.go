// SPDX-License-Identifier: Apache-2.0

package graphtest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Operation names an endpoint of Graph or Entra ID.
type Operation string

// The operations that the emulator supports. OpUnknown is every other request.
const (
	OpToken       Operation = "token"
	OpMetadata    Operation = "metadata"
	OpKeys        Operation = "keys"
	OpList        Operation = "list"
	OpCreate      Operation = "create"
	OpGet         Operation = "get"
	OpRenew       Operation = "renew"
	OpReauthorize Operation = "reauthorize"
	OpDelete      Operation = "delete"
	OpHistory     Operation = "history"
	OpUsers       Operation = "users" // a page of the directory
	OpUser        Operation = "user"  // one user of the directory
	OpProducts    Operation = "products"
	OpApplication Operation = "application"
	OpUnknown     Operation = "unknown"
)

// isGraph reports whether the operation belongs to Graph and therefore requires an access token.
func (o Operation) isGraph() bool {
	return o != OpToken && o != OpMetadata && o != OpKeys
}

// ServeHTTP answers requests to Graph and to Entra ID.
func (e *Emulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	op, args := route(r.Method, r.URL.EscapedPath())
	answer := &statusWriter{ResponseWriter: w}
	at := time.Now()
	defer func() { e.recorder.addRequest(op, r, answer.status, at) }()

	answer.Header().Set("Date", at.Add(time.Duration(e.clockOffset.Load())).UTC().Format(http.TimeFormat))
	answer.Header().Set("Request-Id", newGUID())
	if id := r.Header.Get("Client-Request-Id"); id != "" {
		answer.Header().Set("Client-Request-Id", id)
	}
	switch op {
	case OpHistory:
		e.recorder.addHistoryRequest(args[0])
	case OpUsers:
		e.recorder.addDirectoryRequest("")
	case OpUser:
		e.recorder.addDirectoryRequest(args[0])
	}
	if fault, struck := e.faults.take(op); struck && fault.apply(answer, r, op) {
		return
	}
	if op.isGraph() {
		if apiErr := e.authorize(r, op); apiErr != nil {
			apiErr.write(answer)
			return
		}
	}
	e.handle(op)(answer, r, args)
}

// SetClock sets how far ahead the Date of the answers is. A test that moves the clock of the collector to let time pass moves this
// one as well; nothing else in the emulator depends on it.
func (e *Emulator) SetClock(offset time.Duration) { e.clockOffset.Store(int64(offset)) }

type handler func(w http.ResponseWriter, r *http.Request, args []string)

func (e *Emulator) handle(op Operation) handler {
	switch op {
	case OpToken:
		return e.serveToken
	case OpMetadata:
		return e.serveMetadata
	case OpKeys:
		return e.serveKeys
	case OpList:
		return e.serveList
	case OpCreate:
		return e.serveCreate
	case OpGet:
		return e.serveGet
	case OpRenew:
		return e.serveRenew
	case OpReauthorize:
		return e.serveReauthorize
	case OpDelete:
		return e.serveDelete
	case OpHistory:
		return e.serveHistory
	case OpUsers:
		return e.serveUsers
	case OpUser:
		return e.serveUser
	case OpProducts:
		return e.serveProducts
	case OpApplication:
		return e.serveApplication
	default:
		return func(w http.ResponseWriter, _ *http.Request, _ []string) { errUnsupported.write(w) }
	}
}

var errUnsupported = &graphError{http.StatusNotFound, "NotFound", "Requested API is not supported. Please check the path."}

// routes are matched case-insensitively, as Graph does; * matches a segment or a part of it, which is passed to the handler.
var routes = []struct {
	method, path string
	op           Operation
}{
	{http.MethodPost, "*/oauth2/v2.0/token", OpToken},
	{http.MethodGet, "*/.well-known/openid-configuration", OpMetadata},
	{http.MethodGet, "*/v2.0/.well-known/openid-configuration", OpMetadata},
	{http.MethodGet, "*/discovery/keys", OpKeys},
	{http.MethodGet, "*/discovery/v2.0/keys", OpKeys},
	{http.MethodGet, "v1.0/subscriptions", OpList},
	{http.MethodPost, "v1.0/subscriptions", OpCreate},
	{http.MethodGet, "v1.0/subscriptions/*", OpGet},
	{http.MethodPatch, "v1.0/subscriptions/*", OpRenew},
	{http.MethodDelete, "v1.0/subscriptions/*", OpDelete},
	{http.MethodPost, "v1.0/subscriptions/*/reauthorize", OpReauthorize},
	{http.MethodGet, "v1.0/copilot/users/*/interactionhistory/getallenterpriseinteractions", OpHistory},
	{http.MethodGet, "v1.0/users", OpUsers},
	{http.MethodGet, "v1.0/users/*", OpUser},
	{http.MethodGet, "v1.0/subscribedskus", OpProducts},
	{http.MethodGet, "v1.0/applications(appid='*')", OpApplication},
}

func route(method, path string) (Operation, []string) {
	got := strings.Split(strings.Trim(path, "/"), "/")
	for _, p := range routes {
		if p.method != method {
			continue
		}
		if args, ok := match(strings.Split(p.path, "/"), got); ok {
			return p.op, args
		}
	}
	return OpUnknown, nil
}

func match(want, got []string) ([]string, bool) {
	var args []string
	ok := slices.EqualFunc(want, got, func(w, g string) bool {
		before, after, variable := strings.Cut(w, "*")
		if !variable {
			return strings.EqualFold(w, g)
		}
		from, to := len(before), len(g)-len(after)
		if from >= to || !strings.EqualFold(before, g[:from]) || !strings.EqualFold(after, g[to:]) {
			return false
		}
		segment, err := url.PathUnescape(g[from:to])
		args = append(args, segment)
		return err == nil
	})
	return args, ok
}

// baseURL returns the URL under which the client reaches the emulator.
func (e *Emulator) baseURL(r *http.Request) string {
	if e.settings.URL != "" {
		return strings.TrimSuffix(e.settings.URL, "/")
	}
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// statusWriter keeps the status for the recorder.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// graphError is an error as Graph writes it: https://learn.microsoft.com/graph/errors
type graphError struct {
	status        int
	code, message string
}

func (g *graphError) write(w http.ResponseWriter) {
	id := w.Header().Get("Request-Id")
	writeJSON(w, g.status, map[string]any{"error": map[string]any{
		"code":    g.code,
		"message": g.message,
		"innerError": map[string]any{
			"date":              time.Now().UTC().Format("2006-01-02T15:04:05"),
			"request-id":        id,
			"client-request-id": id,
		},
	}})
}

// entraError is an error as Entra ID writes it:
// https://learn.microsoft.com/entra/identity-platform/reference-error-codes
type entraError struct {
	kind    string
	code    int
	message string
}

func (e *entraError) write(w http.ResponseWriter) {
	status := http.StatusBadRequest
	if e.kind == "invalid_client" {
		status = http.StatusUnauthorized
	}
	trace, correlation := newGUID(), newGUID()
	at := time.Now().UTC().Format("2006-01-02 15:04:05Z")
	writeJSON(w, status, map[string]any{
		"error": e.kind,
		"error_description": fmt.Sprintf("AADSTS%d: %s Trace ID: %s Correlation ID: %s Timestamp: %s",
			e.code, e.message, trace, correlation, at),
		"error_codes":    []int{e.code},
		"timestamp":      at,
		"trace_id":       trace,
		"correlation_id": correlation,
		"error_uri":      fmt.Sprintf("https://login.microsoftonline.com/error?code=%d", e.code),
	})
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

func newGUID() string {
	b := randomBytes(16)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// randomBytes never fails: https://pkg.go.dev/crypto/rand#Read
func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}
