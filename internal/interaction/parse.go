package interaction

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrNotObject is what Parse returns for anything but one whole JSON object, nested no deeper than encoding/json
	// allows.
	ErrNotObject = errors.New("not a JSON object")
	// ErrNoID is what Parse returns for an object whose id is absent, null, blank, or neither a string nor a number.
	ErrNoID = errors.New("no id")
)

// Parse reads an aiInteraction as Graph sends it, in a notification or in the history:
// https://learn.microsoft.com/microsoft-365/copilot/extensibility/api/ai-services/interaction-export/resources/aiinteraction
//
// The schema calls nearly every member optional, and the open sets grow without notice. So a member that is missing,
// null, unknown, or of another type than documented never costs the interaction: it is left empty. The last of
// duplicated members counts, invalid UTF-8 is replaced by U+FFFD, and of a list the first 10,000 are kept.
//
// The error wraps ErrNotObject or ErrNoID, and never quotes the data.
func Parse(data []byte) (*Interaction, error) {
	var i Interaction
	if !json.Valid(data) || !eachMember(data, i.read) {
		return nil, fmt.Errorf("parse interaction: %w", ErrNotObject)
	}
	if strings.TrimSpace(i.ID) == "" {
		return nil, fmt.Errorf("parse interaction: %w", ErrNoID)
	}
	return &i, nil
}
