// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// The steps of docs/rotation.md, each done while interactions are published: none is lost, none comes twice, and the history is read
// only where the document says so.

// rotation is a collector whose credentials are replaced, and what is published meanwhile.
type rotation struct {
	*collectorHarness

	runs []*process
	// stop ends the publication, and returns what was published.
	stop func() []graphtest.Interaction
}

const (
	newSecret = "the-next-secret"
	// publishInterval is the time between two interactions.
	publishInterval = 20 * time.Millisecond
)

// startRotation runs a collector and publishes interactions. receiver is what its configuration has beyond the example.
func startRotation(t *testing.T, receiver string, change ...func(*graphtest.Settings)) *rotation {
	t.Helper()
	h := newCollectorHarness(t, withReceiver(receiver), append(change, withDirectory)...)
	r := &rotation{collectorHarness: h, runs: []*process{h.run(t)}}
	r.collector().awaitLine(t, ready, waitTimeout)
	r.awaitConfirmed(t)
	ctx, cancel := context.WithCancel(t.Context())
	published := make(chan []graphtest.Interaction, 1)
	go func() { published <- r.publishUntil(ctx, t) }() //nolint:testifylint // what it requires always holds
	r.stop = func() []graphtest.Interaction {
		cancel()
		return <-published
	}
	r.awaitDelivered(t)
	return r
}

// publishUntil publishes interactions, one after the other, until ctx ends. It returns them.
func (r *rotation) publishUntil(ctx context.Context, t *testing.T) (in []graphtest.Interaction) {
	t.Helper()
	every := time.NewTicker(publishInterval)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return in
		case <-every.C:
		}
		one := prompt(t, len(in), user(len(in)%5), time.Now())
		in = append(in, one)
		// What is not sent is in the history nevertheless, and missing in the end.
		_, _ = r.emulator.Publish(context.WithoutCancel(ctx), one)
	}
}

func withReceiver(config string) string { return "receivers: {m365_copilot: {" + config + "}}" }

// awaitDelivered waits until what is published at the moment arrives by notifications.
func (r *rotation) awaitDelivered(t *testing.T) {
	t.Helper()
	require.NoError(t, r.emulator.WaitDelivered(deadline(t), r.emulator.Stats().Acknowledged+20))
}

func (r *rotation) collector() *process { return r.runs[len(r.runs)-1] }

// reload writes another configuration and reloads it.
func (r *rotation) reload(t *testing.T, receiver string) {
	t.Helper()
	require.NoError(t, os.WriteFile(r.ownConfig, []byte(withReceiver(receiver)), 0o600))
	r.collector().reload(t)
}

// removeOld removes the old credential from the app registration, and waits until the new one was used.
func (r *rotation) removeOld(t *testing.T, remove func()) {
	t.Helper()
	remove()
	issued := r.emulator.Stats().TokensIssued
	r.emulator.RevokeTokens()
	require.NoError(t, r.emulator.Wait(deadline(t), func(stats graphtest.Stats) bool { return stats.TokensIssued > issued }))
	r.awaitConfirmed(t)
}

// awaitReplaced waits until the subscription uses the certificate of an id, and for the reading of the time in between, the nth for
// the reason.
func (r *rotation) awaitReplaced(t *testing.T, certificate, reason string, n int) {
	t.Helper()
	require.NoError(t, r.emulator.Wait(deadline(t), func(graphtest.Stats) bool {
		subscriptions := r.emulator.Subscriptions()
		return len(subscriptions) == 1 && strings.HasPrefix(subscriptions[0].EncryptionCertificateID, certificate+".")
	}))
	r.awaitRead(t, reason, n)
}

// awaitRead waits until the history was read n times for a reason.
func (r *rotation) awaitRead(t *testing.T, reason string, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return r.readings(reason) >= n }, waitTimeout, 20*time.Millisecond, reason)
}

// readings returns how often the history was read for a reason.
func (r *rotation) readings(reason string) (n int) {
	for _, run := range r.runs {
		for _, line := range run.linesWith("history read") {
			if strings.Contains(line, strconv.Quote(reason)) {
				n++
			}
		}
	}
	return n
}

var (
	loggedReasons = regexp.MustCompile(`"reasons": \["([^]]*)"`)
	loggedCode    = regexp.MustCompile(`"code": "(COP\d+)"`)
)

