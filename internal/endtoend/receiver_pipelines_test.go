package endtoend_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/otelcol/otelcoltest"
	"go.opentelemetry.io/collector/pdata/plog"
	otelreceiver "go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/service/telemetry/otelconftelemetry"

	"github.com/otelcopilot/m365copilotreceiver"
	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadata"
)

// sinkExporter returns the factory of an exporter that passes logs to a function.
func sinkExporter(logs consumer.ConsumeLogsFunc) exporter.Factory {
	return exporter.NewFactory(component.MustNewType("sink"), func() component.Config { return &struct{}{} },
		exporter.WithLogs(func(context.Context, exporter.Settings, component.Config) (exporter.Logs, error) {
			next, err := consumer.NewLogs(logs)
			return struct {
				component.StartFunc
				component.ShutdownFunc
				consumer.Logs
			}{Logs: next}, err
		}, component.StabilityLevelDevelopment))
}

func factories(t *testing.T, sink exporter.Factory) otelcol.Factories {
	t.Helper()
	receivers, err := otelcol.MakeFactoryMap(m365copilotreceiver.NewFactory())
	require.NoError(t, err)
	exporters, err := otelcol.MakeFactoryMap(sink)
	require.NoError(t, err)
	return otelcol.Factories{Receivers: receivers, Exporters: exporters, Telemetry: otelconftelemetry.NewFactory()}
}

// yaml returns the harness's configuration as a user would write it.
func (h *harness) yaml(t *testing.T) string {
	t.Helper()
	tls := h.config.Webhook.ServerConfig.TLS.Get()
	files := strings.NewReplacer(
		"TENANT", tenant, "CLIENT", client, "SECRET", secret, "GRAPH", h.config.Graph.Endpoint,
		"NOTIFICATION_URL", h.config.Subscription.NotificationURL, "ENDPOINT", h.config.Webhook.ServerConfig.NetAddr.Endpoint,
		"CERT_FILE", writeFile(t, string(tls.CertPem)), "KEY_FILE", writeFile(t, string(tls.KeyPem)),
	)
	template, err := os.ReadFile(filepath.Join("testdata", "collector.yaml"))
	require.NoError(t, err)
	return files.Replace(string(template))
}

func TestCollector_DeliversInteractions(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	collector, err := otelcol.NewCollector(otelcol.CollectorSettings{
		BuildInfo: component.NewDefaultBuildInfo(),
		Factories: func() (otelcol.Factories, error) {
			return factories(t, sinkExporter(func(ctx context.Context, logs plog.Logs) error { return h.logs.ConsumeLogs(ctx, logs) })), nil
		},
		DisableGracefulShutdown: true,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{ResolverSettings: confmap.ResolverSettings{
			URIs:              []string{"yaml:" + h.yaml(t)},
			ProviderFactories: []confmap.ProviderFactory{yamlprovider.NewFactory()},
		}},
	})
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- collector.Run(context.Background()) }()
	h.subscribed(t)
	h.deliver(t, newTurns(30)...)
	collector.Shutdown()
	require.NoError(t, <-ended)

	require.Len(t, h.records(), 30)
	for _, record := range h.records() {
		if valueOf(record, "microsoft.copilot.interaction.type") == "userPrompt" {
			assert.NotEmpty(t, valueOf(record, "user.id"))
		}
	}
}

func TestCollector_RejectsInvalidConfig(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	file := writeFile(t, strings.Replace(h.yaml(t), "tenant_id: "+tenant, "tenant_id: contoso.com", 1))
	_, err := otelcoltest.LoadConfigAndValidate(file, factories(t, sinkExporter(nil)))
	require.ErrorContains(t, err, "receivers::m365_copilot")
	assert.ErrorContains(t, err, "tenant_id: write the directory (tenant) id, a GUID")
}

func TestReceiver_RunsNextToAnother(t *testing.T) {
	t.Parallel()
	first, second := newHarness(t), newHarness(t)
	factory := m365copilotreceiver.NewFactory()
	for i, h := range []*harness{first, second} {
		set := otelreceiver.Settings{
			ID:                component.NewIDWithName(metadata.Type, string(rune('a'+i))),
			TelemetrySettings: h.telemetry.NewTelemetrySettings(),
			BuildInfo:         component.NewDefaultBuildInfo(),
		}
		signal, err := factory.CreateLogs(t.Context(), set, h.config, h.nextLogs)
		require.NoError(t, err)
		require.NoError(t, signal.Start(t.Context(), h.host))
		t.Cleanup(func() { assert.NoError(t, signal.Shutdown(context.Background())) })
	}
	for i, h := range []*harness{first, second} {
		h.subscribed(t)
		h.deliver(t, graphtest.Created([]byte(`{"id": "1764599405123", "sessionId": "`+string(rune('a'+i))+`"}`))...)
		require.Len(t, h.records(), 1)
		assert.Equal(t, string(rune('a'+i)), valueOf(h.records()[0], "gen_ai.conversation.id"))
	}
}
