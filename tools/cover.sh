#!/bin/sh
# Runs every test of both modules and says what share of each package's statements
# was run: by tests, by the processes that they start, or by the scripts of the two
# commands. Fails if a package with logic is below the limit, or a test fails.
#
# What a daemon runs counts until it confines itself: after that it may not write
# its counts, so that the whole of a confined life is not in the share.
#
#   tools/cover.sh [LIMIT]     in per cent, default 85
set -eu
limit=${1:-85}
# Without logic of the product: programs that try it out (demo, e2e, kernels, the
# test cluster, the build of the images), what only tests link (testenv, etcdtest,
# signtest), and a generator. Engine's toolbox and command are copies of ci's, which
# a test of engine holds to them: their tests are in that module.
exempt='/internal/(demo|e2e|kernels(/.*)?|testenv|cluster(/.*)?|ship|etcd/etcdtest|sign/signtest|engine/(toolbox|command))$|/bpf/probe/buckets$|/testdata/'

# In the temporary folder, because some tests become somebody else.
data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT INT TERM
chmod 755 "$data"
mkdir "$data/bin" "$data/counts"
chmod 1777 "$data/counts"
mkdir -p out
export CGO_ENABLED=0 SLUICE_BIN="$data/bin"
log=$PWD/out/cover.log profile=$PWD/out/cover.profile
: >"$log"

go build -cover -covermode=atomic -coverpkg=./... -o "$data/bin/" ./cmd/sluice ./cmd/sluice-probe
failed=0
for module in . deploy/argocd; do
	# What a test starts counts too: env sets again what go test sets to a place that it throws away.
	(cd $module && go test -vet=off -timeout 30m -covermode=atomic -coverpkg=./... -exec "env GOCOVERDIR=$data/counts" ./... -args -test.gocoverdir="$data/counts") >>"$log" 2>&1 || failed=1
done
[ $failed = 0 ] || grep -E '^ *--- FAIL|^FAIL|^panic:' "$log" >&2 || true

go tool covdata textfmt -i="$data/counts" -o="$profile"
awk -v limit="$limit" -v exempt="$exempt" '
	NR == 1 || /_bpfe[lb]_?[a-z]*\.go:/ { next }
	{
		statements[$1] = $2
		if ($3 > 0) run[$1] = 1
	}
	END {
		for (block in statements) {
			package = block
			sub(/\/[^\/]*$/, "", package)
			all[package] += statements[block]
			if (block in run) covered[package] += statements[block]
		}
		for (package in all) {
			share = 100 * covered[package] / all[package]
			if (package ~ exempt) continue
			printf "%5.1f %% %s%s\n", share, package, share < limit ? "  below " limit " %" : "" | "sort -n"
			if (share < limit) low = 1
		}
		close("sort -n")
		exit low
	}' "$profile" || failed=1
[ $failed = 0 ] || {
	echo "cover: a test failed, or a package is below $limit % ($log)" >&2
	exit 1
}
