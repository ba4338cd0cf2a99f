// SPDX-License-Identifier: Apache-2.0

package m365copilotreceiver

import (
	"context"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	otelreceiver "go.opentelemetry.io/collector/receiver"

	"github.com/otelcopilot/m365copilotreceiver/internal/metadata"
	"github.com/otelcopilot/m365copilotreceiver/receiver"
)

// NewFactory returns the factory of the m365_copilot receiver, for logs and metrics.
func NewFactory() otelreceiver.Factory {
	f := &factory{receivers: map[*Config]*receiver.Receiver{}}
	return otelreceiver.NewFactory(
		metadata.Type,
		createDefaultConfig,
		otelreceiver.WithLogs(f.createLogs, metadata.LogsStability),
		otelreceiver.WithMetrics(f.createMetrics, metadata.MetricsStability),
	)
}

// factory shares one receiver among all signals of a configuration, since there is one listener and one subscription.
type factory struct {
	mu sync.Mutex // guards what follows
	// receivers holds the receivers that are not shut down by their configuration: the Collector passes the same pointer for
	// every signal.
	receivers map[*Config]*receiver.Receiver
}

func (f *factory) createLogs(
	_ context.Context, set otelreceiver.Settings, cfg component.Config, next consumer.Logs,
) (otelreceiver.Logs, error) {
	r, err := f.receiver(set, cfg)
	if err != nil {
		return nil, err
	}
	r.SendLogs(next)
	return r, nil
}

func (f *factory) createMetrics(
	_ context.Context, set otelreceiver.Settings, cfg component.Config, next consumer.Metrics,
) (otelreceiver.Metrics, error) {
	r, err := f.receiver(set, cfg)
	if err != nil {
		return nil, err
	}
	r.SendMetrics(next)
	return r, nil
}

func (f *factory) receiver(set otelreceiver.Settings, cfg component.Config) (*receiver.Receiver, error) {
	config := cfg.(*Config)
	f.mu.Lock()
	defer f.mu.Unlock()
	if r, ok := f.receivers[config]; ok {
		return r, nil
	}
	r, err := receiver.New(set, config.Settings(), func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.receivers, config)
	})
	if err != nil {
		return nil, err
	}
	f.receivers[config] = r
	return r, nil
}
