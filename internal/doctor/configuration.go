package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/envprovider"
	"go.opentelemetry.io/collector/confmap/provider/fileprovider"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"

	m365copilotreceiver "github.com/otelcopilot/m365copilotreceiver"
	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadata"
)

// load reads the configurations and returns a target for each m365_copilot receiver in them, or else the checks that say why they can't
// be read.
func load(ctx context.Context, uris []string) ([]*target, []Check) {
	unreadable := func(err error) []Check {
		return []Check{bad(Fail, failure.New(failure.ConfigUnreadable), "%v", err)}
	}
	all, err := resolve(ctx, uris)
	if err != nil {
		return nil, unreadable(err)
	}
	receivers, err := all.Sub("receivers")
	if err != nil {
		return nil, unreadable(err)
	}
	var targets []*target
	for _, key := range slices.Sorted(maps.Keys(receivers.ToStringMap())) {
		var id component.ID
		if err := id.UnmarshalText([]byte(key)); err != nil || id.Type() != metadata.Type {
			continue
		}
		section, err := receivers.Sub(key)
		if err != nil {
			return nil, unreadable(err)
		}
		targets = append(targets, newTarget(ctx, id, section))
	}
	return targets, nil
}

// resolve reads the configurations as the collector does.
func resolve(ctx context.Context, uris []string) (*confmap.Conf, error) {
	resolver, err := confmap.NewResolver(confmap.ResolverSettings{
		URIs: uris, DefaultScheme: "env",
		ProviderFactories: []confmap.ProviderFactory{envprovider.NewFactory(), fileprovider.NewFactory(), yamlprovider.NewFactory()},
	})
	if err != nil {
		return nil, err
	}
	conf, err := resolver.Resolve(ctx)
	return conf, errors.Join(err, resolver.Shutdown(ctx))
}

func newTarget(ctx context.Context, id component.ID, section *confmap.Conf) *target {
	t := &target{id: id, extensions: map[component.ID]component.Component{}}
	config, _ := m365copilotreceiver.NewFactory().CreateDefaultConfig().(*m365copilotreceiver.Config)
	err := section.Unmarshal(config)
	if err == nil {
		err = confmap.Validate(config)
	}
	if err != nil {
		t.configuration = []Check{bad(Fail, failure.New(failure.SettingWrong), "receivers::%s: %v", id, err)}
		return t
	}
	t.configuration = []Check{ok("receivers::%s is valid", id)}
	t.config, t.settings = config, config.Settings()
	t.clients, err = graph.NewClients(
		ctx, t.settings.Graph, t.settings.Credential, t.extensions, componenttest.NewNopTelemetrySettings(), noTelemetry{})
	if err != nil {
		t.config, t.configuration = nil, []Check{bad(Fail, failure.New(failure.SettingWrong), "receivers::%s: %v", id, fmt.Errorf("graph: %w", err))}
	}
	return t
}

// close ends what newTarget started.
func (t *target) close(context.Context) {
	if t.clients != nil {
		t.clients.Close()
	}
}
