// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// publishedLine is a line of the file of -published: what is true of one interaction, whether the collector receives it or not.
type publishedLine struct {
	ID         string `json:"id"`
	Session    string `json:"session"`
	Request    string `json:"request"` // empty where Graph has none
	User       string `json:"user"`
	Department string `json:"department"`
	Country    string `json:"country"`
	App        string `json:"app"`
	Type       string `json:"type"`
	// Created is in RFC 3339 with milliseconds, in UTC.
	Created string `json:"created"`
	// Agents are the names of those that the prompt calls.
	Agents []string `json:"agents"`
	// Characters is the length of the text as a person reads it.
	Characters int `json:"characters"`
	// History is true for what was made before the emulator listened.
	History bool `json:"history"`
}

// publishedFile lists interactions in a file, one JSON object a line. It is safe for concurrent use; nil lists nothing.
type publishedFile struct {
	people map[string]graphtest.Person

	mu     sync.Mutex // guards what follows
	file   *os.File
	buffer *bufio.Writer
	lines  *json.Encoder
}

// createPublished returns nil if the path is empty. A file that exists is replaced.
func createPublished(path string, people []graphtest.Person) (*publishedFile, error) {
	if path == "" {
		return nil, nil
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("-published: %w", err)
	}
	p := &publishedFile{people: map[string]graphtest.Person{}, file: file, buffer: bufio.NewWriterSize(file, 1<<16)}
	p.lines = json.NewEncoder(p.buffer)
	for _, person := range people {
		p.people[person.ID] = person
	}
	return p, nil
}

// add lists interactions. What can't be written shows in the error of close.
func (p *publishedFile) add(history bool, interactions ...graphtest.Interaction) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range interactions {
		_ = p.lines.Encode(p.line(i, history))
	}
}

func (p *publishedFile) line(i graphtest.Interaction, history bool) publishedLine {
	var graph struct {
		ID, SessionID, RequestID, AppClass, InteractionType string

		Mentions []struct {
			Mentioned struct{ Application *struct{ DisplayName string } }
		}
	}
	if err := json.Unmarshal(i.JSON, &graph); err != nil {
		panic(fmt.Sprintf("the emulator made an interaction that is not JSON: %v", err))
	}
	person := p.people[i.UserID]
	line := publishedLine{
		ID: graph.ID, Session: graph.SessionID, Request: graph.RequestID, User: i.UserID, Department: person.Department, Country: person.Country,
		App: appName(graph.AppClass), Type: graph.InteractionType, Created: i.Created.UTC().Format("2006-01-02T15:04:05.000Z07:00"),
		Agents: []string{}, Characters: utf8.RuneCountInString(i.Text), History: history,
	}
	for _, m := range graph.Mentions {
		if called := m.Mentioned.Application; called != nil {
			line.Agents = append(line.Agents, called.DisplayName)
		}
	}
	return line
}

// appName returns the last part of a class. Where that is the id of an application, it is the two parts before it.
func appName(class string) string {
	parts := strings.Split(class, ".")
	last := len(parts) - 1
	if len(parts[last]) == len("00000000-0000-0000-0000-000000000000") && last >= 2 {
		return strings.Join(parts[last-2:last], ".")
	}
	return parts[last]
}

// flushInterval is how soon a line is in the file.
const flushInterval = time.Second

// flush writes the lines so far to the file.
func (p *publishedFile) flush() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.buffer.Flush() // an error is also that of close
}

func (p *publishedFile) close() error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := errors.Join(p.buffer.Flush(), p.file.Close()); err != nil {
		return fmt.Errorf("-published: %w", err)
	}
	return nil
}
