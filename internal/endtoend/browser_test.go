// SPDX-License-Identifier: Apache-2.0

//go:build unix

package endtoend_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// browser is Debian's headless Chromium. It is driven by the DevTools protocol over two pipes, on which each message ends with a zero
// byte: https://chromedevtools.github.io/devtools-protocol/
type browser struct {
	process  *process
	commands io.WriteCloser
	messages io.ReadCloser
	ended    chan struct{} // closed when no more messages are read

	mu      sync.Mutex // guards what follows
	lastID  int
	answers map[int]chan browserMessage
	// errors are what pages wrote into the console and the exceptions that they did not catch, by session.
	errors map[string][]string
}

// browserMessage is a command, an answer with the id of its command, or an event. The session is that of a page.
type browserMessage struct {
	ID        int             `json:"id,omitempty"`
	SessionID string          `json:"sessionId,omitempty"`
	Method    string          `json:"method,omitempty"`
	Params    json.RawMessage `json:"params,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     json.RawMessage `json:"error,omitempty"`
}

// parameters are those of a command.
type parameters map[string]any

// browserTimeout is far longer than a page needs, also if other tests run.
const browserTimeout = 2 * time.Minute

// startBrowser starts a browser that ends with the test.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	program, environment := debianProgram(t, "chromium-headless-shell")
	dir := t.TempDir()
	childCommands, commands, err := os.Pipe()
	require.NoError(t, err)
	messages, childMessages, err := os.Pipe()
	require.NoError(t, err)
	// Without a sandbox, which root cannot have: it opens nothing but pages of this machine.
	command := exec.Command(program, "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--user-data-dir="+filepath.Join(dir, "profile"))
	command.ExtraFiles = []*os.File{childCommands, childMessages} // 3 and 4, by which Chromium knows them
	command.Env = append(append(os.Environ(), environment...), "HOME="+dir, "TZ=UTC", "FONTCONFIG_FILE="+writeFonts(t, dir))
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	b := &browser{
		commands: commands, messages: messages, ended: make(chan struct{}),
		answers: map[int]chan browserMessage{}, errors: map[string][]string{},
	}
	b.process = start(t, command)
	require.NoError(t, childCommands.Close())
	require.NoError(t, childMessages.Close())
	go b.read()
	t.Cleanup(b.close)
	return b
}

// writeFonts writes a configuration with which the browser finds the unpacked fonts, or else those that are installed.
func writeFonts(t *testing.T, dir string) (file string) {
	t.Helper()
	unpacked, err := filepath.Abs(filepath.Join(root, "_tools", "debian", "usr", "share", "fonts"))
	require.NoError(t, err)
	file = filepath.Join(dir, "fonts.conf")
	text := fmt.Sprintf("<fontconfig><dir>%s</dir><dir>/usr/share/fonts</dir><cachedir>%s</cachedir></fontconfig>\n",
		unpacked, filepath.Join(dir, "fonts"))
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

// close ends the browser in order, so that none of its processes writes any more. One that does not end is killed with its renderers, which
// have inherited its pipes.
func (b *browser) close() {
	_, _ = b.send("", "Browser.close", nil)
	select {
	case <-b.process.ended:
	case <-time.After(waitTimeout):
		_ = syscall.Kill(-b.process.command.Process.Pid, syscall.SIGKILL)
		<-b.process.ended
	}
	_ = b.commands.Close()
	_ = b.messages.Close()
	<-b.ended
}

// read receives messages until the browser ends.
func (b *browser) read() {
	defer close(b.ended)
	reader := bufio.NewReader(b.messages)
	for {
		text, err := reader.ReadBytes(0)
		if err != nil {
			return
		}
		var m browserMessage
		if json.Unmarshal(text[:len(text)-1], &m) != nil {
			return
		}
		b.receive(m)
	}
}

func (b *browser) receive(m browserMessage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m.ID != 0 {
		if answer, ok := b.answers[m.ID]; ok {
			answer <- m
			delete(b.answers, m.ID)
		}
		return
	}
	var event struct {
		Type             string
		Args             []struct{ Value, Description any }
		ExceptionDetails struct{ Exception struct{ Description string } }
		Entry            struct{ Level, Text, URL string }
	}
	_ = json.Unmarshal(m.Params, &event) // an event of another form is none of these
	switch {
	case m.Method == "Runtime.consoleAPICalled" && event.Type == "error":
		b.errors[m.SessionID] = append(b.errors[m.SessionID], fmt.Sprint(event.Args))
	case m.Method == "Runtime.exceptionThrown":
		b.errors[m.SessionID] = append(b.errors[m.SessionID], event.ExceptionDetails.Exception.Description)
	case m.Method == "Log.entryAdded" && event.Entry.Level == "error":
		b.errors[m.SessionID] = append(b.errors[m.SessionID], event.Entry.Text+" "+event.Entry.URL)
	}
}

// send sends a command to a page, or to the browser itself if the session is empty. The answer comes from the channel.
func (b *browser) send(session, method string, params parameters) (answer chan browserMessage, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lastID++
	message := browserMessage{ID: b.lastID, SessionID: session, Method: method}
	if message.Params, err = json.Marshal(params); err != nil {
		return nil, err
	}
	text, err := json.Marshal(message)
	if err != nil {
		return nil, err
	}
	answer = make(chan browserMessage, 1)
	b.answers[message.ID] = answer
	_, err = b.commands.Write(append(text, 0))
	return answer, err
}

// call sends a command and decodes its result, unless that is nil.
func (b *browser) call(t *testing.T, session, method string, params parameters, result any) {
	t.Helper()
	answer, err := b.send(session, method, params)
	require.NoError(t, err)
	select {
	case m := <-answer:
		require.Empty(t, string(m.Error), method)
		if result != nil {
			require.NoError(t, json.Unmarshal(m.Result, result))
		}
	case <-b.ended:
		require.FailNow(t, "the browser ended", method)
	case <-time.After(browserTimeout):
		require.FailNow(t, "the browser does not answer", method)
	}
}

// page is one page of a browser.
type page struct {
	browser *browser
	session string
	width   int
}

// open opens an address in a new page, whose size is in pixels.
func (b *browser) open(t *testing.T, address string, width, height int) *page {
	t.Helper()
	var target struct{ TargetID string }
	b.call(t, "", "Target.createTarget", parameters{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call(t, "", "Target.attachToTarget", parameters{"targetId": target.TargetID, "flatten": true}, &attached)
	p := &page{browser: b, session: attached.SessionID, width: width}
	p.call(t, "Runtime.enable", nil, nil)
	p.call(t, "Log.enable", nil, nil)
	p.setHeight(t, height)
	light := parameters{"name": "prefers-color-scheme", "value": "light"}
	p.call(t, "Emulation.setEmulatedMedia", parameters{"features": []parameters{light}}, nil)
	p.visit(t, address)
	return p
}

func (p *page) call(t *testing.T, method string, params parameters, result any) {
	t.Helper()
	p.browser.call(t, p.session, method, params, result)
}

// close ends the page, which may load something again and again.
func (p *page) close(t *testing.T) {
	t.Helper()
	p.call(t, "Page.close", nil, nil)
}

// visit goes to another address.
func (p *page) visit(t *testing.T, address string) {
	t.Helper()
	var loaded struct{ ErrorText string }
	p.call(t, "Page.navigate", parameters{"url": address}, &loaded)
	require.Empty(t, loaded.ErrorText, address)
}

func (p *page) setHeight(t *testing.T, height int) {
	t.Helper()
	p.call(t, "Emulation.setDeviceMetricsOverride",
		parameters{"width": p.width, "height": height, "deviceScaleFactor": 1, "mobile": false}, nil)
}

func (p *page) scrollToTop(t *testing.T) {
	t.Helper()
	p.evaluate(t, "window.scrollTo(0, 0), true", new(bool))
}

// evaluate runs a script and decodes its value.
func (p *page) evaluate(t *testing.T, script string, value any) {
	t.Helper()
	var answer struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	p.call(t, "Runtime.evaluate", parameters{"expression": script, "returnByValue": true}, &answer)
	require.Empty(t, string(answer.ExceptionDetails), script)
	require.NoError(t, json.Unmarshal(answer.Result.Value, value), script)
}

// poll evaluates a script until its value is good, and returns the last value, which is not good if the time ran out.
func poll[T any](t *testing.T, p *page, timeout time.Duration, script string, good func(T) bool) T {
	t.Helper()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(timeout); ; <-ticker.C {
		var value T
		p.evaluate(t, script, &value)
		if good(value) || time.Now().After(end) {
			return value
		}
	}
}

// await waits until a script is true.
func (p *page) await(t *testing.T, script string) {
	t.Helper()
	require.True(t, poll(t, p, browserTimeout, script, func(value bool) bool { return value }), script)
}

// text returns everything that is to be read in the page.
func (p *page) text(t *testing.T) (text string) {
	t.Helper()
	p.evaluate(t, "document.body.innerText", &text)
	return text
}

// source returns the document as it is now, with what is not shown.
func (p *page) source(t *testing.T) (source string) {
	t.Helper()
	p.evaluate(t, "document.documentElement.outerHTML", &source)
	return source
}

// errors returns what the page wrote into the console as an error, exceptions, and requests that failed.
func (p *page) errors() []string {
	p.browser.mu.Lock()
	defer p.browser.mu.Unlock()
	return slices.Clone(p.browser.errors[p.session])
}

// screenshot returns a PNG of the page.
func (p *page) screenshot(t *testing.T) []byte {
	t.Helper()
	var picture struct{ Data []byte }
	p.call(t, "Page.captureScreenshot", parameters{"format": "png"}, &picture)
	return picture.Data
}
