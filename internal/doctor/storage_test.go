// SPDX-License-Identifier: Apache-2.0

package doctor_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/extension/storage/filestorage"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/extension/extensiontest"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.uber.org/zap"

	m365copilotreceiver "github.com/otelcopilot/m365copilotreceiver"
	"github.com/otelcopilot/m365copilotreceiver/internal/doctor"
	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap/gapstore"
	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadata"
	"github.com/otelcopilot/m365copilotreceiver/internal/statestore"
)

var receiverID = component.NewID(metadata.Type)

// fileStorage is the extension file_storage with a directory.
func fileStorage(t *testing.T, directory string) storage.Extension {
	t.Helper()
	factory := filestorage.NewFactory()
	config, ok := factory.CreateDefaultConfig().(*filestorage.Config)
	require.True(t, ok)
	config.Directory = directory
	created, err := factory.Create(t.Context(), extensiontest.NewNopSettings(factory.Type()), config)
	require.NoError(t, err)
	e, ok := created.(storage.Extension)
	require.True(t, ok)
	return e
}

// write changes what is stored for a receiver.
func write(t *testing.T, directory string, id component.ID, change func(storage.Client)) {
	t.Helper()
	client, err := fileStorage(t, directory).GetClient(t.Context(), component.KindReceiver, id, tenant)
	require.NoError(t, err)
	change(client)
	require.NoError(t, client.Close(t.Context()))
}

// noTelemetry counts no gaps.
type noTelemetry struct{}

func (noTelemetry) GapOpened(context.Context, gap.Reason)              {}
func (noTelemetry) GapClosed(context.Context, gap.Reason)              {}
func (noTelemetry) GapLost(context.Context, gap.Reason, time.Duration) {}

// writeGaps stores gaps and checkpoint as a run that ended.
func writeGaps(t *testing.T, directory string, state gap.State) {
	t.Helper()
	write(t, directory, receiverID, func(client storage.Client) {
		gaps := gapstore.New(gapstore.Settings{
			Store: statestore.New(client), Now: time.Now, Logger: zap.NewNop(), Telemetry: noTelemetry{},
		})
		gaps.Update(t.Context(), func(s *gap.State, _ time.Time) { *s = state })
		require.NoError(t, gaps.Flush(t.Context()))
	})
}

// inDirectory is the rest of a configuration with file_storage in a directory, and further keys of it.
func inDirectory(directory, keys string) string {
	return fmt.Sprintf("extensions: {file_storage: {directory: %q%s}}\nservice: {extensions: [file_storage]}", directory, keys)
}

// checkStorage returns the storage group of a receiver with file_storage.
func (h *harness) checkStorage(t *testing.T, directory, receiver string) doctor.Group {
	t.Helper()
	return group(t, h.check(t, "    storage: file_storage\n"+receiver, inDirectory(directory, "")), "storage")
}

// snapshot describes everything in a directory.
func snapshot(t *testing.T, directory string) (all []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := entry.Info()
		require.NoError(t, err)
		content := []byte(nil)
		if !entry.IsDir() {
			content, err = os.ReadFile(path)
			require.NoError(t, err)
		}
		all = append(all, fmt.Sprintf("%s %d %s %s %x", path, info.Size(), info.Mode(), info.ModTime(), sha256.Sum256(content)))
		return nil
	}))
	return all
}

// runningReceiver is a receiver in this process with an emulated tenant of its own.
type runningReceiver struct {
	emulator *graphtest.Emulator
	yaml     string
	receiver component.Component
}

type host map[component.ID]component.Component

func (h host) GetExtensions() map[component.ID]component.Component { return h }

