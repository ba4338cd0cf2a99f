// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

func TestServerPair_IsReused(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new")
	first, made, err := serverPair(dir, time.Now())
	require.NoError(t, err)
	assert.True(t, made)
	info, err := os.Stat(filepath.Join(dir, "server.key"))
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	second, made, err := serverPair(dir, time.Now())
	require.NoError(t, err)
	assert.False(t, made)
	assert.Equal(t, first, second)
	certificate, err := second.X509()
	require.NoError(t, err)
	require.NoError(t, certificate.VerifyHostname("localhost"))
	require.NoError(t, certificate.VerifyHostname("127.0.0.1"))
}

func TestServerPair_ReplacesExpiring(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, _, err := serverPair(dir, time.Now())
	require.NoError(t, err)
	second, made, err := serverPair(dir, time.Now().Add(pairLifetime-pairMargin+time.Minute))
	require.NoError(t, err)
	assert.True(t, made)
	assert.NotEqual(t, first, second)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 2, "nothing half written is left")
}

func TestServerPair_KeepsForeignFiles(t *testing.T) {
	t.Parallel()
	foreign, err := graphtest.EncryptionCertificate(2048, time.Hour)
	require.NoError(t, err)
	for name, files := range map[string]map[string][]byte{
		"a pair of other origin": {"server.crt": foreign.Certificate, "server.key": foreign.Key},
		"a key only":             {"server.key": foreign.Key},
		"a certificate only":     {"server.crt": foreign.Certificate},
		"no certificate at all":  {"server.crt": []byte("notes"), "server.key": []byte("more notes")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for file, content := range files {
				require.NoError(t, os.WriteFile(filepath.Join(dir, file), content, 0o600))
			}
			_, _, err := serverPair(dir, time.Now())
			require.ErrorContains(t, err, "move it away or name another directory")
			for file, content := range files {
				kept, err := os.ReadFile(filepath.Join(dir, file))
				require.NoError(t, err)
				assert.Equal(t, content, kept)
			}
		})
	}
}

func TestWritePair_ReportsUnwritableDirectory(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.Error(t, writePair(file, graphtest.Pair{}))
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "server.key", "full"), 0o700))
	require.ErrorContains(t, writePair(dir, graphtest.Pair{}), "server.key")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 1)
}
