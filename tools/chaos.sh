#!/bin/sh
# Runs every test that injects faults (those that call testenv.Chaos, in every
# module, and the scripts of cmd/sluice named below) many times more than the
# ordinary run does. Fails if one fails, or if for a known fault there is no test.
#
#   tools/chaos.sh [TIMES] [PACKAGE...]     default: 10 times, all of them
set -eu
times=${1:-10}
[ $# = 0 ] || shift
export SLUICE_CHAOS="$times" CGO_ENABLED=0
list=$(mktemp)
trap 'rm -f "$list"' EXIT INT TERM

# Module, package, name of the test and fault, of every call.
for module in . deploy/argocd; do
	git ls-files -co --exclude-standard -- "$module/*_test.go" | grep -v '^internal/testenv/' | while read -r file; do
		case $module:$file in .:deploy/argocd/* | .:ci/* | .:tools/*) continue ;; esac
		dir=$(dirname "$file")
		awk -v module="$module" -v dir="./${dir#"$module/"}" '
			/^func Test/ { name = $2; sub(/\(.*/, "", name) }
			match($0, /testenv\.Chaos\(t, testenv\.[A-Za-z]+/) { fault = substr($0, RSTART + 25, RLENGTH - 25); print module, dir, name, fault }' "$file"
	done
done >"$list"

for fault in $(sed -n 's/^\t\([A-Za-z]*\) .*Fault = .*/\1/p;s/^\t\([A-Za-z]*\)  *Fault = .*/\1/p' internal/testenv/chaos.go | sort -u); do
	grep -q " $fault\$" "$list" || {
		echo "chaos: no test injects the fault $fault" >&2
		exit 1
	}
done

failed=0
run() { # MODULE PACKAGE PATTERN FLAGS
	echo "chaos: $2 $3" >&2
	# shellcheck disable=SC2086 # flags
	(cd "$1" && go test -vet=off -count=1 -timeout 60m -run "$3" ${4:-} "$2") || failed=1
}
for at in $(awk '{ print $1 "," $2 }' "$list" | sort -u); do
	module=${at%,*} package=${at#*,}
	case " $* " in "  " | *" $package "*) ;; *) continue ;; esac
	names=$(awk -v m="$module" -v p="$package" '$1 == m && $2 == p { print $3 }' "$list" | sort -u | paste -sd '|')
	run "$module" "$package" "^($names)\$"
done
case " $* " in
"  " | *" ./cmd/sluice "*) run . ./cmd/sluice '^TestScripts$/^(full|killed|unhealthy|port)$' "-count=$times" ;;
esac
exit $failed
