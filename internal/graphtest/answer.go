package graphtest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// graphError is an error in the shape of Graph: https://learn.microsoft.com/graph/errors
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

// entraError is an error in the shape of Entra ID:
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
