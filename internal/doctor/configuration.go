// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/envprovider"
	"go.opentelemetry.io/collector/confmap/provider/fileprovider"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
	"go.opentelemetry.io/collector/pipeline"

	m365copilotreceiver "github.com/otelcopilot/m365copilotreceiver"
	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/metadata"
)

// The parts of a collector's configuration.
const (
	receivers  = "receivers"
	extensions = "extensions"
)

// load reads the configurations and returns a target for each m365_copilot receiver in them, or else the checks that say why there
// is none.
func load(ctx context.Context, uris []string) ([]*target, []Check) {
	c, err := resolve(ctx, uris...)
	if err != nil {
		return nil, []Check{bad(Fail, failure.New(failure.ConfigUnreadable), "%s", whatIsWrong(ctx, uris, err))}
	}
	section, err := sub(c.resolved, receivers)
	if err != nil {
		return nil, []Check{bad(Fail, failure.New(failure.ConfigUnreadable), "%v", err)}
	}
	var targets []*target
	var others []string
	for _, key := range slices.Sorted(maps.Keys(section.ToStringMap())) {
		var id component.ID
		switch err := id.UnmarshalText([]byte(key)); {
		case err != nil && strings.HasPrefix(key, metadata.Type.String()+"/"):
			targets = append(targets, &target{id: component.NewID(metadata.Type), configuration: wrong(receivers+"::"+key, err)})
		case err == nil && id.Type() == metadata.Type:
			targets = append(targets, c.newTarget(ctx, id))
		default:
			others = append(others, key)
		}
	}
	if len(targets) == 0 {
		found := "receivers is empty"
		if len(others) > 0 {
			found = "receivers has only " + strings.Join(others, ", ")
		}
		return nil, []Check{bad(Fail, failure.New(failure.ReceiverUnused), "there is no %s receiver: %s", metadata.Type, found)}
	}
	return targets, nil
}

// collectorConfig is the configuration of a collector.
type collectorConfig struct {
	resolved *confmap.Conf
	// written is the same before the values of environment variables and other files were put in.
	written map[string]any
}

// resolve reads the configurations as the collector does, with the providers of its builder-config.yaml.
func resolve(ctx context.Context, uris ...string) (*collectorConfig, error) {
	resolver, err := confmap.NewResolver(confmap.ResolverSettings{
		URIs: uris, DefaultScheme: "env",
		ProviderFactories: []confmap.ProviderFactory{envprovider.NewFactory(), fileprovider.NewFactory(), yamlprovider.NewFactory()},
	})
	if err != nil {
		return nil, err
	}
	conf, err := resolver.Resolve(ctx)
	if err = errors.Join(err, resolver.Shutdown(ctx)); err != nil {
		return nil, err
	}
	return &collectorConfig{resolved: conf, written: resolver.UnexpandedConf().ToStringMap()}, nil
}

// whatIsWrong says which of the configurations can't be read, and why. Not every error of the resolver names it.
func whatIsWrong(ctx context.Context, uris []string, all error) string {
	for _, uri := range uris {
		_, err := resolve(ctx, uri)
		if err == nil {
			continue
		}
		name := uri
		if strings.HasPrefix(uri, "yaml:") {
			name = "yaml:" // what follows may have secrets
		}
		text := withoutValues(err.Error())
		if !strings.Contains(text, name) {
			text = name + ": " + text
		}
		return text
	}
	return withoutValues(all.Error()) // they don't fit together
}

// values matches what an error of YAML quotes of a value: an alias that has no anchor, and what does not fit its tag.
var values = regexp.MustCompile("(?s)anchor '.*' referenced|`.*`")

// withoutValues returns the text of an error without values, which may be secrets.
func withoutValues(text string) string {
	return values.ReplaceAllString(text, "a value that begins with * or ! (put it in quotes)")
}

// sub returns a part of a configuration, an empty one if it is not there.
func sub(conf *confmap.Conf, key string) (*confmap.Conf, error) {
	part, err := conf.Sub(key)
	if err != nil { // its text quotes the value
		return nil, fmt.Errorf("%s: write a mapping", key)
	}
	return part, nil
}

// component returns the configuration of a component. found is false if there is none with this id.
func (c *collectorConfig) component(kind string, id component.ID) (part *confmap.Conf, found bool, err error) {
	all, err := sub(c.resolved, kind)
	if err != nil {
		return nil, false, err
	}
	for key := range all.ToStringMap() {
		var other component.ID
		if other.UnmarshalText([]byte(key)) == nil && other == id {
			part, err = sub(all, key)
			return part, true, err
		}
	}
	return nil, false, nil
}

