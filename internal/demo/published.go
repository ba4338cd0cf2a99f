// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

// published is what the tenant's history had when the tenant began to listen.
type published struct {
	count  int       // of its interactions
	newest time.Time // creation of the last one; all live ones are newer
}

// readPublished reads the file that the tenant writes: a line for each interaction, those of the history first.
func readPublished(path string) (p published, err error) {
	file, err := os.Open(path) //nolint:gosec // a file of this program's directory
	if err != nil {
		return p, err
	}
	defer file.Close() //nolint:errcheck // it is only read
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var one struct {
			Created time.Time `json:"created"`
			History bool      `json:"history"`
		}
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			if p.count > 0 && !lines.Scan() {
				break // the last line is being written
			}
			return p, fmt.Errorf("%s: %w", path, err)
		}
		if !one.History {
			break
		}
		p.count++
		if one.Created.After(p.newest) {
			p.newest = one.Created
		}
	}
	if p.count == 0 && lines.Err() == nil {
		return p, errors.New(path + " has no interactions of the history")
	}
	return p, lines.Err()
}

// query counts the interactions of the history in VictoriaLogs, with a function of stats.
func (p *published) query(function string) string {
	const query = `{event_name="microsoft.copilot.interaction"} _time:<=%s microsoft.copilot.change.type:="created" | stats %s as interactions`
	return fmt.Sprintf(query, p.newest.UTC().Format(time.RFC3339Nano), function)
}

// inventoryQuery counts the users whom the inventory has listed since a time.
func inventoryQuery(since time.Time) string {
	return fmt.Sprintf(`{event_name="microsoft.copilot.user"} _time:>=%s | stats count_uniq(user.id) as users`,
		since.UTC().Format(time.RFC3339Nano))
}
