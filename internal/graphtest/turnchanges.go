package graphtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// changeable is how many of the last interactions may still be changed.
const changeable = 100

// changes are those that happen to interactions of earlier turns. Nothing is drawn for what is off, so that the turns stay the
// same.
func (t *Turns) changes(now time.Time) []Interaction {
	var changes []Interaction
	if t.settings.Updates > 0 && t.often(t.settings.Updates) && len(t.recent) > 0 {
		i := t.chance.IntN(len(t.recent))
		t.recent[i] = edited(t.recent[i], now)
		changes = append(changes, t.recent[i])
	}
	if t.settings.Deletes > 0 && t.often(t.settings.Deletes) && len(t.recent) > 0 {
		i := t.chance.IntN(len(t.recent))
		gone := t.recent[i]
		t.recent = slices.Delete(t.recent, i, i+1)
		gone.Change, gone.WithoutContent = "deleted", t.often(0.5)
		changes = append(changes, gone)
	}
	return changes
}

// remember keeps interactions that may be changed later.
func (t *Turns) remember(interactions []Interaction) {
	if t.settings.Updates > 0 || t.settings.Deletes > 0 {
		t.recent = bounded(changeable, t.recent, interactions...)
	}
}

// edited is a later version: the same id, a higher etag, another text.
func edited(i Interaction, now time.Time) Interaction {
	var members map[string]any
	decoder := json.NewDecoder(bytes.NewReader(i.JSON))
	decoder.UseNumber()
	if err := decoder.Decode(&members); err != nil {
		panic(fmt.Sprintf("graphtest: read an interaction: %v", err))
	}
	members["etag"] = strconv.FormatInt(max(now.UnixMilli(), milliseconds(members["id"])+1, milliseconds(members["etag"])+1), 10)
	if body, ok := members["body"].(map[string]any); ok {
		body["content"] = fmt.Sprint(body["content"], " (edited)")
	}
	return Interaction{JSON: encode(members), Change: "updated", UserID: i.UserID}
}

// milliseconds reads an id or an etag; 0 for null.
func milliseconds(value any) int64 {
	text, _ := value.(string)
	ms, _ := strconv.ParseInt(text, 10, 64)
	return ms
}
