package doctor

const (
	forCanary = "the target local: canaries on this machine"
	forGate   = "the gate: the probe that counts requests"
	forSplit  = "the traffic splitter"
	forBind   = "two versions with the same port side by side"
	newKernel = "boot a kernel that has it"
)

// kernelTrials are done in this order; the privileges come first because they explain most of what follows.
func kernelTrials() []trial {
	return []trial{
		{name: "privileges", neededFor: forCanary, fix: rootFix, try: tryPrivileges},
		{name: "cgroup v2", neededFor: forCanary, fix: "mount -t cgroup2 cgroup2 /sys/fs/cgroup, or in a container: give it a writable cgroup v2 mount", try: tryCgroup},
		{name: "clone into cgroup", neededFor: forCanary, fix: newKernel + " (5.7 or later)", try: tryCloneIntoCgroup},
		{name: "pidfd_getfd", neededFor: forSplit, fix: newKernel + " (5.6 or later), or allow the system call in the container's seccomp profile", try: tryPidfdGetfd},
		{name: "network namespace", neededFor: "trying out packed binaries alone", fix: newKernel + " (CONFIG_NET_NS)", try: tryNetworkNamespace},
		{name: "bpf file system", neededFor: "a splitter that goes on when Sluice ends", fix: "mount -t bpf bpf /sys/fs/bpf", try: tryBPFFS},
		{name: "kernel BTF", neededFor: forGate, fix: newKernel + " (CONFIG_DEBUG_INFO_BTF)", try: tryBTF},
		{name: "cgroup_skb", neededFor: forGate, fix: newKernel + " (CONFIG_CGROUP_BPF)", try: tryCgroupSKB},
		{name: "sockops", neededFor: forGate, fix: newKernel + " (CONFIG_CGROUP_BPF)", try: trySockOps},
		{name: "sk_storage", neededFor: forGate, fix: newKernel + " (5.2 or later)", try: trySKStorage},
		{name: "ring buffer", neededFor: forGate, fix: newKernel + " (5.8 or later)", try: tryRingBuffer},
		{name: "link update", neededFor: "swapping the probe without a gap", fix: newKernel + " (5.7 or later)", try: tryLinkUpdate},
		{name: "program test run", neededFor: "the probe's self-test", fix: newKernel + " (5.0 or later)", try: tryTestRun},
		{name: "bind hook", neededFor: forBind, fix: newKernel + " (CONFIG_CGROUP_BPF)", try: tryBindHook},
		{name: "sockmap", neededFor: forSplit, fix: newKernel + " (5.6 or later, CONFIG_BPF_STREAM_PARSER)", try: trySockMap},
		{name: "sk_lookup", neededFor: forSplit, fix: newKernel + " (5.9 or later)", try: trySKLookup},
	}
}

// toolTrials are independent of one another.
func toolTrials() []trial {
	const backports = "apt-get install -t bookworm-backports upx-ucl"
	return []trial{
		{name: "go", neededFor: "every build", fix: "install Go (https://go.dev/dl) and put it on PATH", try: tool("go", goVersion)},
		{name: "git", neededFor: "the commit in release and image", fix: "apt-get install git", optional: true, try: tool("git", firstLine)},
		{name: "upx", neededFor: "packing (pack.upx)", fix: backports, optional: true, try: tool("upx", upxVersion)},
		{name: "qemu-user", neededFor: "trying packed binaries of other architectures", fix: "apt-get install qemu-user-static", optional: true, try: tryQEMU},
		{name: "clang-19", neededFor: "regenerating the eBPF objects, which are committed", fix: "apt-get install clang-19", optional: true, try: tool("clang-19", firstLine)},
		{name: "disk", neededFor: "releases, images and reports", fix: "free some space, or choose another folder with --out", try: tryDisk},
	}
}
