package backfill

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

// Failure is what Settings.Status gets: why no history can be read, and what to do about it. It names no user.
type Failure struct {
	// Err is the cause. Unlike Error, its own text may name a user.
	Err error

	text string
}

func (f *Failure) Error() string { return "read the history: " + f.text + ". " + graph.Hint(f.Err) }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

// newFailure describes an error without the user whose history was asked for, whom Graph and the transport like to name.
func newFailure(err error, asked string) *Failure {
	text := describe(err)
	if asked != "" {
		text = regexp.MustCompile(`(?i)`+regexp.QuoteMeta(asked)).ReplaceAllLiteralString(text, "…")
	}
	return &Failure{Err: err, text: text}
}

// describe says what Graph answered in its own short words; anything else by its text, without URLs and GUIDs, which name users.
func describe(err error) string {
	if e, ok := errors.AsType[*graph.Error](err); ok {
		text := fmt.Sprintf("Graph answered %d %s", e.Status, e.Code)
		if e.RequestID != "" {
			text += " (request-id " + e.RequestID + ")"
		}
		return text
	}
	words := strings.Fields(guidPattern().ReplaceAllLiteralString(err.Error(), "…"))
	for i, word := range words {
		if strings.Contains(word, "://") {
			words[i] = "…"
		}
	}
	return strings.Join(words, " ")
}

func guidPattern() *regexp.Regexp {
	return regexp.MustCompile(`(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
}

// present is a field of a log line, and none where it has no value.
func present(key, value string) zap.Field {
	if value == "" {
		return zap.Skip()
	}
	return zap.String(key, value)
}

// signature tells distinct failures apart, without what differs at each try.
func signature(v outcome, err error) string {
	if v == throttled { // whichever status says so
		return "throttled"
	}
	if e, ok := errors.AsType[*graph.Error](err); ok {
		return fmt.Sprintf("%d %d %s", v, e.Status, e.Code)
	}
	return fmt.Sprintf("%d %s %s", v, graph.Code(err), graph.Hint(err))
}
