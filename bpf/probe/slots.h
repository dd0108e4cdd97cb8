/* What is counted of a workload, and where.
 *
 * A workload has a slot, and a slot has a shard for each group of CPUs. A
 * ticket names a slot and how often it was given away: user space takes the
 * slots of workloads that are gone back, and a connection that is left of such
 * a workload then holds a ticket that is not valid any more. */
#pragma once

#include "buckets.h"

#define WORKLOADS 256 /* user space may load with fewer or more */
#define CLASSES 8     /* 1xx … 5xx by their first digit; 0: unread, or none */
#define GRPC_CODES 17 /* OK to UNAUTHENTICATED */

/* workload is what is counted separately. IPv4 is ::ffff:a.b.c.d. Without an
 * address it is the connections that a control group opens. */
struct workload {
	__u64 cgroup;
	__u32 addr[4]; /* local address, network order */
	__u32 port;    /* local port, host order */
	__u32 unused;
};

/* counts is what is counted of a workload. What every request needs comes
 * first, in two lines of the cache, of which slots are whole ones. */
struct counts {
	__u32 ticket; /* of the workload it counts for; 0: of none */
	__u32 window; /* the second of slowest_ns */
	__u64 slowest_ns;
	__u64 begun;	/* complete requests, answered or not */
	__u64 bytes_in; /* payload, each byte once */
	__u64 bytes_out;
	__u64 segments; /* sent, with data */
	__u64 sum_ns;	/* of all durations in latency */
	__u64 first_ns; /* first answer, CLOCK_MONOTONIC; 0: none */
	__u64 classes[CLASSES];
	__u64 aborted;	      /* ended without a final status */
	__u64 truncated;      /* answers that were cut off */
	__u64 connections;    /* accepted, or made */
	__u64 resets;	      /* connections that did not end in order */
	__u64 retransmits;    /* segments sent again */
	__u64 first_error_ns; /* first failure */
	__u64 unused[6];
	__u64 grpc[32];		 /* GRPC_CODES are used; 32 is a mask */
	__u64 latency[BUCKETS];	 /* to the first byte of the answer */
	__u64 complete[BUCKETS]; /* to its last byte */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WORKLOADS);
	__type(key, struct workload);
	__type(value, __u32); /* ticket */
} workloads SEC(".maps");

/* free_tickets are those that nobody has. User space fills it. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, WORKLOADS);
	__type(value, __u32);
} free_tickets SEC(".maps");

/* slots: user space reads them without a system call. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, WORKLOADS);
	__type(key, __u32);
	__type(value, struct counts);
} slots SEC(".maps");

/* Of the CPUs that share a shard. Set before loading: 2^shard_bits shards. */
volatile const __u32 shard_bits = 0;

/* totals: what belongs to no workload */
enum total {
	LOST,	    /* requests, and outgoing connections, without a place */
	UNMEASURED, /* connections that speak something else */
	DESYNCED,   /* times that an HTTP/2 connection was lost track of */
	OLDER,	    /* connections older than the probe that it cannot read */
	UNTOLD,	    /* exemplars for which there was no room */
	TOTALS,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TOTALS);
	__type(key, __u32);
	__type(value, __u64);
} totals SEC(".maps");

static __always_inline void add(__u64 *n, __u64 more)
{
	/* A softirq may interrupt the sender on the same CPU, and CPUs share a
	 * shard. */
	__sync_fetch_and_add(n, more);
}

static __always_inline void add_total(__u32 which, __u64 more)
{
	__u64 *n = bpf_map_lookup_elem(&totals, &which);

	if (n)
		add(n, more);
}

/* counts_of returns where to count for a ticket, 0 if it is not valid. */
static __always_inline struct counts *counts_of(__u32 ticket)
{
	__u32 i = (ticket & 0xffff) - 1;
	struct counts *n;

	if (!ticket)
		return 0;
	/* The verifier knows the constant: only one of these is left. */
	if (shard_bits == 1)
		i = i << 1 | (bpf_get_smp_processor_id() & 1);
	else if (shard_bits == 2)
		i = i << 2 | (bpf_get_smp_processor_id() & 3);
	else if (shard_bits == 3)
		i = i << 3 | (bpf_get_smp_processor_id() & 7);
	n = bpf_map_lookup_elem(&slots, &i);
	return n && n->ticket == ticket ? n : 0;
}

/* ticket_of returns the ticket of a workload, 0 if there is no slot left. */
static __always_inline __u32 ticket_of(struct workload *w)
{
	__u32 *known, mine = 0;

	known = bpf_map_lookup_elem(&workloads, w);
	if (known)
		return *known;
	if (bpf_map_pop_elem(&free_tickets, &mine))
		return 0;
	if (!bpf_map_update_elem(&workloads, w, &mine, BPF_NOEXIST))
		return mine;
	bpf_map_push_elem(&free_tickets, &mine, 0);
	known = bpf_map_lookup_elem(&workloads, w); /* another CPU was first */
	return known ? *known : 0;
}

/* ticket_at returns the ticket of what the control group of a packet answers at
 * the local address of its socket. */
__noinline __u32 ticket_at(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct workload w = {};

	if (!sk)
		return 0;
	w.cgroup = bpf_skb_cgroup_id(skb);
	w.port = sk->src_port;
	if (sk->family == AF_INET) {
		w.addr[2] = bpf_htonl(0xffff);
		w.addr[3] = sk->src_ip4;
	} else {
		/* Each on its own: the verifier allows no arithmetic on sk. */
		__u32 a = sk->src_ip6[0], b = sk->src_ip6[1],
		      c = sk->src_ip6[2], d = sk->src_ip6[3];

		asm volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d));
		w.addr[0] = a;
		w.addr[1] = b;
		w.addr[2] = c;
		w.addr[3] = d;
	}
	return ticket_of(&w);
}