// startReceiver starts a receiver with file_storage in a directory.
func startReceiver(t *testing.T, directory string) *runningReceiver {
	t.Helper()
	pair, err := graphtest.ServerCertificate(time.Hour)
	require.NoError(t, err)
	roots, files := x509.NewCertPool(), t.TempDir()
	require.True(t, roots.AppendCertsFromPEM(pair.Certificate))
	cert, key := filepath.Join(files, "server.crt"), filepath.Join(files, "server.key")
	require.NoError(t, os.WriteFile(cert, pair.Certificate, 0o600))
	require.NoError(t, os.WriteFile(key, pair.Key, 0o600))
	r := &runningReceiver{emulator: graphtest.New(graphtest.Settings{
		TenantID: tenant, ClientID: client, ClientSecret: secret, RootCAs: roots, NoListLimit: true,
	})}
	t.Cleanup(r.emulator.Close)
	url, err := r.emulator.Start("")
	require.NoError(t, err)
	address := freeAddress(t)
	r.yaml = fmt.Sprintf(`
receivers:
  m365_copilot:
    tenant_id: %[1]s
    auth: {client_id: %[2]s, client_secret: %[3]s, authority: %[4]q}
    graph: {endpoint: %[4]q}
    subscription: {notification_url: "https://%[5]s/n", check_interval: 1s}
    webhook: {endpoint: %[5]q, tls: {cert_file: %[6]q, key_file: %[7]q}}
    storage: file_storage
extensions: {file_storage: {directory: %[8]q}}
exporters: {nop: }
service: {extensions: [file_storage], pipelines: {logs: {receivers: [m365_copilot], exporters: [nop]}}}
`, tenant, client, secret, url, address, cert, key, directory)

	retrieved, err := confmap.NewRetrievedFromYAML([]byte(r.yaml))
	require.NoError(t, err)
	all, err := retrieved.AsConf()
	require.NoError(t, err)
	section, err := all.Sub("receivers::m365_copilot")
	require.NoError(t, err)
	factory := m365copilotreceiver.NewFactory()
	config := factory.CreateDefaultConfig()
	require.NoError(t, section.Unmarshal(config))
	require.NoError(t, confmap.Validate(config))
	set := receivertest.NewNopSettings(factory.Type())
	set.ID = receiverID
	r.receiver, err = factory.CreateLogs(t.Context(), set, config, consumertest.NewNop())
	require.NoError(t, err)
	require.NoError(t, r.receiver.Start(t.Context(), host{component.MustNewID("file_storage"): fileStorage(t, directory)}))
	t.Cleanup(func() { r.stop(t) })
	// The second pass begins after the first has confirmed the subscription.
	require.Eventually(t, func() bool { return len(r.emulator.Requests(graphtest.OpList)) > 1 }, 30*time.Second, 10*time.Millisecond)
	return r
}

// stop is safe to repeat.
func (r *runningReceiver) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, r.receiver.Shutdown(context.Background()))
}

func TestStorage_ShowsStateOfLastRun(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	r := startReceiver(t, directory)
	r.stop(t)
	require.NoError(t, os.WriteFile(filepath.Join(directory, "exporter_otlp_http__logs"), make([]byte, 1<<20), 0o600))
	before := snapshot(t, directory)
	report := checkURIs(t, "yaml:"+r.yaml)
	g := group(t, report, "storage")
	assert.Equal(t, doctor.OK, g.Mark(), found(g))
	for _, want := range []string{"this user can write to " + directory, "checkpoint: ", "the generated encryption key is stored", "no gap is known"} {
		requireCheck(t, g, doctor.OK, "", want)
	}
	requireCheck(t, group(t, report, "encryption"), doctor.OK, "", "a generated key is in storage, key.")
	assert.Equal(t, before, snapshot(t, directory), "nothing is changed")
}

// A collector that is running has its file locked, and writes to it.
func TestStorage_OfRunningCollectorIsRead(t *testing.T) {
	t.Parallel()
	r := startReceiver(t, t.TempDir())
	for range 5 {
		g := group(t, checkURIs(t, "yaml:"+r.yaml), "storage")
		assert.Equal(t, doctor.OK, g.Mark(), found(g))
		requireCheck(t, g, doctor.OK, "", "checkpoint: ")
	}
}

