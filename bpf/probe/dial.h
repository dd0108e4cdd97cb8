/* Measures the connections that a control group opens: the time from the first
 * SYN to the end of the handshake. */
#pragma once

#include "record.h"

struct dial {
	__u64 began;
	__u32 ticket;
	__u32 unused;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct dial);
} dials SEC(".maps");

/* Set before loading: whether outgoing connections are measured. */
volatile const __u32 measure_dials = 0;

/* dialing notes whose connection begins with this SYN. */
static __noinline int dialing(struct __sk_buff *skb, struct bpf_sock *sk)
{
	struct workload w = {};
	struct dial *d;

	if (!skb || !sk)
		return 0;
	d = bpf_sk_storage_get(&dials, sk, 0, 0);
	if (!d || d->ticket)
		return 0;
	w.cgroup = bpf_skb_cgroup_id(skb);
	d->ticket = ticket_of(&w);
	return 0;
}

/* dialed counts a connection that was made. */
static __always_inline void dialed(const struct dial *d)
{
	struct counts *n = counts_of(d->ticket);
	__u64 now = bpf_ktime_get_ns();

	if (!n) {
		add_total(LOST, 1);
		return;
	}
	add(&n->connections, 1);
	add(&n->sum_ns, now - d->began);
	observe(n->latency, now - d->began);
}

/* undialed counts a connection that was not. */
static __always_inline void undialed(const struct dial *d)
{
	struct counts *n = counts_of(d->ticket);

	if (n)
		add(&n->aborted, 1);
	else
		add_total(LOST, 1);
}
