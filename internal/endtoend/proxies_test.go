// SPDX-License-Identifier: Apache-2.0

package endtoend_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

// The reverse proxies of examples/proxies, run by the programs of Debian in front of the collector. Of an example only the lines with
// addresses and certificate files are replaced, each of which must be there.

const (
	// maxBody is the default of webhook.max_request_body_size.
	maxBody = 20 << 20
	// exampleUpstream is the address of the collector in each example.
	exampleUpstream = "127.0.0.1:8443"
)

// proxy is a reverse proxy with a certificate that Graph trusts.
type proxy struct {
	// listen is the address at which Graph reaches it, upstream that of the collector.
	listen, upstream string
	// dir is a directory of its own, with its configuration and certificate.
	dir string
}

// proxyKind is one of the programs.
type proxyKind struct {
	example, program string
	// lines are what is replaced in the example: a line without its indentation by another.
	lines func(p *proxy) map[string]string
	// flags start it in the foreground.
	flags func(t *testing.T, p *proxy, config string) []string
}

func (p *proxy) certificate() string { return filepath.Join(p.dir, "server.crt") }
func (p *proxy) key() string         { return filepath.Join(p.dir, "server.key") }

// both is a file with certificate and key.
func (p *proxy) both() string { return filepath.Join(p.dir, "both.pem") }

var proxies = map[string]proxyKind{
	"nginx": {
		example: "nginx.conf", program: "nginx",
		lines: func(p *proxy) map[string]string {
			return map[string]string{
				"server " + exampleUpstream + ";":                             "server " + p.upstream + ";",
				"listen 443 ssl;":                                             "listen " + p.listen + " ssl;",
				"ssl_certificate /etc/nginx/tls/copilot.example.com.crt;":     "ssl_certificate " + p.certificate() + ";",
				"ssl_certificate_key /etc/nginx/tls/copilot.example.com.key;": "ssl_certificate_key " + p.key() + ";",
			}
		},
		flags: func(t *testing.T, p *proxy, config string) []string {
			t.Helper()
			// What the package's nginx.conf has around the files of conf.d, with everything that it writes in the directory.
			whole := fmt.Sprintf("daemon off; master_process off; pid nginx.pid; error_log stderr;\nevents {}\nhttp {\naccess_log off;\n"+
				"client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n"+
				"include %s;\n}\n", config)
			file := filepath.Join(p.dir, "whole.conf")
			require.NoError(t, os.WriteFile(file, []byte(whole), 0o600))
			return []string{"-p", p.dir, "-e", "stderr", "-c", file}
		},
	},
	"HAProxy": {
		example: "haproxy.cfg", program: "haproxy",
		lines: func(p *proxy) map[string]string {
			return map[string]string{
				"server collector " + exampleUpstream: "server collector " + p.upstream,
				"bind :443 ssl crt /etc/haproxy/tls/copilot.example.com.pem ssl-min-ver TLSv1.2": "bind " + p.listen + " ssl crt " + p.both() +
					" ssl-min-ver TLSv1.2",
			}
		},
		flags: func(_ *testing.T, _ *proxy, config string) []string { return []string{"-db", "-f", config} },
	},
	"Caddy": {
		example: "Caddyfile", program: "caddy",
		lines: func(p *proxy) map[string]string {
			_, port, _ := net.SplitHostPort(p.listen)
			return map[string]string{
				"admin localhost:2019":                    "admin unix/" + filepath.Join(p.dir, "admin.socket"),
				"reverse_proxy " + exampleUpstream + " {": "reverse_proxy " + p.upstream + " {",
				"copilot.example.com {":                   "https://localhost:" + port + " {\n\tbind 127.0.0.1",
				"# tls /etc/caddy/tls/copilot.example.com.crt /etc/caddy/tls/copilot.example.com.key": "tls " + p.certificate() + " " + p.key(),
			}
		},
		flags: func(_ *testing.T, _ *proxy, config string) []string {
			return []string{"run", "--adapter", "caddyfile", "--config", config}
		},
	},
}

// debianProgram returns the path of a program that `make _tools/debian/unpacked` has unpacked, with the environment in which it finds its
// libraries, or one that is installed.
func debianProgram(t *testing.T, name string) (program string, environment []string) {
	t.Helper()
	unpacked, err := filepath.Abs(filepath.Join(root, "_tools", "debian"))
	require.NoError(t, err)
	for _, dir := range []string{"usr/lib/chromium", "usr/sbin", "usr/bin", "bin"} {
		program = filepath.Join(unpacked, dir, name)
		if _, err := os.Stat(program); err != nil {
			continue
		}
		var libraries []string
		for _, pattern := range []string{
			"usr/lib/*-linux-gnu*", "lib/*-linux-gnu*", "usr/lib/*-linux-gnu*/systemd", "usr/lib/*-linux-gnu*/pulseaudio",
		} {
			found, err := filepath.Glob(filepath.Join(unpacked, pattern))
			require.NoError(t, err)
			libraries = append(libraries, found...)
		}
		return program, []string{"LD_LIBRARY_PATH=" + strings.Join(libraries, ":")}
	}
	program, err = exec.LookPath(name)
	require.NoError(t, err, "`make _tools/debian/unpacked` unpacks it")
	return program, nil
}