func TestStorage_SaysWhatARestartCosts(t *testing.T) {
	t.Parallel()
	certificate := configured(newCertificate(t, 2048, 365*24*time.Hour))
	const (
		inventory = "    identity: {inventory: 24h}"
		again     = "none is configured: each restart reads the last 5 h of history again"
		forgotten = "warn COP011 none is configured: the inventory knows only prompts since the last start\n"
	)
	for name, test := range map[string]struct{ receiver, want string }{
		"the key is generated":                        {"", "warn COP009 " + again + ", and replaces the subscription\n"},
		"the key is configured":                       {certificate, "ok  " + again + "\n"},
		"no history is read":                          {certificate + "    history: {enabled: false}", "ok  none is configured: a restart does not know what was missed\n"},
		"there is an inventory":                       {certificate + inventory, "ok  " + again + "\n" + forgotten},
		"there is an inventory, the key is generated": {inventory, "warn COP009 " + again + ", and replaces the subscription\n" + forgotten},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.want, found(group(t, newHarness(t).check(t, test.receiver, ""), "storage")))
		})
	}
}

func TestStorage_ExtensionThatIsNotLookedInto(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ rest, want string }{
		"another kind": {"extensions: {redis_storage: }\nservice: {extensions: [redis_storage]}", "only a collector has the extension redis_storage, this program looks into file_storage alone"},
		"none":         {"", "the extension redis_storage is not configured"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := group(t, newHarness(t).check(t, "    storage: redis_storage", test.rest), "storage")
			assert.Equal(t, "skip  "+test.want+"\n", found(g))
		})
	}
}

func TestStorage_DirectoryCanBeUsed(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	empty := t.TempDir()
	t.Cleanup(func() { assert.Len(t, snapshot(t, empty), 1, "nothing was created") })
	const create = ", create_directory: true"
	for name, test := range map[string]struct {
		directory, keys string
		mark            doctor.Mark
		want            string
	}{
		"it is there":                          {empty, "", doctor.OK, "this user can write to " + empty},
		"it can be created":                    {filepath.Join(empty, "a", "b"), create, doctor.OK, "this user can write to " + empty + "/a/b"},
		"it is missing":                        {filepath.Join(empty, "a"), "", doctor.Fail, "extensions::file_storage: directory " + empty + "/a: it does not exist"},
		"it is a file":                         {file, "", doctor.Fail, "it is not a directory"},
		"it is in a file":                      {filepath.Join(file, "a"), create, doctor.Fail, "not a directory"},
		"a file is in the way":                 {filepath.Join(file, "a", "b"), create, doctor.Fail, "not a directory"},
		"its name comes from no variable":      {"", "", doctor.Fail, "it does not exist"},
		"it is missing, the parent is as well": {filepath.Join(empty, "a", "b"), "", doctor.Fail, "it does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := group(t, newHarness(t).check(t, "    storage: file_storage", inDirectory(test.directory, test.keys)), "storage")
			code := failure.StorageNotWritable
			if test.mark == doctor.OK {
				code = ""
				requireCheck(t, g, doctor.OK, "", "nothing is stored yet")
			}
			requireCheck(t, g, test.mark, code, test.want)
			assert.Equal(t, test.mark, g.Mark(), found(g))
			assert.Equal(t, test.mark == doctor.OK, len(g.Checks) == 2, "what is not there can't be read: %s", found(g))
		})
	}
}

func TestStorage_ConfigurationIsChecked(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ keys, want string }{
		"a key is unknown":      {", fsnyc: true", "extensions::file_storage: 'filestorage.Config' has invalid keys: fsnyc"},
		"a value is impossible": {", max_size: -1", "extensions::file_storage: max size cannot be less than 0"},
		"compaction has no directory": {
			", compaction: {on_start: true, directory: /nowhere}", "extensions::file_storage: directory must exist: stat /nowhere",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := group(t, newHarness(t).check(t, "    storage: file_storage", inDirectory(t.TempDir(), test.keys)), "storage")
			requireCheck(t, g, doctor.Fail, failure.SettingWrong, test.want)
		})
	}
}

