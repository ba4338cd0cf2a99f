// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

func TestCertificate_WhatIsSaidOfItsDate(t *testing.T) {
	t.Parallel()
	now := time.Now()
	of := func(left time.Duration, warned int) dated { return dated{expires: now.Add(left), warned: warned} }
	for name, test := range map[string]struct {
		known, read    dated
		replaced, warn bool
	}{
		"at the start there are more than 30 days":          {dated{}, of(30*day+1, 0), false, false},
		"at the start there are 30 days":                    {dated{}, of(30*day, 0), false, true},
		"at the start it has expired":                       {dated{}, of(-90*day, 0), false, true},
		"it was warned of 30 days before":                   {of(29*day, 1), of(29*day, 0), false, false},
		"7 days are left":                                   {of(7*day, 1), of(7*day, 0), false, true},
		"it was warned of 7 days before":                    {of(6*day, 2), of(6*day, 0), false, false},
		"one day is left":                                   {of(day, 2), of(day, 0), false, true},
		"it was warned of a day before":                     {of(1, 3), of(1, 0), false, false},
		"it expires":                                        {of(0, 3), of(0, 0), false, true},
		"it has expired":                                    {of(-day, 4), of(-day, 0), false, false},
		"the clock is set back":                             {of(31*day, 1), of(31*day, 0), false, false},
		"it is replaced in time, before any warning":        {of(31*day, 0), of(365*day, 0), false, false},
		"it is replaced after a warning":                    {of(3*day, 2), of(365*day, 0), true, false},
		"it is replaced after it has expired":               {of(-day, 4), of(365*day, 0), true, false},
		"it is replaced by one that expires soon as well":   {of(3*day, 2), of(20*day, 0), true, true},
		"it is replaced by one that expires earlier":        {of(20*day, 1), of(3*day, 0), false, true},
		"it is replaced by one that expires as early":       {of(20*day, 1), of(20*day, 0), false, false},
		"it is replaced by one that expires a little later": {of(3*day, 2), of(4*day, 0), true, true},
	} {
		_, replaced, warn := test.known.update(test.read, now)
		assert.Equal(t, test.replaced, replaced, "%s: replaced", name)
		assert.Equal(t, test.warn, warn, "%s: warned", name)
	}
}

func TestExpiry_WarnsOfEachTimeOnce(t *testing.T) {
	t.Parallel()
	for credential, test := range map[string]struct{ code, expired string }{
		clientCertificate:     {"COP214", "error"},
		encryptionCertificate: {"COP012", "warn"},
	} {
		t.Run(credential, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				logger, lines := observed()
				watched := expiry{logger: logger}
				began := time.Now()
				read := dated{credential: credential, name: "a", expires: began.Add(40 * day)}
				var said []string
				for time.Since(began) < 50*day {
					watched.check([]dated{read})
					for _, line := range lines.TakeAll() {
						said = append(said, time.Since(began).String()+" "+line.Level.String()+" "+line.Message)
						fields := line.ContextMap()
						assert.NotEmpty(t, fields["hint"])
						delete(fields, "hint")
						assert.Equal(t, map[string]any{
							"credential": credential, "certificate": "a", "expires": read.expires, "code": test.code,
						}, fields)
					}
					time.Sleep(time.Hour)
				}
				assert.Equal(t, []string{
					"240h0m0s warn a certificate expires soon", "792h0m0s warn a certificate expires soon",
					"936h0m0s warn a certificate expires soon", "960h0m0s " + test.expired + " a certificate has expired",
				}, said)
			})
		})
	}
}

// certificateFile writes a certificate with its key, and returns it with a function that replaces it by another.
func certificateFile(t *testing.T, id string, validFor time.Duration) (Certificate, func(validFor time.Duration)) {
	t.Helper()
	c := Certificate{ID: id, CertFile: filepath.Join(t.TempDir(), "crt"), KeyFile: filepath.Join(t.TempDir(), "key")}
	write := func(validFor time.Duration) {
		pair, err := graphtest.EncryptionCertificate(2048, validFor)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(c.CertFile, pair.Certificate, 0o600))
		require.NoError(t, os.WriteFile(c.KeyFile, pair.Key, 0o600))
	}
	write(validFor)
	return c, write
}

// daysLeft returns the days until each certificate expires.
func (c *components) daysLeft() map[string]int {
	days := map[string]int{}
	for credential, left := range c.expiry.left(time.Now()) {
		days[credential] = int(left / day)
	}
	return days
}

// A new file ends the warnings, and the dates are those of the files within half a minute.
func TestReceiver_NoticesReplacedCertificateFiles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, renewClient := certificateFile(t, "", 20*day)
		first, renewFirst := certificateFile(t, "first", 5*day)
		second, _ := certificateFile(t, "second", -day)
		core, lines := observer.New(zap.InfoLevel)
		r, c := newTestReceiver(t, with(first, second), logged(zap.New(core)), func(s *setup) {
			s.settings.Credential = &graph.CredentialSettings{CertFile: client.CertFile, KeyFile: client.KeyFile}
		})
		during(t, func() {
			said := func() (messages []string) {
				synctest.Wait()
				for _, line := range lines.TakeAll() {
					if credential, found := line.ContextMap()["credential"].(string); found {
						messages = append(messages, credential+": "+line.Message)
					}
				}
				return messages
			}
			assert.Equal(t, []string{
				"client_certificate: a certificate expires soon", "encryption_certificate: a certificate expires soon",
			}, said(), "nothing of the second, which has expired and only decrypts")
			assert.Equal(t, map[string]int{clientCertificate: 20, encryptionCertificate: 5}, c.daysLeft())

			time.Sleep(3 * keyCheckInterval)
			assert.Empty(t, said())

			require.NoError(t, os.Remove(client.CertFile))
			time.Sleep(keyCheckInterval)
			assert.Empty(t, said(), "the token request reports a file that can't be read")
			assert.Equal(t, map[string]int{clientCertificate: 19, encryptionCertificate: 4}, c.daysLeft())

			renewClient(400 * day)
			renewFirst(800 * day)
			time.Sleep(keyCheckInterval)
			assert.Equal(t, []string{
				"client_certificate: a certificate that was about to expire is replaced",
				"encryption_certificate: a certificate that was about to expire is replaced",
			}, said())
			assert.Equal(t, map[string]int{clientCertificate: 399, encryptionCertificate: 799}, c.daysLeft())
		}, r.watchFiles)
	})
}

// A generated key has a certificate as well; a client secret has no date.
func TestReceiver_KnowsDateOfGeneratedKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, c := newTestReceiver(t)
		during(t, func() {
			synctest.Wait()
			assert.Equal(t, map[string]int{encryptionCertificate: int(time.Until(time.Now().AddDate(20, 0, 0)) / day)}, c.daysLeft())
		}, r.watchFiles)
	})
}

func TestReceiver_WatchesClientCertificateWithoutSubscription(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, _ := certificateFile(t, "", 100*day)
		r, c := newTestReceiver(t, func(s *setup) {
			s.settings.Subscription.Resources = nil
			s.settings.Credential = &graph.CredentialSettings{CertFile: client.CertFile, KeyFile: client.KeyFile}
		})
		during(t, func() {
			time.Sleep(3 * keyCheckInterval)
			assert.Equal(t, map[string]int{clientCertificate: 99}, c.daysLeft())
		}, r.watchFiles)
	})
}
