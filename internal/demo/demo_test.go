// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// runUntilReady runs a demonstration with fake programs until it says that it is ready, then in the given way until it ends.
func runUntilReady(t *testing.T, failing string, then func(cancel context.CancelFunc), more ...string) (said string, err error) {
	t.Helper()
	t.Setenv(fakeVariable, failing)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, in := io.Pipe()
	ended, arguments := make(chan error, 1), append(fakeArguments(t), more...)
	go func() {
		ended <- run(ctx, arguments, in)
		_ = in.Close()
	}()
	var text strings.Builder
	buffer := make([]byte, 1<<16) // longer than each text that is written at once
	for {
		n, err := out.Read(buffer)
		text.Write(buffer[:n])
		if err != nil {
			return text.String(), <-ended
		}
		if strings.Contains(string(buffer[:n]), "Ready after") {
			then(cancel)
		}
	}
}

func TestRun_StartsAllAndRemovesFilesAtTheEnd(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var files []string
	imported := ""
	said, err := runUntilReady(t, "", func(cancel context.CancelFunc) {
		files, _ = filepath.Glob(filepath.Join(os.TempDir(), "m365copilot-demo-*", "*"))
		text, _ := os.ReadFile(filepath.Join(filepath.Dir(files[0]), nameMetrics+".log"))
		imported = string(text)
		cancel()
	})
	require.NoError(t, err)
	for _, name := range append([]string{publishedFile, scrapeFile, "addresses.json"}, logNames()...) {
		assert.Contains(t, files, filepath.Join(filepath.Dir(files[0]), name))
	}
	assert.Contains(t, said, "150 of them with a license, 2 interactions")
	assert.Contains(t, said, " and deletes the files")
	assert.Equal(t, 2, strings.Count(imported, `"copilot:prompts"`), "the past, and now")
	left, err := os.ReadDir(os.TempDir())
	require.NoError(t, err)
	assert.Empty(t, left)
}

func logNames() (names []string) {
	for _, name := range stopOrder {
		names = append(names, name+".log")
	}
	return names
}

func TestRun_KeepsDirectoryThatWasGiven(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "demo")
	flags := []string{"-directory", directory, "-duration", "1ms", "-incident", "1m", "-capture", "text"}
	_, err := runUntilReady(t, "", func(context.CancelFunc) {}, flags...)
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(directory, "addresses.json"))
	require.NoError(t, err)
	var a addresses
	require.NoError(t, json.Unmarshal(text, &a))
	tenant, err := os.ReadFile(filepath.Join(directory, nameTenant+".log"))
	require.NoError(t, err)
	assert.Contains(t, string(tenant), "-listen "+a.Graph)
	assert.Contains(t, string(tenant), "-incident 1m0s -incident-duration 1m0s")

	_, err = runUntilReady(t, "", func(context.CancelFunc) {}, flags...)
	require.ErrorContains(t, err, "is not empty")
}

func TestRun_ReportsProgramThatEnds(t *testing.T) {
	for _, name := range stopOrder {
		t.Run(name, func(t *testing.T) {
			_, err := runUntilReady(t, name, func(context.CancelFunc) {}, "-duration", "1m")
			require.ErrorContains(t, err, name+" ended (exit status 3)")
			require.ErrorContains(t, err, "\n  the disk is full")
		})
	}
}

func TestRun_RefusesInvalidFlags(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		arguments []string
		want      string
	}{
		"a level of content that does not exist": {[]string{"-capture", "all"}, `-capture must be none or text, not "all"`},
		"a time before the start":                {[]string{"-incident", "-1s"}, "-incident and -duration must not be negative"},
		"a program that was not built":           {[]string{"-vmalert", "nowhere/vmalert"}, "nowhere/vmalert: no such file"},
		"an argument":                            {[]string{"now"}, `unexpected argument "now"`},
		"an unknown flag":                        {[]string{"-users", "3"}, "flag provided but not defined: -users"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.ErrorContains(t, run(t.Context(), append(fakeArguments(t), c.arguments...), io.Discard), c.want)
		})
	}
}

func TestAwait_GivesUp(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	err := await(ctx, "too few pages", time.Hour, func(context.Context) (bool, error) { return false, nil })
	require.ErrorContains(t, err, "too few pages: context deadline exceeded")
}

func TestAwait_EndsCallThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		err := await(t.Context(), "no answer", time.Hour, func(ctx context.Context) (bool, error) {
			<-ctx.Done()
			return false, nil
		})
		require.ErrorContains(t, err, "no answer: context deadline exceeded")
		assert.Equal(t, startTimeout, time.Since(began))
	})
}
