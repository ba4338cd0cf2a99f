# SPDX-License-Identifier: Apache-2.0
# Development tasks. They require Go 1.26 and make; `make help` lists the targets.

BUILD := _build
TOOLS := _tools
TOOLMOD := internal/tools/go.mod
# The backends that tests send to and query: databases, what evaluates alerts, and a second collector.
BACKENDS := $(TOOLS)/victoria-logs $(TOOLS)/victoria-metrics $(TOOLS)/vmalert $(TOOLS)/prometheus $(TOOLS)/promtool \
	$(BUILD)/otelcol-gateway/otelcol-gateway
DATABASEMOD := internal/tools/databases/go.mod
PROMETHEUSMOD := internal/tools/prometheus/go.mod
# Programs of Debian that tests run, unpacked: reverse proxies, systemd-analyze, and a browser with a font.
DEBIAN := $(TOOLS)/debian/unpacked
DEBIANPACKAGES := nginx haproxy caddy systemd chromium-headless-shell fonts-dejavu-core
COLLECTOR := $(BUILD)/otelcol-copilot/otelcol-copilot
SIMULATOR := $(BUILD)/m365copilot
# What `make demo` runs beside these two.
DEMO := $(BUILD)/demo $(TOOLS)/victoria-logs $(TOOLS)/victoria-metrics $(TOOLS)/vmalert
# mdatagen names the package after the directory, so it runs in a symbolic link with the right name.
LINK := $(TOOLS)/m365copilotreceiver
SOURCES := $(shell find . -name '*.go' -not -name '*_test.go' -not -path './_*' -not -path './internal/tools/*' -not -path './internal/dashboards/*') go.mod go.sum
# A Go module of its own, so that the receiver does not depend on Grafana's SDK.
DASHBOARDS := internal/dashboards
COVERAGE := 85
DURATION ?=
RAW ?=
INCIDENT ?=
CAPTURE ?= none
FUZZTIME ?= 10s

.PHONY: help build run demo test test-all cover fuzz bench screenshots lint fmt generate check-generated check-examples clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

build: $(COLLECTOR) $(SIMULATOR) ## Build the collector otelcol-copilot with ocb, and the operator's tool m365copilot

run: build ## Run the collector against an emulated tenant, until Ctrl-C or for DURATION (such as 20s); RAW=1 prints the raw records
	DURATION=$(DURATION) RAW=$(RAW) examples/quickstart.sh $(COLLECTOR) $(SIMULATOR)

demo: build $(DEMO) ## Show an invented company's use of Copilot in the browser, until Ctrl-C; INCIDENT=1 plays an outage, CAPTURE=text shows the text
	@$(BUILD)/demo -capture $(CAPTURE) $(if $(INCIDENT),-incident 1m) $(if $(DURATION),-duration $(DURATION))

# Tests of large sizes, whose time or memory counts: the race detector makes them ten times as long, and finds nothing in them.
LARGE := TestRules_NothingLostInRandomHistories|TestReconcile_100000UsersRestartedInTheMiddle|TestBackfiller_NeedsLittleMemoryFor100000Users|TestRun_FewRequestsFor50000Users|TestLookup_NeedsLittleMemoryFor100000Users

# Packages whose tests measure time: no other may take processor time from them.
MEASURING := $(addprefix github.com/otelcopilot/m365copilotreceiver/internal/,endtoend graphtest webhook)

RACE := go test -race -skip '$(LARGE)' -timeout 45m -covermode=atomic -coverpkg=./...

test: $(COLLECTOR) ## Run the tests of every package, without those of crashes, outages, databases, reverse proxies, load and large sizes: a few minutes
	go test -short ./...
	cd $(DASHBOARDS) && go test -short ./...

test-all: $(COLLECTOR) $(BACKENDS) $(DEMO) $(DEBIAN) ## Run all tests, with the race detector but for those of large sizes
	go test ./internal/interaction/... ./internal/dedupe ./internal/gap ./internal/backfill ./internal/directory # the full sizes
	$(RACE) -short -coverprofile=coverage.out $(filter-out $(MEASURING),$(shell go list ./...))
	$(RACE) -coverprofile=coverage-measuring.out -p 1 $(MEASURING)
	cd $(DASHBOARDS) && go test -race ./...

cover: ## Check the coverage of `make test-all`: at least 85 % of each hand-written package
	@awk -v least=$(COVERAGE) -f internal/tools/coverage.awk coverage.out coverage-measuring.out

fuzz: ## Run every fuzz test for FUZZTIME
	@set -e; grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u | while read -r dir; do \
		for name in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' $$dir/*_test.go | sed 's/func //'); do \
			echo "$$dir $$name"; go test $$dir -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZTIME); \
		done; \
	done

# One package at a time, because others would take processor time from what is measured.
bench: $(COLLECTOR) ## Run the benchmarks; ProcessorTime compares the whole collector with the RSA operation that each interaction needs
	go test -p 1 -run '^$$' -bench . -benchmem ./internal/...

screenshots: $(COLLECTOR) $(DEMO) $(DEBIAN) ## Take the pictures of README.md, docs/images, from the demonstration
	go test ./internal/endtoend -run '^TestDemo_PagesShowPlotsAndRows$$' -update

lint: $(TOOLS)/golangci-lint ## Run the linters
	$(TOOLS)/golangci-lint run ./...
	cd $(DASHBOARDS) && $(CURDIR)/$(TOOLS)/golangci-lint run ./...

