// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"time"
)

// The names of the programs, also those of their log files.
const (
	nameLogs      = "victoria-logs"
	nameMetrics   = "victoria-metrics"
	nameTenant    = "tenant"
	nameCollector = "collector"
	nameRecording = "vmalert-recording"
	nameAlerts    = "vmalert-alerts"
)

// stopOrder ends what sends before what receives: the tenant waits for the collector's answers, and the collector for the databases.
var stopOrder = []string{nameAlerts, nameRecording, nameTenant, nameCollector, nameMetrics, nameLogs}

const (
	// licensed is the number of users with a license, people that of the company.
	licensed, people = 150, 200
	// history is how long the company has used Copilot.
	history = 84 * 24 * time.Hour
	// turnsPerMinute is how many prompts are sent while the demonstration runs.
	turnsPerMinute = 12
	// retention keeps the whole history.
	retention = "-retentionPeriod=100d"
	// cacheSize is what each database may use for caches; the data of the demonstration is far smaller.
	cacheSize = "-memory.allowedBytes=64MB"
)

// The files of the directory.
const (
	publishedFile = "published.jsonl"
	scrapeFile    = "scrape.yaml"
)

// scrapeConfig has VictoriaMetrics read the collector's own metrics.
func (a *addresses) scrapeConfig() string {
	return fmt.Sprintf(`scrape_configs:
  - job_name: otelcol-copilot
    scrape_interval: 5s
    static_configs:
      - targets: [%q]
`, a.Telemetry)
}

// path returns the path of a file or directory of the demonstration.
func (d *demo) path(name string) string { return filepath.Join(d.directory, name) }

func (d *demo) logsCommand() command {
	return command{name: nameLogs, path: d.options.programs.victoriaLogs, listens: []string{d.addresses.Logs}, arguments: []string{
		"-httpListenAddr=" + d.addresses.Logs, "-storageDataPath=" + d.path("logs"), retention, cacheSize,
		// Each of the 84 days is a partition with files of its own: not to write them within seconds saves a third of the import's time.
		"-inmemoryDataFlushInterval=1h",
	}}
}

func (d *demo) metricsCommand() command {
	return command{name: nameMetrics, path: d.options.programs.victoriaMetrics, listens: []string{d.addresses.Metrics}, arguments: []string{
		"-httpListenAddr=" + d.addresses.Metrics, "-storageDataPath=" + d.path("metrics"), retention, cacheSize,
		"-opentelemetry.usePrometheusNaming",
		"-search.latencyOffset=0s", // by default it hides the last 30 seconds
		"-promscrape.config=" + d.path(scrapeFile),
		"-vmui.customDashboardsPath=" + d.options.vmuiDashboards(),
		"-vmalert.proxyURL=http://" + d.addresses.Alerts,
	}}
}

func (d *demo) tenantCommand() command {
	arguments := []string{
		"simulate", "-listen", d.addresses.Graph, "-tls-dir", d.path("tls"), "-users", strconv.Itoa(licensed),
		"-seed", strconv.FormatUint(d.options.seed, 10), "-history", history.String(), "-published", d.path(publishedFile),
		"-turns-per-minute", strconv.Itoa(turnsPerMinute), "-await-subscription",
	}
	if d.options.incident > 0 {
		arguments = append(arguments, "-incident", d.options.incident.String(), "-incident-duration", incidentDuration.String())
	}
	return command{name: nameTenant, path: d.options.programs.m365copilot, listens: []string{d.addresses.Graph}, arguments: arguments}
}

func (d *demo) collectorCommand() command {
	return command{
		name: nameCollector, path: d.options.programs.collector, listens: []string{d.addresses.Webhook, d.addresses.Telemetry},
		arguments: []string{"--config", d.options.config},
		environment: []string{
			"DEMO_GRAPH_URL=http://" + d.addresses.Graph, "DEMO_WEBHOOK=" + d.addresses.Webhook, "DEMO_DIRECTORY=" + d.directory,
			"DEMO_LOGS_URL=http://" + d.addresses.Logs, "DEMO_METRICS_URL=http://" + d.addresses.Metrics,
			"DEMO_TELEMETRY_PORT=" + port(d.addresses.Telemetry), "DEMO_CAPTURE=" + d.options.capture,
		},
	}
}

// recordingCommand evaluates the rules in LogsQL against the logs, and writes the results to the metrics.
func (d *demo) recordingCommand() command {
	return command{name: nameRecording, path: d.options.programs.vmalert, listens: []string{d.addresses.Recording}, arguments: []string{
		"-httpListenAddr=" + d.addresses.Recording, "-rule=" + d.options.recordingRules(),
		"-datasource.url=http://" + d.addresses.Logs, "-remoteWrite.url=http://" + d.addresses.Metrics,
		"-rule.evalDelay=0s", "-group.maxStartDelay=1s",
	}}
}

// alertsCommand evaluates the alerts against the metrics. They are shown, and sent to nobody.
func (d *demo) alertsCommand() command {
	return command{name: nameAlerts, path: d.options.programs.vmalert, listens: []string{d.addresses.Alerts}, arguments: []string{
		"-httpListenAddr=" + d.addresses.Alerts, "-rule=" + d.options.alertRules(),
		"-datasource.url=http://" + d.addresses.Metrics, "-remoteWrite.url=http://" + d.addresses.Metrics,
		"-rule.evalDelay=0s", "-group.maxStartDelay=1s", "-evaluationInterval=5s", "-notifier.blackhole",
	}}
}