// Each receiver and tenant has a file of its own, whose name the extension chooses.
func TestStorage_ReadsFileOfThisReceiver(t *testing.T) {
	t.Parallel()
	for name, suffix := range map[string]string{
		"it has a name":        "emea",
		"its name is long":     strings.Repeat("e", 300),
		"its name is not safe": "Zürich,1",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			directory := t.TempDir()
			write(t, directory, component.NewIDWithName(metadata.Type, suffix), func(client storage.Client) {
				require.NoError(t, client.Set(t.Context(), "gaps", []byte("damaged")))
			})
			h := newHarness(t)
			requireCheck(t, h.checkStorage(t, directory, ""), doctor.OK, "", "nothing is stored yet")
			base, err := os.ReadFile(filepath.Join(h.dir, "base.yaml"))
			require.NoError(t, err)
			other := strings.ReplaceAll(string(base), "m365_copilot", "m365_copilot/"+suffix)
			r := checkURIs(t, writeYAML(t, other), writeYAML(t, "receivers:\n  m365_copilot/"+suffix+": {storage: file_storage}\n"+inDirectory(directory, "")))
			requireCheck(t, group(t, r, "storage"), doctor.Warn, failure.StorageDamaged, "")
		})
	}
}

func TestStorage_DamagedValueIsWarnedOf(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"gaps": "known gaps and the checkpoint in storage can't be used", "subscriptions": "own subscriptions in storage can't be used",
		"keys": "the encryption keys in storage can't be used",
	} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			directory := t.TempDir()
			write(t, directory, receiverID, func(client storage.Client) {
				require.NoError(t, client.Set(t.Context(), key, []byte("damaged")))
			})
			requireCheck(t, newHarness(t).checkStorage(t, directory, ""), doctor.Warn, failure.StorageDamaged, want)
		})
	}
}

// A damaged database makes its library panic or fault, which must not end this program.
func TestStorage_DamagedFileFails(t *testing.T) {
	t.Parallel()
	fill := func(file *os.File, from int64) error {
		info, err := file.Stat()
		if err != nil {
			return err
		}
		_, err = file.WriteAt([]byte(strings.Repeat("\xa5\x02", int(info.Size()-from)/2)), from)
		return err
	}
	for name, damage := range map[string]func(*os.File) error{
		"all of it":              func(file *os.File) error { return fill(file, 0) },
		"all pages but the meta": func(file *os.File) error { return fill(file, int64(2*os.Getpagesize())) },
		"its end is missing":     func(file *os.File) error { return file.Truncate(int64(2 * os.Getpagesize())) },
		"it is short":            func(file *os.File) error { return file.Truncate(10) },
		"its pages are zero": func(file *os.File) error {
			_, err := file.WriteAt(make([]byte, 16*os.Getpagesize()), int64(2*os.Getpagesize()))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			directory := t.TempDir()
			writeGaps(t, directory, gap.State{Started: true, Checkpoint: time.Now()})
			names, err := os.ReadDir(directory)
			require.NoError(t, err)
			require.Len(t, names, 1)
			file, err := os.OpenFile(filepath.Join(directory, names[0].Name()), os.O_RDWR, 0)
			require.NoError(t, err)
			require.NoError(t, damage(file))
			require.NoError(t, file.Close())
			before := snapshot(t, directory)
			requireCheck(t, newHarness(t).checkStorage(t, directory, ""), doctor.Fail, failure.StorageUnreadable, "extensions::file_storage: ")
			assert.Equal(t, before, snapshot(t, directory))
		})
	}
}