fmt: $(TOOLS)/golangci-lint ## Format the code
	$(TOOLS)/golangci-lint fmt ./...
	cd $(DASHBOARDS) && $(CURDIR)/$(TOOLS)/golangci-lint fmt ./...

generate: $(TOOLS)/mdatagen ## Regenerate code and documentation.md from metadata.yaml, config.schema.yaml from config.go, and examples/dashboards
	@ln -sfn $(CURDIR) $(LINK)
	cd $(LINK) && PWD=$(CURDIR)/$(LINK) $(CURDIR)/$(TOOLS)/mdatagen metadata.yaml
	go test -run '^TestSchema_IsCurrent$$' . -update
	cd $(DASHBOARDS) && go run . ../../examples/dashboards

check-generated: generate ## Fail if generated files are out of date
	@git diff --exit-code -- documentation.md README.md config.schema.yaml examples/dashboards 'generated_*' '**/generated_*'
	@test -z "$$(git ls-files --others --exclude-standard -- examples/dashboards 'generated_*' '**/generated_*')"

check-examples: $(COLLECTOR) ## Validate every example with the collector
	@for example in examples/*.yaml examples/backends/*.yaml examples/*/collector.yaml; do \
		COPILOT_TENANT_ID=6f1d2c3b-0a4e-4d55-9b77-2f8e1c0a9d10 COPILOT_CLIENT_ID=1a2b3c4d-5e6f-4a0b-8c1d-2e3f4a5b6c7d \
		COPILOT_CLIENT_SECRET=x COPILOT_NOTIFICATION_URL=https://copilot.example.com/n OTLP_ENDPOINT=https://otlp.example.com \
		CREDENTIALS_DIRECTORY=/run/credentials VICTORIALOGS_URL=http://logs.example.com:9428 VICTORIAMETRICS_URL=http://metrics.example.com:8428 \
		PROMETHEUS_URL=http://prometheus.example.com:9090 GATEWAY_ENDPOINT=https://gateway.example.com:4317 \
		GATEWAY_CA_FILE=ca.crt GATEWAY_CERT_FILE=collector.crt GATEWAY_KEY_FILE=collector.key \
		$(COLLECTOR) validate --feature-gates=extension.healthcheck.useComponentStatus --config $$example || exit 1; \
	done

clean: ## Delete build output
	rm -rf $(BUILD) $(TOOLS) _run coverage*.out

$(COLLECTOR): builder-config.yaml $(SOURCES) $(TOOLS)/builder
	@mkdir -p $(BUILD)
	$(TOOLS)/builder --config builder-config.yaml

$(SIMULATOR): $(SOURCES)
	@mkdir -p $(BUILD)
	CGO_ENABLED=0 go build -o $@ ./cmd/m365copilot

$(BUILD)/demo: $(SOURCES)
	@mkdir -p $(BUILD)
	CGO_ENABLED=0 go build -o $@ ./internal/demo

$(TOOLS)/builder: $(TOOLMOD)
	@mkdir -p $(TOOLS)
	go build -modfile=$(TOOLMOD) -o $@ go.opentelemetry.io/collector/cmd/builder

$(TOOLS)/mdatagen: $(TOOLMOD)
	@mkdir -p $(TOOLS)
	go build -modfile=$(TOOLMOD) -o $@ go.opentelemetry.io/collector/cmd/mdatagen

$(TOOLS)/golangci-lint: $(TOOLMOD)
	@mkdir -p $(TOOLS)
	go build -modfile=$(TOOLMOD) -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(TOOLS)/victoria-logs: $(DATABASEMOD)
	@mkdir -p $(TOOLS)
	go build -modfile=$(DATABASEMOD) -o $@ github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs

$(TOOLS)/victoria-metrics: $(DATABASEMOD)
	@mkdir -p $(TOOLS)
	go build -modfile=$(DATABASEMOD) -o $@ github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-metrics

$(TOOLS)/vmalert: $(DATABASEMOD)
	@mkdir -p $(TOOLS)
	go build -modfile=$(DATABASEMOD) -o $@ github.com/VictoriaMetrics/VictoriaMetrics/app/vmalert

$(DEBIAN): internal/tools/debian.sh
	internal/tools/debian.sh $(@D) $(DEBIANPACKAGES)
	@touch $@

# Without service discovery, which would take the clients of all clouds, and without the web interface. To update it, in the
# directory of its go.mod: GOFLAGS=-tags=remove_all_sd go get -tool github.com/prometheus/prometheus/cmd/prometheus@VERSION
$(TOOLS)/prometheus: $(PROMETHEUSMOD)
	@mkdir -p $(TOOLS)
	go build -tags remove_all_sd -modfile=$(PROMETHEUSMOD) -o $@ github.com/prometheus/prometheus/cmd/prometheus

$(TOOLS)/promtool: $(PROMETHEUSMOD)
	@mkdir -p $(TOOLS)
	go build -tags remove_all_sd -modfile=$(PROMETHEUSMOD) -o $@ github.com/prometheus/prometheus/cmd/promtool

$(BUILD)/otelcol-gateway/otelcol-gateway: internal/tools/gateway/builder-config.yaml $(TOOLS)/builder
	@mkdir -p $(BUILD)
	$(TOOLS)/builder --config internal/tools/gateway/builder-config.yaml
