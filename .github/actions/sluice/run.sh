#!/usr/bin/env bash
# Builds sluice from the ref of this action and does what the inputs say. Inputs
# come as variables and never become part of a script.
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
sluice=${RUNNER_TEMP:?}/sluice
CGO_ENABLED=0 go build -C "$root" -o "$sluice" ./cmd/sluice

args=("$SLUICE_COMMAND" --file "$SLUICE_CONFIG")
if [ -n "$SLUICE_VERSION" ]; then
	case $SLUICE_COMMAND in
	rollback) args+=(--to "$SLUICE_VERSION") ;;
	build | pack | bpf | sbom | image | sign | policy | publish | run | deploy | verify | gate) args+=(--version "$SLUICE_VERSION") ;;
	esac # the others are not about a version
fi
[ -z "$SLUICE_SARIF" ] || args+=(--sarif "$SLUICE_SARIF")
while IFS= read -r arg; do
	[ -z "$arg" ] || args+=("$arg")
done <<<"$SLUICE_ARGS"

# The password goes into a file that only this user reads, and that goes with this
# script. It is on no command line: printf is the shell's own.
login() {
	case $SLUICE_REGISTRY in
	*[!a-zA-Z0-9.:-]*)
		echo "::error title=sluice%3A registry::the input registry is a host, perhaps with a port: registry.example.com" >&2
		exit 2
		;;
	esac
	DOCKER_CONFIG=$(umask 077 && mktemp -d "$RUNNER_TEMP/registry-XXXXXX")
	export DOCKER_CONFIG
	trap 'rm -rf "$DOCKER_CONFIG"' EXIT
	local auth
	auth=$(printf '%s:%s' "$SLUICE_REGISTRY_USERNAME" "$SLUICE_REGISTRY_PASSWORD" | base64 -w 0)
	(umask 077 && printf '{"auths": {"%s": {"auth": "%s"}}}\n' "$SLUICE_REGISTRY" "$auth" >"$DOCKER_CONFIG/config.json")
}
[ -z "$SLUICE_REGISTRY" ] || login
unset SLUICE_REGISTRY_PASSWORD

case $SLUICE_COMMAND in
run | deploy | rollback) # control groups and eBPF
	if [ "$(id -u)" != 0 ]; then
		sudo --preserve-env env "PATH=$PATH" "$sluice" "${args[@]}"
		exit
	fi
	;;
esac
"$sluice" "${args[@]}"
