// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDoctor_RefusesWrongUsage(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		says string
	}{
		"no configuration":      {nil, "--config is missing"},
		"an unknown output":     {[]string{"--config", "x", "--output", "xml"}, "write text or json"},
		"an unknown mark":       {[]string{"--config", "x", "--fail-on", "skip"}, "write warn, fail or never"},
		"no time":               {[]string{"--config", "x", "--timeout", "0s"}, "--timeout"},
		"a negative wait":       {[]string{"--config", "x", "--wait", "-1s"}, "--wait"},
		"an argument":           {[]string{"--config", "x", "y"}, `unexpected argument "y"`},
		"an unknown flag":       {[]string{"--nonsense"}, "nonsense"},
		"a file without a flag": {[]string{"collector.yaml"}, "collector.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := runToEnd(t, append([]string{"doctor"}, test.args...)...)
			assert.Equal(t, exitUsage, r.code)
			assert.Contains(t, r.stderr, test.says)
			assert.Empty(t, r.stdout)
		})
	}
}

func TestDoctor_HelpListsFlags(t *testing.T) {
	t.Parallel()
	r := runToEnd(t, "doctor", "-h")
	assert.Equal(t, exitOK, r.code)
	for _, flag := range []string{"-config", "-output", "-timeout", "-wait", "-fail-on", "-verbose"} {
		assert.Contains(t, r.stderr, flag)
	}
}

func TestDoctor_UnreadableConfigurationFails(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "collector.yaml")
	for _, output := range []string{"text", "json"} {
		r := runToEnd(t, "doctor", "--config", file, "--output", output)
		assert.Equal(t, exitFailed, r.code)
		assert.Contains(t, r.stdout, "COP013")
		assert.Contains(t, r.stdout, file)
	}
	require.NoError(t, os.WriteFile(file, []byte("receivers: [}"), 0o600))
	r := runToEnd(t, "doctor", "--config", file)
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stdout, "COP013")
}

func TestDoctor_WaitRepeatsFailingChecks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "collector.yaml")
		began := time.Now()
		r := runToEnd(t, "doctor", "--config", file, "--wait", "10s")
		assert.Equal(t, exitFailed, r.code)
		assert.Equal(t, 9*time.Second, time.Since(began))
		assert.Contains(t, r.stderr, "checking again in 3s")
		assert.Contains(t, r.stdout, "COP013", "the report of the last attempt alone")
	})
}