// startProxy starts a reverse proxy with a certificate, and waits until it answers with that.
func startProxy(t *testing.T, kind proxyKind, upstream string, pair graphtest.Pair) *proxy {
	t.Helper()
	p := &proxy{listen: freeAddress(t), upstream: upstream, dir: t.TempDir()}
	for file, content := range map[string][]byte{
		p.certificate(): pair.Certificate, p.key(): pair.Key, p.both(): append(bytes.Clone(pair.Certificate), pair.Key...),
	} {
		require.NoError(t, os.WriteFile(file, content, 0o600))
	}
	config := filepath.Join(p.dir, kind.example)
	example, err := os.ReadFile(filepath.Join(root, "examples", "proxies", kind.example))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(config, []byte(replaceLines(t, string(example), kind.lines(p))), 0o600))
	program, environment := debianProgram(t, kind.program)
	environment = append(environment, "HOME="+p.dir, "XDG_DATA_HOME="+p.dir, "XDG_CONFIG_HOME="+p.dir)
	run(t, program, kind.flags(t, p, config), environment)
	require.Eventually(t, func() bool {
		return bytes.Equal(parsedCertificate(t, pair).Raw, servedCertificate(t, p.listen))
	}, waitTimeout, 50*time.Millisecond, "the certificate is the proxy's")
	return p
}

// replaceLines replaces lines of a text, keeping their indentation. Each must be there once.
func replaceLines(t *testing.T, text string, lines map[string]string) string {
	t.Helper()
	for from, to := range lines {
		line := regexp.MustCompile(`(?m)^([ \t]*)` + regexp.QuoteMeta(from) + `$`)
		require.Len(t, line.FindAllString(text, -1), 1, from)
		text = line.ReplaceAllString(text, "${1}"+strings.ReplaceAll(to, "$", "$$"))
	}
	return text
}

// newProxiedHarness is a tenant that reaches the collector through a reverse proxy, which terminates TLS.
func newProxiedHarness(t *testing.T, kind proxyKind, overlay string) *collectorHarness {
	t.Helper()
	h := newCollectorHarness(t, overlay)
	base := filepath.Join(h.overlay, "base.yaml")
	config, err := os.ReadFile(base)
	require.NoError(t, err)
	tls := regexp.MustCompile(`\n +tls: .*`)
	require.Len(t, tls.FindAll(config, -1), 1)
	require.NoError(t, os.WriteFile(base, tls.ReplaceAll(config, nil), 0o600))
	pair := graphtest.Pair{}
	for file, into := range map[string]*[]byte{"server.crt": &pair.Certificate, "server.key": &pair.Key} {
		*into, err = os.ReadFile(filepath.Join(h.overlay, file))
		require.NoError(t, err)
	}
	_, port, err := net.SplitHostPort(startProxy(t, kind, h.webhook, pair).listen)
	require.NoError(t, err)
	h.public = "localhost:" + port
	return h
}

func TestProxies_DeliverInteractions(t *testing.T) {
	skipIfShort(t, "it starts reverse proxies")
	t.Parallel()
	for name, kind := range proxies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newProxiedHarness(t, kind, "")
			h.run(t)
			subscription := h.awaitSubscribed(t)
			assert.Contains(t, subscription.NotificationURL, h.public)
			in := prompts(t, 200, 10)
			h.publish(t, in...)
			h.backend.await(t, interactionKeys(t, in...), waitTimeout)
			require.NoError(t, h.emulator.WaitDelivered(deadline(t), len(in)))
			stats := h.emulator.Stats()
			assert.Positive(t, stats.Handshakes)
			assert.Zero(t, stats.HandshakesFailed)
			assert.Zero(t, stats.Lost)
			assert.Zero(t, h.backend.duplicates())
		})
	}
}

// A path that is not the webhook's does not reach the collector.
func TestProxies_PassOnlyNotifications(t *testing.T) {
	skipIfShort(t, "it starts reverse proxies")
	t.Parallel()
	for name, kind := range proxies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newProxiedHarness(t, kind, "")
			collector := h.run(t)
			h.awaitSubscribed(t)
			status, err := h.emulator.PostTo(t.Context(), "https://"+h.public+"/other?validationToken=x", nil, nil)
			require.NoError(t, err)
			assert.Equal(t, http.StatusNotFound, status)
			assert.Empty(t, collector.linesWith("COP406"), "the collector would log it")
		})
	}
}