// A collector that ended while it created the file leaves it empty, and the next one begins anew.
func TestStorage_EmptyFileHoldsNothing(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	writeGaps(t, directory, gap.State{})
	names, err := os.ReadDir(directory)
	require.NoError(t, err)
	require.Len(t, names, 1)
	require.NoError(t, os.Truncate(filepath.Join(directory, names[0].Name()), 0))
	requireCheck(t, newHarness(t).checkStorage(t, directory, ""), doctor.OK, "", "nothing is stored yet")
}

// A copy of a file that is written to meanwhile proves nothing.
func TestStorage_FileThatChangesIsNotCalledDamaged(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	writeGaps(t, directory, gap.State{})
	names, err := os.ReadDir(directory)
	require.NoError(t, err)
	file, err := os.OpenFile(filepath.Join(directory, names[0].Name()), os.O_RDWR, 0)
	require.NoError(t, err)
	// So large that a copy takes longer than the clock of the file system needs to advance.
	_, err = file.WriteAt(bytes.Repeat([]byte("damaged."), 8<<20), 0)
	require.NoError(t, err)
	done := make(chan struct{})
	var writers sync.WaitGroup
	for range 4 { // so that one has a processor during each copy
		writers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					_, _ = file.WriteAt([]byte("damaged."), 0)
				}
			}
		})
	}
	g := newHarness(t).checkStorage(t, directory, "")
	close(done)
	writers.Wait()
	require.NoError(t, file.Close())
	requireCheck(t, g, doctor.Skip, "", "what is stored is not known: a collector wrote to the file during each of 3 copies")
	assert.Equal(t, doctor.Skip, g.Mark(), found(g))
}

