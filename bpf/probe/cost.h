/* Measures what the probe itself takes, by the clock and of few runs. (For the
 * kernel's own statistics the clock is read twice for every run of every
 * program of the machine, and CAP_SYS_ADMIN is needed.) */
#pragma once

#include <sluice.h>

#define SAMPLE_BITS 6 /* one run in 64 is measured */

struct cost {
	__u64 runs;
	__u64 ns;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cost);
} costs SEC(".maps");

/* sample is the time if this run is one to be measured, else 0. dice is another
 * number for every packet. */
static __always_inline __u64 sample(__u32 dice)
{
	return dice * 0x9e3779b1 >> (32 - SAMPLE_BITS) ? 0 : bpf_ktime_get_ns();
}

/* spent counts a run that was measured for those that were not. */
static __always_inline void spent(__u64 began)
{
	__u32 zero = 0;
	struct cost *c;

	if (!began)
		return;
	c = bpf_map_lookup_elem(&costs, &zero);
	if (!c)
		return;
	__sync_fetch_and_add(&c->runs, 1 << SAMPLE_BITS);
	__sync_fetch_and_add(&c->ns, (bpf_ktime_get_ns() - began)
					     << SAMPLE_BITS);
}
