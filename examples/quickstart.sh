#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Usage: quickstart.sh COLLECTOR M365COPILOT
# Runs the emulated tenant and the collector until Ctrl-C and prints a line for each interaction, or the raw records with
# RAW=1. With DURATION (such as 20s) it stops by itself and exits 0 only if interactions and metrics arrived.
set -euo pipefail
collector=$1 m365copilot=$2
here=$(dirname "$0")
run=_run
mkdir -p "$run"
rm -f "$run"/server.crt "$run"/server.key "$run"/*.log

pids=()
stop() {
	trap - EXIT INT TERM
	# The collector stops first, so that it can still reach the emulated tenant and the viewer while it shuts down.
	for pid in "${pids[@]}"; do
		kill -TERM "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

"$m365copilot" simulate --listen 127.0.0.1:18080 --tls-dir "$run" 2>"$run/simulator.log" &
simulator=$!
pids=("$simulator")
for _ in $(seq 100); do
	[ -s "$run/server.key" ] && [ -s "$run/server.crt" ] && break
	kill -0 "$simulator" 2>/dev/null || { cat "$run/simulator.log" >&2; exit 1; }
	sleep 0.1
done

if [ -n "${RAW:-}" ]; then
	"$collector" --config "$here/quickstart.yaml" \
		--set 'service.pipelines.logs.exporters=[debug]' --set 'service.pipelines.metrics.exporters=[debug]' > >(tee "$run/collector.log") 2>&1 &
	pids=("$!" "$simulator")
else
	"$m365copilot" show --listen 127.0.0.1:14318 --require-interactions &
	show=$!
	"$collector" --config "$here/quickstart.yaml" >"$run/collector.log" 2>&1 &
	pids=("$!" "$simulator" "$show")
	echo "The collector logs to $run/collector.log, the emulated tenant to $run/simulator.log." >&2
fi

if [ -z "${DURATION:-}" ]; then
	wait "${pids[0]}" || { tail -n 20 "$run/collector.log" >&2; exit 1; }
	exit
fi
sleep "$DURATION"
kill -0 "${pids[0]}" 2>/dev/null || { echo "the collector exited early:" >&2; tail -n 20 "$run/collector.log" >&2; exit 1; }
if [ -n "${RAW:-}" ]; then
	stop
	grep -q 'microsoft.copilot.interaction.id' "$run/collector.log" && grep -q '^microsoft.copilot.interaction.ingestion_delay' "$run/collector.log"
	exit
fi
kill -TERM "${pids[0]}" "$simulator"
wait "${pids[0]}" "$simulator" || true
kill -TERM "$show"
wait "$show"
