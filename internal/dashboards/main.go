// SPDX-License-Identifier: Apache-2.0

// Command dashboards writes dashboards and rules, for vmui, Grafana, vmalert, Prometheus and Loki, into a directory. Each query is a
// constant of this package, used by all of them.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// writers write the files, each some of them.
var writers = []func(dir string) error{
	writeVMUI,
	writeGrafana,
	writeConversations,
	writeRecordingVictoriaLogs,
	writeRecordingLoki,
	writeAlerts,
	writeReadme,
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: dashboards DIRECTORY")
		os.Exit(2)
	}
	if err := writeAll(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func writeAll(dir string) error {
	for _, write := range writers {
		if err := write(dir); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(dir, name, text string) error {
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // they are for everybody to read
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644) //nolint:gosec // they are for everybody to read
}

func writeJSON(dir, name string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return writeFile(dir, name, string(text)+"\n")
}
