#!/usr/bin/env bash
# Runs the emulated tenant and the collector side by side until Ctrl-C, or for $DURATION (such as 20s) and then
# exits 0 only if interactions arrived: quickstart.sh COLLECTOR M365COPILOT
set -euo pipefail
collector=$1 m365copilot=$2
here=$(dirname "$0")
run=_run
mkdir -p "$run"
rm -f "$run"/server.crt "$run"/server.key "$run"/collector.log

pids=()
stop() {
	trap - EXIT INT TERM
	# The collector first, so that it can still talk to the tenant while it ends.
	for pid in "${pids[@]}"; do
		kill -TERM "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

"$m365copilot" simulate --listen 127.0.0.1:18080 --tls-dir "$run" &
simulator=$!
pids=("$simulator")
for _ in $(seq 100); do
	[ -s "$run/server.key" ] && [ -s "$run/server.crt" ] && break
	kill -0 "$simulator" || exit 1
	sleep 0.1
done

"$collector" --config "$here/quickstart.yaml" > >(tee "$run/collector.log") 2>&1 &
pids=("$!" "$simulator")

if [ -z "${DURATION:-}" ]; then
	wait "${pids[0]}"
	exit
fi
sleep "$DURATION"
kill -0 "${pids[0]}" || { echo "the collector ended early" >&2; exit 1; }
stop
interactions=$(grep -c 'microsoft.copilot.interaction.id' "$run/collector.log" || true)
delays=$(grep -c '^microsoft.copilot.interaction.ingestion_delay' "$run/collector.log" || true)
echo "quickstart: $interactions interactions arrived as log records, $delays values of the delay metric" >&2
[ "$interactions" -gt 0 ] && [ "$delays" -gt 0 ]
