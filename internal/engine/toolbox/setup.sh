#!/bin/sh
# Installs what the named jobs need from Debian's own packages, and says what to
# install where it cannot do it.
#
#   tools/setup.sh check       git, and the compiler of the eBPF objects: clang-19
#   tools/setup.sh demo        upx, git
#   tools/setup.sh kernels     a virtual machine
#   tools/setup.sh e2e         a container runtime, network plugins and tools, redis
#   tools/setup.sh test        all that, a C compiler (race detector), qemu-user, and real servers
#
# Nothing is asked of apt when everything is there.
set -eu

want_check='git:git clang-19:clang-19 llvm-strip-19:llvm-19 /usr/include/bpf/bpf_helpers.h:libbpf-dev /usr/include/stdlib.h:libc6-dev'
want_demo='upx:upx-ucl git:git'
want_kernels='qemu-system-x86_64:qemu-system-x86'
want_e2e='git:git containerd:containerd runc:runc /usr/lib/cni/host-local:containernetworking-plugins redis-server:redis-server ip:iproute2 iptables:iptables ipset:ipset conntrack:conntrack ethtool:ethtool socat:socat'
want_test="$want_check $want_demo $want_kernels $want_e2e etcd:etcd-server prometheus:prometheus protoc:protobuf-compiler gcc:gcc qemu-aarch64-static:qemu-user-static clang-format-19:clang-format-19"

have() {
	case $1 in
	/*) [ -e "$1" ] ;;
	*) command -v "$1" >/dev/null 2>&1 ;;
	esac
}

missing() {
	for pair in $1; do
		have "${pair%%:*}" || printf '%s ' "${pair##*:}"
	done
}

# backports adds the backports suite of this Debian release, from the mirror that
# is configured already.
backports() {
	suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")-backports
	mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: ${suite%-backports}" | head -n 1)
	[ -n "$mirror" ] || return 0
	key=/usr/share/keyrings/debian-archive-keyring.gpg
	echo "deb [signed-by=$key] $mirror $suite main" >/etc/apt/sources.list.d/sluice-backports.list
	apt-get update -qq
}

main() {
	case ${1:-} in
	check) want=$want_check ;;
	demo) want=$want_demo ;;
	kernels) want=$want_kernels ;;
	e2e) want=$want_e2e ;;
	test) want=$want_test ;;
	*)
		echo "usage: tools/setup.sh check|demo|kernels|e2e|test" >&2
		exit 2
		;;
	esac
	if ! command -v go >/dev/null 2>&1; then
		echo "setup: Go is missing: install Go 1.26.3 or newer and put it into PATH" >&2
		exit 2
	fi
	need=$(missing "$want")
	[ -n "$need" ] || return 0
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
		echo "setup: missing: ${need}- install these (Debian's names; upx-ucl 4.2 is in bookworm-backports), or run this as root on Debian" >&2
		exit 2
	fi
	echo "setup: installing ${need}" >&2
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq
	case $need in
	*upx-ucl*) apt-cache show upx-ucl >/dev/null 2>&1 || backports ;;
	esac
	# shellcheck disable=SC2086 # a list of packages
	apt-get install -y -qq --no-install-recommends $need >/dev/null
}

main "$@"