func TestStorage_SaysHowOldTheStateIs(t *testing.T) {
	t.Parallel()
	const polled = "    subscription: {notification_url: \"\"}\n    history: {poll_interval: 5m}"
	user, ok := gap.ParseUser("b2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f00")
	require.True(t, ok)
	ago := func(d time.Duration) time.Time { return time.Now().Add(-d) }
	open := func(reason gap.Reason, change func(*gap.Gap)) gap.State {
		g := gap.Gap{Reasons: []gap.Reason{reason}, From: ago(49 * time.Hour), To: ago(48 * time.Hour), Scope: gap.Scope{Users: []gap.User{user}}}
		change(&g)
		return gap.State{Checkpoint: ago(time.Minute), Gaps: []gap.Gap{g}}
	}
	failing := func(g *gap.Gap) { g.Attempts = 3 }
	lasting := func(g *gap.Gap) { g.To = time.Time{} }
	none := func(*gap.Gap) {}
	type state struct {
		receiver string
		state    gap.State
		mark     doctor.Mark
		code     failure.Code
		want     string
	}
	states := func() map[string]state {
		return map[string]state{
			"there is no checkpoint":       {"", gap.State{Started: true}, doctor.OK, "", "there is no checkpoint yet"},
			"it is fresh":                  {"", gap.State{Checkpoint: ago(3*time.Minute + time.Second)}, doctor.OK, "", "checkpoint: 3 min ago"},
			"it is within max_gap":         {"", gap.State{Checkpoint: ago(167 * time.Hour)}, doctor.OK, "", "checkpoint: 6 days ago"},
			"it is older":                  {"", gap.State{Checkpoint: ago(169 * time.Hour)}, doctor.Warn, failure.HistoryTooOld, "the checkpoint is 7 days old: what is further back than history.max_gap (168h0m0s) is not read"},
			"it is in the future":          {"", gap.State{Checkpoint: ago(-3*time.Hour - time.Minute)}, doctor.Warn, failure.ClockWrong, "the checkpoint is 3 h in the future"},
			"the history was polled":       {polled, gap.State{Polled: ago(3 * time.Hour)}, doctor.OK, "", "last poll: 3 h ago"},
			"it was not for long":          {polled, gap.State{Polled: ago(200 * time.Hour)}, doctor.Warn, failure.HistoryTooOld, "the last poll is 8 days old"},
			"a gap is to be read":          {"", open(gap.Startup, none), doctor.OK, "", "known gaps: startup (1, since 2 days ago)"},
			"a gap can't be read":          {"", open(gap.Undelivered, failing), doctor.Warn, failure.GapNotRead, "gap undelivered (1, since 2 days ago) is not read"},
			"a cause lasts":                {"", open(gap.Subscription, lasting), doctor.Warn, failure.GapNotRead, "gap subscription (1, since 2 days ago) is not read"},
			"a cause lasts for an hour":    {"", open(gap.Subscription, func(g *gap.Gap) { g.From, g.To = ago(time.Hour), time.Time{} }), doctor.OK, "", "known gaps: subscription (1, since 60 min ago)"},
			"nothing is read at all":       {"    history: {enabled: false}", open(gap.Startup, failing), doctor.OK, "", "known gaps: startup (1"},
			"users are not known":          {"", open(gap.UsersUnknown, func(g *gap.Gap) { g.Scope, g.Attempts = gap.Scope{SeenSince: ago(time.Hour)}, 3 }), doctor.OK, "", "known gaps: users_unknown (1"},
			"users have no history":        {"", open(gap.UsersUnknown, none), doctor.OK, "", "no gap is known"},
			"a gap is read twice":          {"", open(gap.Startup, func(g *gap.Gap) { g.Second = true }), doctor.OK, "", "no gap is known"},
			"a poll is no gap":             {"", open(gap.Poll, none), doctor.OK, "", "no gap is known"},
			"a gap is being read":          {"", gap.State{Pass: &gap.Pass{Began: ago(time.Hour), Gaps: open(gap.Empty, none).Gaps}}, doctor.OK, "", "known gaps: empty (1, since 2 days ago)"},
			"a reconciliation is complete": {"", gap.State{Result: gap.Result{Outcome: gap.Complete, To: ago(7 * time.Hour)}}, doctor.OK, "", "the last reconciliation is complete, up to 7 h ago"},
			"one is incomplete":            {"", gap.State{Result: gap.Result{Outcome: gap.Incomplete, To: ago(7 * time.Hour)}}, doctor.OK, "", "the last reconciliation is incomplete, up to 7 h ago"},
			"one is inconclusive":          {"", gap.State{Result: gap.Result{Outcome: gap.Inconclusive, To: ago(7 * time.Hour)}}, doctor.Warn, failure.HistoryInconclusive, "the last reconciliation is inconclusive, up to 7 h ago"},
		}
	}
	for name := range states() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test := states()[name] // of the present time, since this may have waited for other tests for a minute
			directory := t.TempDir()
			writeGaps(t, directory, test.state)
			g := newHarness(t).checkStorage(t, directory, test.receiver)
			requireCheck(t, g, test.mark, test.code, test.want)
			assert.Equal(t, test.mark, g.Mark(), found(g))
			assert.NotContains(t, found(g), user.String())
		})
	}
}

func TestStorage_CopyIsRemoved(t *testing.T) {
	directory, temporary := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", temporary)
	writeGaps(t, directory, gap.State{Checkpoint: time.Now()})
	h := newHarness(t)
	requireCheck(t, h.checkStorage(t, directory, ""), doctor.OK, "", "checkpoint: ")
	left, err := filepath.Glob(filepath.Join(temporary, "m365copilot*"))
	require.NoError(t, err)
	assert.Empty(t, left)

	t.Setenv("TMPDIR", filepath.Join(temporary, "nowhere"))
	g := h.checkStorage(t, directory, "")
	requireCheck(t, g, doctor.Skip, "", "what is stored is not known: no directory for a copy, set TMPDIR to one: ")
	requireCheck(t, g, doctor.OK, "", "this user can write to "+directory)
}
