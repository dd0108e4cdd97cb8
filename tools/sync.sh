#!/bin/sh
# Asks Argo CD for a sync and waits for the verdict. Where there is no kubeconfig,
# as in a workflow, KUBECONFIG_DATA holds one; it is never on a command line, and
# its file goes with this script.
#
#   CONFIG=FILE         the configuration, if it is not sluice.yaml
#   REVISION=REVISION   of the GitOps repository; left out: what the Application asks for
#   SARIF=FILE          for what is wrong, for code scanning
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
if [ -n "${KUBECONFIG_DATA:-}" ]; then
	KUBECONFIG=$(umask 077 && mktemp)
	export KUBECONFIG
	trap 'rm -f "$KUBECONFIG"' EXIT INT TERM
	printf '%s\n' "$KUBECONFIG_DATA" >"$KUBECONFIG"
	unset KUBECONFIG_DATA
fi
CGO_ENABLED=0 go build -C "$root/deploy/argocd" -o "$root/bin/sluice-argo" .
"$root/bin/sluice-argo" sync --file "${CONFIG:-$root/sluice.yaml}" ${REVISION:+--revision "$REVISION"} ${SARIF:+--sarif "$SARIF"}
