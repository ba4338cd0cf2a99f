// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/extension/storage/storagetest"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configmiddleware"
	"go.opentelemetry.io/collector/extension/extensionmiddleware"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcopilot/m365copilotreceiver/internal/dedupe"
	"github.com/otelcopilot/m365copilotreceiver/internal/gap"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/interaction"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadata"
	"github.com/otelcopilot/m365copilotreceiver/internal/subscription"
	"github.com/otelcopilot/m365copilotreceiver/internal/webhook"
)

const (
	tenant     = "6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10"
	userID     = "b2a7c9e4-5d31-4f0c-8e62-7a1b3c5d9f00"
	tenantWide = "copilot/interactionHistory/getAllEnterpriseInteractions"
	ofOneUser  = "copilot/users/" + userID + "/interactionHistory/getAllEnterpriseInteractions"

	// retriesEnd is when Graph has certainly stopped retrying.
	retriesEnd = 4*time.Hour + 30*time.Minute
	// minInFlightBytes is the least MaxInFlightBytes with which the webhook accepts a small body.
	minInFlightBytes = 4096
)

// setup is what a test receiver is made of.
type setup struct {
	settings Settings
	// stored is what earlier runs left and later ones will find; nil for no storage.
	stored *testStore
	logger *zap.Logger
	// graph answers the requests to Graph; nil for none that is reachable.
	graph roundTripper
}

func with(certificates ...Certificate) func(*setup) {
	return func(s *setup) { s.settings.Certificates = certificates }
}

func stored(store *testStore) func(*setup) { return func(s *setup) { s.stored = store } }

func logged(logger *zap.Logger) func(*setup) { return func(s *setup) { s.logger = logger } }

// newTestReceiver creates a receiver that has loaded its state and is not started, and its components.
func newTestReceiver(t *testing.T, change ...func(*setup)) (*Receiver, *components) {
	t.Helper()
	r, err := loadTestReceiver(t, change...)
	require.NoError(t, err)
	return r, r.components
}

// loadTestReceiver does the same, and returns the error of the load.
func loadTestReceiver(t *testing.T, change ...func(*setup)) (*Receiver, error) {
	t.Helper()
	s := setup{logger: zap.NewNop(), settings: Settings{
		TenantID: tenant, Graph: confighttp.NewDefaultClientConfig(), Credential: &graph.CredentialSettings{},
		Subscription: subscription.Settings{Resources: []string{tenantWide}, CheckInterval: 5 * time.Minute},
		Webhook: webhook.Settings{
			Config: confighttp.NewDefaultServerConfig(), Path: "/n", AckTimeout: time.Minute, MaxInFlightBytes: minInFlightBytes,
		},
		Cache: dedupe.Settings{Window: 26 * time.Hour, MaxEntries: 1000}, MetricsInterval: time.Minute,
		History: History{
			Rules:             gap.Rules{Subscribed: true, CheckInterval: 5 * time.Minute, MaxGap: 168 * time.Hour},
			RequestsPerSecond: 25, Concurrency: 1,
		},
	}}
	s.settings.Graph.Endpoint = "http://127.0.0.1:1"
	s.settings.Webhook.Config.NetAddr.Endpoint = "127.0.0.1:0"
	s.settings.Webhook.Config.MaxRequestBodySize = 2 * minInFlightBytes
	for _, c := range change {
		c(&s)
	}
	host := fakeHost{}
	if s.graph != nil {
		id := component.MustNewID("graph")
		s.settings.Graph.Middlewares, host[id] = []configmiddleware.Config{{ID: id}}, middleware{RoundTripper: s.graph}
	}
	if s.stored != nil {
		id := storagetest.NewStorageID("copilot")
		s.settings.Storage, host[id] = &id, storageExtension{client: s.stored}
	}
	set := receivertest.NewNopSettings(metadata.Type)
	set.Logger = s.logger
	r, err := New(set, s.settings, func() {})
	require.NoError(t, err)
	r.components, err = r.newComponents(t.Context(), host)
	require.NoError(t, err)
	return r, r.load(t.Context(), r.components)
}

