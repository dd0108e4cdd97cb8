#!/usr/bin/env bash
# Builds sluice from the ref of this action and does what the inputs say. Inputs
# come as variables and never become part of a script.
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
sluice=${RUNNER_TEMP:?}/sluice
CGO_ENABLED=0 go build -C "$root" -o "$sluice" ./cmd/sluice

args=("$SLUICE_COMMAND" --file "$SLUICE_CONFIG")
[ -z "$SLUICE_VERSION" ] || args+=(--version "$SLUICE_VERSION")
[ -z "$SLUICE_SARIF" ] || args+=(--sarif "$SLUICE_SARIF")
while IFS= read -r arg; do
	[ -z "$arg" ] || args+=("$arg")
done <<<"$SLUICE_ARGS"

case $SLUICE_COMMAND in
run | deploy | rollback) # control groups and eBPF
	if [ "$(id -u)" != 0 ]; then
		exec sudo --preserve-env env "PATH=$PATH" "$sluice" "${args[@]}"
	fi
	;;
esac
exec "$sluice" "${args[@]}"
