#!/bin/sh
# Runs every test and says what share of each package's statements was run, by
# its own tests or by the scripts of cmd/sluice. Fails if a package with logic is
# below the limit. Whether tests pass is for make test to say: here a few do not,
# because a child process that was built for coverage warns when its environment
# was taken away.
#
#   tools/cover.sh [LIMIT]     in per cent, default 85
set -eu
limit=${1:-85}
out=$PWD/out/cover
# Programs around the product, and packages that are nothing but test support.
exempt='/(internal/(demo|e2e|kernels.*|testenv|cluster.*|ship)|sign/signtest|probe/buckets|bpf/probe/buckets)$'

rm -rf "$out"
mkdir -p "$out/data" "$out/bin"
chmod 1777 "$out/data" # some tests become somebody else
CGO_ENABLED=0 go build -cover -covermode=atomic -coverpkg=./... -o "$out/bin/sluice" ./cmd/sluice
SLUICE_BIN=$out/bin GOCOVERDIR=$out/data CGO_ENABLED=0 go test -timeout 30m -covermode=atomic ./... -args -test.gocoverdir="$out/data" >"$out/log" 2>&1 ||
	grep '^--- FAIL' "$out/log" >&2 || true
go tool covdata textfmt -i="$out/data" -o="$out/profile"
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
			low = share < limit && package !~ exempt
			printf "%5.1f %% %s%s\n", share, package, low ? "  below " limit " %" : "" | "sort -n"
			failed = failed || low
		}
		close("sort -n")
		exit failed
	}' "$out/profile"