// during runs background loops while f runs.
func during(t *testing.T, f func(), loops ...func(context.Context)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	for _, loop := range loops {
		go func() {
			loop(ctx)
			ended <- struct{}{}
		}()
	}
	f()
	cancel()
	for range loops {
		<-ended
	}
}

// observed returns a logger, and its lines from a warning on.
func observed() (*zap.Logger, *observer.ObservedLogs) {
	core, lines := observer.New(zap.WarnLevel)
	return zap.New(core), lines
}

// missing returns what is known to be missing.
func missing(c *components) []gap.Gap {
	var gaps []gap.Gap
	c.gaps.View(func(state *gap.State, _ time.Time) { gaps = state.Clone().Gaps })
	return gaps
}

func missingReasons(c *components) []gap.Reason {
	var reasons []gap.Reason
	for _, g := range missing(c) {
		reasons = append(reasons, g.Reasons...)
	}
	return reasons
}

// interactionAt returns a creation that a notification brought, whose id has the timestamp of a time.
func interactionAt(at time.Time) interaction.Received {
	id := strconv.FormatInt(at.UnixMilli(), 10)
	return interaction.Received{
		Interaction: interaction.Interaction{ID: id, ETag: id, SessionID: "session"}, TenantID: tenant,
		Change: interaction.Created, Source: interaction.FromNotification, ContentDigest: sha256.Sum256([]byte(id)),
	}
}

// updateOf returns a later version of an interaction.
func updateOf(one interaction.Received) interaction.Received {
	one.Change, one.ETag = interaction.Updated, one.ETag+"1"
	one.ContentDigest = sha256.Sum256([]byte(one.ETag))
	return one
}

// inHistory returns an interaction as it is read from the history.
func inHistory(one interaction.Received) interaction.Received {
	one.Source, one.Change, one.ContentDigest = interaction.FromHistory, interaction.Created, [sha256.Size]byte{}
	return one
}

func list(received ...interaction.Received) []interaction.Received { return received }

var errStorage = errors.New("the disk is on fire")

// testStore is a storage in memory that stays when it is closed, and whose operations can fail.
type testStore struct {
	*storagetest.TestClient
	// fail is called before each operation; its error is the operation's. It is set while there is no call.
	fail func(*storage.Operation) error
	// writes counts calls.
	writes int
}

func newStore(t *testing.T) *testStore {
	t.Helper()
	return &testStore{
		TestClient: storagetest.NewInMemoryClient(component.KindReceiver, component.MustNewID("m365_copilot"), ""),
		fail:       func(*storage.Operation) error { return nil },
	}
}

func (s *testStore) Get(ctx context.Context, key string) ([]byte, error) {
	if err := s.fail(storage.GetOperation(key)); err != nil {
		return nil, err
	}
	return s.TestClient.Get(ctx, key)
}

func (s *testStore) Batch(ctx context.Context, operations ...*storage.Operation) error {
	s.writes++
	for _, operation := range operations {
		if err := s.fail(operation); err != nil {
			return err
		}
	}
	return s.TestClient.Batch(ctx, operations...)
}

func (*testStore) Close(context.Context) error { return nil }

func failsAlways(*storage.Operation) error { return errStorage }

func failsToWrite(operation *storage.Operation) error {
	if operation.Type != storage.Get {
		return errStorage
	}
	return nil
}

func storedValue(t *testing.T, store storage.Client, key string) []byte {
	t.Helper()
	value, err := store.Get(t.Context(), key)
	require.NoError(t, err)
	return value
}

// storageExtension is a storage extension with one client.
type storageExtension struct {
	component.StartFunc
	component.ShutdownFunc
	client storage.Client
}

func (s storageExtension) GetClient(context.Context, component.Kind, component.ID, string) (storage.Client, error) {
	return s.client, nil
}

// middleware is an HTTP client middleware that answers in place of the server.
type middleware struct {
	component.StartFunc
	component.ShutdownFunc
	http.RoundTripper
}

func (m middleware) GetHTTPRoundTripper(context.Context) (extensionmiddleware.WrapHTTPRoundTripperFunc, error) {
	return func(context.Context, http.RoundTripper) (http.RoundTripper, error) { return m.RoundTripper, nil }, nil
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

type fakeHost map[component.ID]component.Component

func (h fakeHost) GetExtensions() map[component.ID]component.Component { return h }
