// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// The test binary is also each of the programs, if this variable is set: its value is a name of a program that ends at once, or another.
const fakeVariable = "DEMO_TEST_FAILING_PROGRAM"

func TestMain(m *testing.M) {
	if failing, fake := os.LookupEnv(fakeVariable); fake {
		os.Exit(fakeProgram(os.Args[1:], failing))
	}
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// fakeProgram does what the demonstration needs of a program until SIGTERM.
func fakeProgram(args []string, failing string) (code int) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	name := programOf(args)
	fmt.Println("started", name, strings.Join(args, " "))
	if name == failing {
		fmt.Println("the disk is full")
		return 3
	}
	if name == nameCollector {
		<-ctx.Done()
		return 0
	}
	if name == nameTenant {
		lines := "{\"history\":true,\"created\":\"2026-11-01T08:00:00Z\"}\n{\"history\":true,\"created\":\"2026-11-02T08:00:00Z\"}\n"
		if err := os.WriteFile(valueOf(args, "-published"), []byte(lines), 0o600); err != nil {
			return 1
		}
	}
	listener, err := net.Listen("tcp", valueOf(args, "-listen")+valueOf(args, "-httpListenAddr"))
	if err != nil {
		return 1
	}
	server := &http.Server{Handler: http.HandlerFunc(serveFake)}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	_ = server.Serve(listener)
	return 0
}

// programOf tells the programs from each other by their flags.
func programOf(args []string) string {
	flags := strings.Join(args, " ")
	switch {
	case strings.HasPrefix(flags, "simulate"):
		return nameTenant
	case strings.HasPrefix(flags, "--config"):
		return nameCollector
	case strings.Contains(flags, "recording-victorialogs.yaml"):
		return nameRecording
	case strings.Contains(flags, "alerts.yaml"):
		return nameAlerts
	case strings.Contains(flags, "-promscrape.config"):
		return nameMetrics
	default:
		return nameLogs
	}
}

// valueOf returns the value of a flag, empty if there is none.
func valueOf(args []string, name string) string {
	for i, arg := range args {
		if value, ok := strings.CutPrefix(arg, name+"="); ok {
			return value
		}
		if arg == name {
			return args[i+1]
		}
	}
	return ""
}

// serveFake answers each query with 150 and keeps what is imported in a line of its log.
func serveFake(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if r.URL.Path == "/api/v1/import" {
		fmt.Printf("imported %s", body)
	}
	_, _ = io.WriteString(w, `{"data":{"result":[{"metric":{"__name__":"n"},"value":[1,"150"]}]}}`)
}

// fakeArguments are flags for fake programs and a directory of rules.
func fakeArguments(t *testing.T) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dashboards := t.TempDir()
	files := map[string]string{
		"vmui/adoption.json":                "{}",
		"rules/alerts.yaml":                 "groups: []",
		"rules/recording-victorialogs.yaml": "groups: [{rules: [{record: 'copilot:prompts', expr: '_time:7d | stats count() as n'}]}]",
	}
	for name, text := range files {
		path := filepath.Join(dashboards, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	arguments := []string{"-dashboards", dashboards, "-config", self}
	for _, name := range []string{"-collector", "-m365copilot", "-victoria-logs", "-victoria-metrics", "-vmalert"} {
		arguments = append(arguments, name, self)
	}
	return arguments
}
