/* Measures the connections that a control group opens: the time from the first
 * SYN to the end of the handshake. */
#pragma once

#include "conn.h"

/* Set before loading: whether outgoing connections are measured. */
volatile const __u32 measure_dials = 0;

/* dial marks a connection as one that is opened from here, before its SYN. */
static __always_inline void dial(struct bpf_sock *sk)
{
	struct conn *c =
		bpf_sk_storage_get(&conns, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (!c)
		return;
	c->in.kind = DIALED;
	c->oldest_ns = bpf_ktime_get_ns();
}

/* dialing notes whose connection begins with this SYN. */
static __noinline int dialing(struct __sk_buff *skb, struct bpf_sock *sk)
{
	struct conn *c = bpf_sk_storage_get(&conns, sk, 0, 0);
	struct workload w = {};

	if (!c || c->in.kind != DIALED || c->ticket)
		return 0;
	w.cgroup = bpf_skb_cgroup_id(skb);
	c->ticket = ticket_of(&w);
	return 0;
}

/* dialed counts a connection that was made. */
static __always_inline void dialed(const struct conn *c)
{
	struct counts *n = counts_of(c->ticket);
	__u64 took = bpf_ktime_get_ns() - c->oldest_ns;

	if (!n) {
		add_total(LOST, 1);
		return;
	}
	add(&n->connections, 1);
	add(&n->sum_ns, took);
	observe(n->latency, bucket(took));
}

/* undialed counts a connection that was not. */
static __always_inline void undialed(const struct conn *c)
{
	struct counts *n = counts_of(c->ticket);

	if (n)
		add(&n->aborted, 1);
	else
		add_total(LOST, 1);
}