// serviceSection is what is read of the collector's service section.
type serviceSection struct {
	Extensions []component.ID `mapstructure:"extensions"`
	Pipelines  map[pipeline.ID]struct {
		Receivers  []component.ID `mapstructure:"receivers"`
		Processors []component.ID `mapstructure:"processors"`
		Exporters  []component.ID `mapstructure:"exporters"`
	} `mapstructure:"pipelines"`
}

// pipelinesOf returns the pipelines that have a receiver, in the order of their names.
func (s serviceSection) pipelinesOf(receiver component.ID) (ids []pipeline.ID) {
	for id, p := range s.Pipelines {
		if slices.Contains(p.Receivers, receiver) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b pipeline.ID) int { return strings.Compare(a.String(), b.String()) })
	return ids
}

func (c *collectorConfig) service() (s serviceSection, err error) {
	section, err := sub(c.resolved, "service")
	if err == nil {
		err = section.Unmarshal(&s, confmap.WithIgnoreUnused())
	}
	return s, err
}

// newTarget reads the configuration of a receiver, and creates what the checks of it need.
func (c *collectorConfig) newTarget(ctx context.Context, id component.ID) *target {
	t := &target{id: id, collector: c, extensions: map[component.ID]component.Component{}}
	problems := t.read()
	t.configuration = append(c.emptyVariables(receivers, id, len(problems) > 0), problems...)
	if len(problems) > 0 {
		return t
	}
	if used, err := c.service(); err != nil {
		t.configuration = append(t.configuration, bad(Fail, failure.New(failure.ConfigUnreadable), "service: %v", err))
	} else {
		t.configuration = slices.Concat(t.configuration, t.checkPipelines(used), t.checkNext(used), t.checkExtensions(used))
	}
	t.configuration = append(t.configuration, t.connect(ctx)...)
	return t
}

// path is where the receiver stands in the configuration.
func (t *target) path() string { return receivers + "::" + t.id.String() }

// read decodes and validates the receiver's configuration, and returns a check for each problem. With problems there is no config.
func (t *target) read() []Check {
	section, _, err := t.collector.component(receivers, t.id)
	config, _ := m365copilotreceiver.NewFactory().CreateDefaultConfig().(*m365copilotreceiver.Config)
	if err == nil {
		err = section.Unmarshal(config)
	}
	if err == nil {
		err = confmap.Validate(config)
	}
	if err != nil {
		return wrong(t.path(), err)
	}
	t.config, t.settings = config, config.Settings()
	return nil
}

// wrong returns a check for each problem of a component's configuration.
func wrong(path string, err error) []Check {
	var checks []Check
	for _, problem := range problemsOf(err) {
		checks = append(checks, bad(Fail, failure.New(failure.SettingWrong), "%s: %s", path, problem))
	}
	return checks
}