// reasons returns those for which the history was read, by the lines with a text.
func (r *rotation) reasons(text string) []string { return r.found(text, loggedReasons) }

// found returns the words that an expression finds in the lines that contain a text, sorted and without repetitions.
func (r *rotation) found(text string, expression *regexp.Regexp) (found []string) {
	for _, run := range r.runs {
		for _, line := range run.linesWith(text) {
			if match := expression.FindStringSubmatch(line); match != nil {
				found = append(found, strings.Split(match[1], `","`)...)
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// end ends the publication. Everything has arrived once, and the history was read for these reasons only. Codes are those that may
// be logged.
func (r *rotation) end(t *testing.T, reasons []string, codes ...string) {
	t.Helper()
	r.awaitDelivered(t)
	in := r.stop()
	r.backend.await(t, interactionKeys(t, in...), waitTimeout)
	require.NoError(t, r.emulator.WaitIdle(deadline(t)))
	t.Logf("%d interactions: %v", len(in), r.backend.recordsBySource())
	assert.Zero(t, r.backend.duplicates())
	assert.Equal(t, reasons, r.reasons("reading history"))
	assert.Subset(t, codes, r.found("", loggedCode), "what else is logged")
}

// replace replaces a file at once.
func replace(t *testing.T, file string, content []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(file+".new", content, 0o600))
	require.NoError(t, os.Rename(file+".new", file))
}

func TestRotation_SecretInConfiguration(t *testing.T) {
	t.Parallel()
	r := startRotation(t, fmt.Sprintf("auth: {client_secret: %q}", secret))
	r.emulator.SetClientSecrets(secret, newSecret)
	r.reload(t, fmt.Sprintf("auth: {client_secret: %q}", newSecret))
	r.removeOld(t, func() { r.emulator.SetClientSecrets(newSecret) })
	r.end(t, nil)
}

// The environment of a process does not change while it runs.
func TestRotation_SecretInEnvironment(t *testing.T) {
	t.Parallel()
	r := startRotation(t, "")
	r.emulator.SetClientSecrets(secret, newSecret)
	r.environment = append(r.environment, "COPILOT_CLIENT_SECRET="+newSecret)
	r.collector().terminate(t)
	r.runs = append(r.runs, r.run(t))
	r.awaitDelivered(t)
	r.removeOld(t, func() { r.emulator.SetClientSecrets(newSecret) })
	r.end(t, nil)
}

func TestRotation_SecretInFile(t *testing.T) {
	t.Parallel()
	file := writeFile(t, secret)
	r := startRotation(t, fmt.Sprintf(`auth: {client_secret: "", client_secret_file: %q}`, file))
	r.emulator.SetClientSecrets(secret, newSecret)
	replace(t, file, []byte(newSecret))
	r.removeOld(t, func() { r.emulator.SetClientSecrets(newSecret) })
	r.end(t, nil)
}

func TestRotation_ClientCertificate(t *testing.T) {
	t.Parallel()
	old, renewed := certificatePair(t), certificatePair(t)
	oldCertificate, newCertificate := parsedCertificate(t, old), parsedCertificate(t, renewed)
	certificate, key := writeFile(t, string(old.Certificate)), writeFile(t, string(old.Key))
	r := startRotation(t, fmt.Sprintf(`auth: {client_secret: "", client_certificate: {cert_file: %q, key_file: %q}}`, certificate, key),
		func(s *graphtest.Settings) { s.ClientCertificates = []*x509.Certificate{oldCertificate} })
	r.emulator.SetClientCertificates(oldCertificate, newCertificate)
	replace(t, key, renewed.Key)
	replace(t, certificate, renewed.Certificate)
	r.removeOld(t, func() { r.emulator.SetClientCertificates(newCertificate) })
	r.end(t, nil)
}

func TestRotation_FederatedToken(t *testing.T) {
	t.Parallel()
	file := writeFile(t, "the first token")
	r := startRotation(t, fmt.Sprintf(`auth: {client_secret: "", federated_token_file: %q}`, file),
		func(s *graphtest.Settings) { s.FederatedAssertion = "the first token" })
	replace(t, file, []byte("the second token"))
	r.removeOld(t, func() { r.emulator.SetFederatedAssertions("the second token") })
	r.end(t, nil)
}

const certificates = "encryption: {certificates: [%s]}"

func TestRotation_EncryptionCertificateInList(t *testing.T) {
	t.Parallel()
	old, renewed := keyPair(t, "old"), keyPair(t, "renewed")
	r := startRotation(t, fmt.Sprintf(certificates, old))
	r.reload(t, fmt.Sprintf(certificates, renewed+", "+old))
	r.awaitReplaced(t, "renewed", "subscription", 1)
	assert.Contains(t, r.collector().awaitLine(t, "subscription recreated", waitTimeout), `"reason": "replaced"`)
	r.awaitDelivered(t)
	// An operator does this a day later. Here Graph may still repeat, for the old one, what it could not deliver during the first reload:
	// that is rejected, and read from the history.
	r.reload(t, fmt.Sprintf(certificates, renewed))
	r.awaitRead(t, "removed_key", 1)
	r.end(t, []string{"removed_key", "subscription"}, "COP410")
}

// What Graph sends for the old key until the subscription is replaced is rejected, and read from the history.
func TestRotation_EncryptionCertificateInPlace(t *testing.T) {
	t.Parallel()
	old, renewed := certificatePair(t), certificatePair(t)
	certificate, key := writeFile(t, string(old.Certificate)), writeFile(t, string(old.Key))
	r := startRotation(t, fmt.Sprintf(certificates, fmt.Sprintf("{cert_file: %q, key_file: %q}", certificate, key)))
	replace(t, key, renewed.Key)
	replace(t, certificate, renewed.Certificate)
	r.collector().awaitLine(t, "the encryption certificates changed", time.Minute)
	r.awaitReplaced(t, "key", "removed_key", 1)
	r.end(t, []string{"removed_key"}, "COP003", "COP007", "COP410", "COP419")
}

// The generated key is forgotten as soon as a certificate is configured, and without one there is another.
func TestRotation_GeneratedKey(t *testing.T) {
	t.Parallel()
	r := startRotation(t, "")
	generated := r.emulator.Subscriptions()[0].EncryptionCertificateID
	r.reload(t, fmt.Sprintf(certificates, keyPair(t, "own")))
	r.awaitReplaced(t, "own", "removed_key", 1)
	r.awaitDelivered(t)
	before := r.readings("removed_key")
	r.reload(t, "")
	r.awaitReplaced(t, "key", "removed_key", before+1)
	assert.NotEqual(t, generated, r.emulator.Subscriptions()[0].EncryptionCertificateID)
	r.end(t, []string{"removed_key"}, "COP410")
}

func TestRotation_CertificateOfWebhook(t *testing.T) {
	t.Parallel()
	old, err := graphtest.ServerCertificate(validFor)
	require.NoError(t, err)
	renewed, err := graphtest.ServerCertificate(validFor)
	require.NoError(t, err)
	certificate, key := writeFile(t, string(old.Certificate)), writeFile(t, string(old.Key))
	r := startRotation(t, fmt.Sprintf("webhook: {tls: {cert_file: %q, key_file: %q, reload_interval: 1s}}", certificate, key),
		func(s *graphtest.Settings) {
			s.RootCAs.AddCert(parsedCertificate(t, old))
			s.RootCAs.AddCert(parsedCertificate(t, renewed))
		})
	replace(t, key, renewed.Key)
	replace(t, certificate, renewed.Certificate)
	require.Eventually(t, func() bool {
		return bytes.Equal(parsedCertificate(t, renewed).Raw, servedCertificate(t, r.webhook))
	}, waitTimeout, 100*time.Millisecond)
	r.end(t, nil, "COP408")
}

// servedCertificate returns the certificate with which a server answers, nil if there is no handshake.
func servedCertificate(t *testing.T, address string) []byte {
	t.Helper()
	dialer := tls.Dialer{Config: &tls.Config{ServerName: "localhost", InsecureSkipVerify: true}}
	connection, err := dialer.DialContext(t.Context(), "tcp", address)
	if err != nil {
		return nil
	}
	defer func() { _ = connection.Close() }()
	return connection.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw
}

func certificatePair(t *testing.T) graphtest.Pair {
	t.Helper()
	pair, err := graphtest.EncryptionCertificate(2048, validFor)
	require.NoError(t, err)
	return pair
}

func parsedCertificate(t *testing.T, pair graphtest.Pair) *x509.Certificate {
	t.Helper()
	certificate, err := pair.X509()
	require.NoError(t, err)
	return certificate
}