// largePrompts are interactions whose notification has between 15 and 20 MiB.
func largePrompts(t *testing.T, h *collectorHarness) []graphtest.Interaction {
	t.Helper()
	text := strings.Repeat("a word and another one ", (3300<<10)/23)
	in := prompts(t, 4, 4)
	for i := range in {
		in[i].JSON = bytes.Replace(in[i].JSON, []byte("{"), []byte(`{"body":{"contentType":"text","content":"`+text+`"},`), 1)
	}
	c, err := h.emulator.Collection(in...)
	require.NoError(t, err)
	body, err := json.Marshal(c)
	require.NoError(t, err)
	require.Greater(t, len(body), 15<<20)
	require.Less(t, len(body), maxBody)
	return in
}

// It does not run in parallel with other tests: so many bytes stop this process, with the race detector, while others measure time.
//
//nolint:paralleltest // see above
func TestProxies_PassLargeBodies(t *testing.T) {
	skipIfShort(t, "it starts reverse proxies")
	for name, kind := range proxies {
		t.Run(name, func(t *testing.T) {
			h := newProxiedHarness(t, kind, "")
			collector := h.run(t)
			h.awaitSubscribed(t)
			in := largePrompts(t, h)
			h.publish(t, in...)
			h.backend.await(t, interactionKeys(t, in...), 2*time.Minute)
			require.NoError(t, h.emulator.WaitDelivered(deadline(t), len(in)))

			// What is too large is refused by the receiver, which logs it, and not by the proxy. The sender may not get an answer, since the
			// receiver does not read the body.
			_, _ = h.emulator.PostRaw(t.Context(), bytes.Repeat([]byte(" "), maxBody+1), nil)
			collector.awaitLine(t, "COP407", waitTimeout)
		})
	}
}

// Graph gets 503 within the 3 seconds for which it waits, and sends again what the slow pipeline has not taken by then. It does not run
// in parallel with other tests, since it measures time.
//
//nolint:paralleltest // see above
func TestProxies_SlowBackendLosesNothing(t *testing.T) {
	skipIfShort(t, "it starts reverse proxies")
	for name, kind := range proxies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newProxiedHarness(t, kind, `
exporters:
  otlp_http:
    sending_queue: {enabled: false}
    timeout: 20s
`)
			h.backend.delay = 6 * time.Second
			pause := graphtest.MeasurePauses(t.Context())
			h.run(t)
			h.awaitSubscribed(t)
			in := prompts(t, 30, 5)
			h.publish(t, in...)
			h.backend.await(t, interactionKeys(t, in...), time.Minute)
			require.NoError(t, h.emulator.WaitDelivered(deadline(t), len(in)))
			refused := 0
			for _, a := range h.emulator.Acknowledgements() {
				if a.Status == http.StatusServiceUnavailable {
					refused++
				}
			}
			assert.Positive(t, refused)
			assertAnswersInTime(t, h, pause())
			assert.Zero(t, h.emulator.Stats().Lost)
			assert.Zero(t, h.backend.duplicates(), "what was delivered late is not delivered again")
		})
	}
}

// The receiver closes a connection that is idle for webhook.MaxIdleTimeout. A proxy that kept it for longer would send notifications on
// connections that are being closed.
func TestProxies_CloseIdleConnectionsBeforeReceiver(t *testing.T) {
	skipIfShort(t, "it starts reverse proxies")
	t.Parallel()
	for name, kind := range proxies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			closed := make(chan struct{}, 1)
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusAccepted)
			}))
			server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateClosed {
					select {
					case closed <- struct{}{}:
					default:
					}
				}
			}
			server.Start()
			t.Cleanup(server.Close)
			pair, err := graphtest.ServerCertificate(validFor)
			require.NoError(t, err)
			p := startProxy(t, kind, server.Listener.Addr().String(), pair)
			client, done := newHTTPClient()
			t.Cleanup(done)
			_, port, err := net.SplitHostPort(p.listen)
			require.NoError(t, err)
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://localhost:"+port+"/graph/notifications", http.NoBody)
			require.NoError(t, err)
			response, err := client.Do(request)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.Equal(t, http.StatusAccepted, response.StatusCode)
			select {
			case <-closed:
			case <-time.After(webhook.MaxIdleTimeout):
				assert.Fail(t, "the proxy keeps the connection for longer than the receiver")
			}
		})
	}
}