// problemsOf returns the single problems in an error of confmap, with dots in their paths as in the messages of the receiver.
func problemsOf(err error) (all []string) {
	for _, one := range leavesOf(err) {
		text := one.Error()
		if wrapped := errors.Unwrap(one); wrapped != nil {
			if path, ok := strings.CutSuffix(text, wrapped.Error()); ok {
				// Sections that are embedded as config say the same once more.
				text = strings.ReplaceAll(strings.ReplaceAll(path, "::config:", ":"), "::", ".") + wrapped.Error()
			}
		}
		if !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	return all
}

// leavesOf returns the errors that were joined to an error. One that adds something to others, such as a path, stays whole.
func leavesOf(err error) (all []error) {
	joined, ok := errors.AsType[interface {
		error
		Unwrap() []error
	}](err)
	if !ok {
		return []error{err}
	}
	for _, one := range joined.Unwrap() {
		_, several := one.(interface{ Unwrap() []error })
		if wrapped := errors.Unwrap(one); several || wrapped != nil && wrapped.Error() == one.Error() {
			all = append(all, leavesOf(one)...)
		} else {
			all = append(all, one)
		}
	}
	return all
}

// variable matches an environment variable without a default that is not escaped.
var variable = regexp.MustCompile(`(?:^|[^$])(?:\$\$)*\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)\}`)

// emptyVariables returns a check for each setting of a component that names an environment variable which is not set, and, as
// the cause of problems, for those that are empty.
func (c *collectorConfig) emptyVariables(kind string, id component.ID, problems bool) (checks []Check) {
	all, _ := c.written[kind].(map[string]any) // else it comes from another file
	for _, key := range slices.Sorted(maps.Keys(all)) {
		var other component.ID
		if other.UnmarshalText([]byte(key)) != nil || other != id {
			continue
		}
		eachText("", all[key], func(path, text string) {
			for _, match := range variable.FindAllStringSubmatch(text, -1) {
				value, set := os.LookupEnv(match[1])
				state := "is not set"
				if set {
					state = "is empty"
				}
				if !set || value == "" && problems {
					checks = append(checks, bad(Warn, failure.New(failure.ConfigUnreadable),
						"%s::%s%s: the environment variable %s %s", kind, id, path, match[1], state))
				}
			}
		})
	}
	return checks
}

// eachText calls a function for each text in a configuration, with its path as in the messages of the receiver.
func eachText(path string, value any, call func(path, text string)) {
	separator := "."
	if path == "" {
		separator = ": "
	}
	switch v := value.(type) {
	case string:
		call(path, v)
	case []any:
		for i, element := range v {
			eachText(fmt.Sprintf("%s[%d]", path, i), element, call)
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			eachText(path+separator+key, v[key], call)
		}
	}
}

// checkPipelines checks which pipelines have the receiver.
func (t *target) checkPipelines(s serviceSection) (checks []Check) {
	var logs bool
	var names []string
	for _, id := range s.pipelinesOf(t.id) {
		names = append(names, id.String())
		switch id.Signal() {
		case pipeline.SignalLogs:
			logs = true
		case pipeline.SignalMetrics:
		default:
			checks = append(checks, bad(Fail, failure.New(failure.SettingWrong),
				"service::pipelines::%s: remove %s: it has logs and metrics", id, t.id))
		}
	}
	where := strings.Join(names, ", ")
	switch {
	case len(names) == 0:
		checks = append(checks, bad(Fail, failure.New(failure.ReceiverUnused), "%s: service::pipelines does not use it", t.path()))
	case !logs:
		checks = append(checks, bad(Warn, failure.New(failure.NoLogsPipeline), "%s: it is in no logs pipeline, but in %s", t.path(), where))
	default:
		checks = append(checks, ok("%s is valid, pipelines: %s", t.path(), where))
	}
	return checks
}

// checkNext checks that the processors and exporters of the receiver's pipelines are configured, and that their environment variables are
// set. What else may be wrong with them only the collector knows.
func (t *target) checkNext(s serviceSection) (checks []Check) {
	checked := map[string]bool{}
	check := func(in pipeline.ID, kinds []string, id component.ID) {
		for _, kind := range kinds {
			if _, found, _ := t.collector.component(kind, id); !found {
				continue
			}
			if path := kind + "::" + id.String(); !checked[path] {
				checked[path] = true
				checks = append(checks, t.collector.emptyVariables(kind, id, false)...)
			}
			return
		}
		checks = append(checks, bad(Fail, failure.New(failure.SettingWrong),
			"service::pipelines::%s: %s is not under %s", in, id, strings.Join(kinds, " or ")))
	}
	for _, in := range s.pipelinesOf(t.id) {
		for _, id := range s.Pipelines[in].Processors {
			check(in, []string{"processors"}, id)
		}
		for _, id := range s.Pipelines[in].Exporters {
			check(in, []string{"exporters", "connectors"}, id)
		}
	}
	return checks
}

// checkExtensions checks that the extensions which the receiver names run in the collector.
func (t *target) checkExtensions(s serviceSection) (checks []Check) {
	for _, named := range t.extensionsNamed() {
		checks = append(checks, t.collector.emptyVariables(extensions, named.id, false)...)
		_, found, err := t.collector.component(extensions, named.id)
		missing := ""
		switch {
		case err != nil:
			checks = append(checks, bad(Fail, failure.New(failure.ConfigUnreadable), "%v", err))
		case !found:
			missing = "is not under extensions"
		case !slices.Contains(s.Extensions, named.id):
			missing = "is not in service::extensions"
		}
		if missing != "" {
			checks = append(checks, bad(Fail, failure.New(failure.ExtensionMissing, named.id),
				"%s: %s: the extension %s %s", t.path(), named.key, named.id, missing))
		}
	}
	return checks
}

// namedExtension is an extension that the setting of a key names.
type namedExtension struct {
	key string
	id  component.ID
}

func (t *target) extensionsNamed() (all []namedExtension) {
	if t.config.Storage != nil {
		all = append(all, namedExtension{"storage", *t.config.Storage})
	}
	if auth := t.config.Graph.Auth.Get(); auth != nil {
		all = append(all, namedExtension{"graph.auth.authenticator", auth.AuthenticatorID})
	}
	for i, middleware := range t.config.Graph.Middlewares {
		all = append(all, namedExtension{fmt.Sprintf("graph.middlewares[%d].id", i), middleware.ID})
	}
	if len(t.settings.Subscription.Resources) == 0 {
		return all // nothing listens
	}
	if auth := t.config.Webhook.ServerConfig.Auth.Get(); auth != nil {
		all = append(all, namedExtension{"webhook.auth.authenticator", auth.Config.AuthenticatorID})
	}
	for i, middleware := range t.config.Webhook.ServerConfig.Middlewares {
		all = append(all, namedExtension{fmt.Sprintf("webhook.middlewares[%d].id", i), middleware.ID})
	}
	return all
}
