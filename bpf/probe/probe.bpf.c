//go:build ignore

// Measures every HTTP/1.x request that a control group answers, from the
// packets of its sockets.
//
// cgroup_skb sees each segment once, with its socket; sockops sees connections
// begin and end. What is known of a connection lives in the socket's own
// storage, what is counted of a workload in a per-CPU slot whose number is
// cached there. Nothing is sent to user space; it reads the slots.
//
// A request begins with its first byte. It is answered by the first segment
// that begins with a final status line while an answer is due: how many are due
// is known from reading the requests (request.h). Segments that were seen
// before, by sequence number, do not count.

#include <sluice.h>

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>

#include "bucket.h"
#include "packet.h"
#include "request.h"
#include "answer.h"

SLUICE_OBJECT("5.12"); /* atomic operations that return the old value */

#define WORKLOADS 256 /* user space may load with fewer or more */
#define CLASSES 8     /* 1xx … 5xx by their first digit; the rest is padding */
#define ANSWERS                                                                \
	16 /* looked for in one segment, when requests are pipelined           \
	    */

/* workload is what is counted separately. IPv4 is ::ffff:a.b.c.d. */
struct workload {
	__u64 cgroup;
	__u32 addr[4]; /* local address, network order */
	__u32 port;    /* local port, host order */
	__u32 unused;
};

struct counts {
	__u64 requests;	      /* answered with a final status */
	__u64 aborted;	      /* connection closed with a request pending */
	__u64 retransmits;    /* segments sent again */
	__u64 first_ns;	      /* first answer, CLOCK_MONOTONIC; 0: none */
	__u64 first_error_ns; /* first 5xx or abort */
	__u64 sum_ns;
	__u64 classes[CLASSES];
	__u64 buckets[BUCKETS];
};

/* conn is what is known of one connection. Ingress and egress of it may run at
 * the same time. */
struct conn {
	__u64 oldest_ns; /* when the oldest request without an answer began */
	__u64 newest_ns; /* when the newest one began */
	__u32 in_next;	 /* sequence number after what was seen */
	__u32 out_next;
	__u32 slot;   /* number of the slot + 1; 0: not looked up */
	__u32 due;    /* answers due to complete requests; changed atomically */
	__u8 in_seen; /* in_next is valid */
	__u8 out_seen;
	__u8 status_len; /* bytes kept in status */
	__u8 unused[5];
	__u8 status[24]; /* the start of an answer that a segment cut */
	struct request in;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct conn);
} conns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WORKLOADS);
	__type(key, struct workload);
	__type(value, __u32);
} workloads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WORKLOADS);
	__type(key, __u32);
	__type(value, struct counts);
} slots SEC(".maps");

/* totals: what belongs to no workload */
enum total {
	NEXT_SLOT,  /* slots given away so far */
	LOST,	    /* requests that could not be counted */
	UNMEASURED, /* connections that speak something else */
	TOTALS,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TOTALS);
	__type(key, __u32);
	__type(value, __u64);
} totals SEC(".maps");

volatile const __u32 max_slots = WORKLOADS;

static __always_inline __u64 add_total(__u32 which)
{
	__u64 *n = bpf_map_lookup_elem(&totals, &which);

	return n ? __sync_fetch_and_add(n, 1) : ~0ULL;
}

/* slot_of returns the slot of the socket's workload + 1, 0 if there is none
 * left. */
static __noinline __u32 slot_of(struct __sk_buff *skb, struct bpf_sock *sk)
{
	struct workload w = {};
	__u32 *known, mine;
	__u64 taken;

	if (!skb || !sk)
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
	known = bpf_map_lookup_elem(&workloads, &w);
	if (known)
		return *known + 1;
	taken = add_total(NEXT_SLOT);
	if (taken >= max_slots)
		return 0;
	mine = taken;
	if (bpf_map_update_elem(&workloads, &w, &mine, BPF_NOEXIST)) {
		known = bpf_map_lookup_elem(&workloads,
					    &w); /* another CPU was first */
		return known ? *known + 1 : 0;
	}
	return mine + 1;
}

static __always_inline struct counts *counts_of(const struct conn *c)
{
	__u32 slot = c->slot - 1;

	return c->slot ? bpf_map_lookup_elem(&slots, &slot) : 0;
}

/* missed deals with a hole before a segment: bytes that came in another order.
 * They will look as if they had been seen, so they are given up here. It is 0
 * if nothing was lost by it. */
static __always_inline int missed(struct conn *c, const struct segment *s,
				  __u32 hole)
{
	switch (c->in.phase) {
	case BODY:
		if (c->in.body < (__u64)hole + s->len)
			break;
		c->in.body -= hole;
		return 0;
	case START: /* a request begins somewhere in the hole */
		c->newest_ns = bpf_ktime_get_ns();
		if (!c->due)
			c->oldest_ns = c->newest_ns;
		__sync_fetch_and_add(&c->due, 1);
		break;
	case HEAD:
		__sync_fetch_and_add(&c->due, 1);
		break;
	}
	c->in.phase = LOOSE;
	return 1;
}

/* read takes note of what a client sent. */
static __always_inline void read(struct __sk_buff *skb, struct segment *s,
				 struct conn *c)
{
	struct reader *r;

	if (c->in.phase == BODY) {
		if (c->in.body >= s->len) {
			c->in.body -= s->len;
			if (!c->in.body)
				c->in.phase = START;
			return;
		}
		s->off += c->in.body;
		s->len -= c->in.body;
		c->in.phase = START;
	}
	if (c->in.phase == LOOSE && c->due)
		return;
	r = the_reader();
	if (!r)
		return;
	if (!read_heads(skb, r, s, &c->in)) {
		if (c->in.kind == UNKNOWN)
			c->in.kind = FOREIGN;
		c->in.phase = LOOSE;
		return;
	}
	if (r->begun) {
		c->newest_ns = bpf_ktime_get_ns();
		if (!c->due && c->in.phase != HEAD)
			c->oldest_ns = c->newest_ns;
	}
	c->in = r->is;
	if (r->complete)
		__sync_fetch_and_add(&c->due, r->complete);
}

SEC("cgroup_skb/ingress")
int ingress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct segment s;
	struct conn *c;
	__u32 hole;

	if (!sk || parse(skb, &s))
		return 1;
	sk = bpf_sk_fullsock(sk);
	/* Data in the last packet of the handshake finds the listener here; see
	 * connection. */
	if (!sk || sk->state == BPF_TCP_LISTEN)
		return 1;
	c = bpf_sk_storage_get(&conns, sk, 0, 0);
	if (!c) {
		/* A connection that is older than the probe, or one of our own
		 * to somebody else. */
		if (!known_method(skb, &s))
			return 1;
		c = bpf_sk_storage_get(&conns, sk, 0,
				       BPF_SK_STORAGE_GET_F_CREATE);
		if (!c) {
			add_total(LOST);
			return 1;
		}
	}
	if (c->in.kind == FOREIGN)
		return 1;
	hole = c->in_seen ? s.seq - c->in_next : 0;
	if (!fresh(&s, &c->in_next, &c->in_seen))
		return 1;
	if ((__s32)hole <= 0 || !missed(c, &s, hole))
		read(skb, &s, c);
	if (c->in.kind == FOREIGN)
		add_total(UNMEASURED);
	else if (!c->slot && c->in.kind == HTTP)
		c->slot = slot_of(skb, sk);
	return 1;
}

/* first_status returns the status code that a segment begins with, also when
 * its bytes come one by one. */
static __always_inline __u32 first_status(struct __sk_buff *skb,
					  const struct segment *s,
					  struct conn *c)
{
	__u32 have = c->status_len, n = s->len;

	if (!have && n >= STATUS_LINE)
		return status_at(skb, s->off);
	if (have >= STATUS_LINE)
		return 0;
	if (n > STATUS_LINE)
		n = STATUS_LINE;
	keep(have);
	keep(n);
	if (have >= STATUS_LINE || n == 0 || n > STATUS_LINE ||
	    bpf_skb_load_bytes(skb, s->off, c->status + have, n))
		return 0;
	have += n;
	if (have >= STATUS_LINE) {
		c->status_len = 0;
		return status(c->status);
	}
	c->status_len = c->status[0] == 'H' ? have : 0;
	return 0;
}

/* bucket_of is bucket, checked once. */
__noinline __u32 bucket_of(__u64 ns)
{
	return bucket(ns);
}

static __always_inline void record(struct conn *c, __u32 code, __u64 now)
{
	struct counts *n = counts_of(c);
	__u32 class = code / 100, i;
	__u64 took = now - c->oldest_ns;

	if (!n) {
		add_total(LOST);
		return;
	}
	/* A softirq may interrupt the sender on the same CPU: per-CPU is not
	 * enough. */
	__sync_fetch_and_add(&n->requests, 1);
	__sync_fetch_and_add(&n->sum_ns, took);
	keep(class);
	__sync_fetch_and_add(&n->classes[class & (CLASSES - 1)], 1);
	i = bucket_of(took);
	keep(i);
	if (i < BUCKETS)
		__sync_fetch_and_add(&n->buckets[i], 1);
	if (!n->first_ns)
		n->first_ns = now;
	if (class == 5 && !n->first_error_ns)
		n->first_error_ns = now;
}

/* answer counts an answer with a final status. */
static __always_inline void answer(struct __sk_buff *skb, struct bpf_sock *sk,
				   struct conn *c, __u32 code, __u64 now)
{
	c->in.kind = HTTP;
	if (!c->slot)
		c->slot = slot_of(skb, sk);
	record(c, code, now);
	if (!c->due) {
		c->in.phase = LOOSE; /* answered before its head was complete */
	} else {
		__sync_fetch_and_add(&c->due, -1);
		/* Of three or more in flight the next one may have begun later
		 * than this says. */
		if (c->due == 1)
			c->oldest_ns = c->newest_ns;
	}
	if (code == 101)
		c->in.kind = FOREIGN; /* what follows is no HTTP */
}

/* answers counts the answers in a segment, which begins with a status line. */
static __noinline int answers(struct __sk_buff *skb, struct bpf_sock *sk,
			      struct conn *c, __u32 off, __u32 code)
{
	__u64 now = bpf_ktime_get_ns();
	int i;

	if (!sk)
		return 0;
	for (i = 0; i < ANSWERS; i++) {
		if (code >= 200 || code == 101)
			answer(skb, sk, c, code, now);
		if (c->in.kind == FOREIGN || (!c->due && c->in.phase != HEAD))
			return 0;
		off = next_status(skb, off);
		if (!off)
			return 0;
		code = status_at(skb, off);
		off += STATUS_LINE;
	}
	return 0;
}

SEC("cgroup_skb/egress")
int egress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct segment s;
	struct conn *c;
	__u32 code;

	if (!sk || parse(skb, &s))
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 1;
	c = bpf_sk_storage_get(&conns, sk, 0, 0);
	if (!c || c->in.kind == FOREIGN ||
	    !fresh(&s, &c->out_next, &c->out_seen))
		return 1;
	if (!c->due && c->in.phase != HEAD)
		return 1;
	code = first_status(skb, &s, c);
	if (code)
		answers(skb, sk, c, s.off + 1, code);
	return 1;
}

/* accepted notes where a new connection begins. Data that came with the last
 * packet of the handshake (deferred accept, fast open, a lost ACK) was not
 * given to ingress with this socket; it is taken for one request. */
static __always_inline void accepted(struct bpf_sock_ops *ctx, struct conn *c)
{
	struct tcphdr *tcp = ctx->skb_data;
	__u32 head, n;

	c->in_next = ctx->rcv_nxt;
	c->in_seen = 1;
	if ((void *)(tcp + 1) > ctx->skb_data_end)
		return;
	head = tcp->doff * 4;
	n = ctx->skb_len;
	if (n <= head)
		return;
	c->in_next = bpf_ntohl(tcp->seq) + tcp->syn + n - head;
	c->oldest_ns = c->newest_ns = bpf_ktime_get_ns();
	c->in.phase = LOOSE;
	c->due = 1;
}

static __always_inline void closed(struct conn *c)
{
	struct counts *n;

	if (!c->due || c->in.kind != HTTP)
		return;
	c->due = 0;
	n = counts_of(c);
	if (!n) {
		add_total(LOST);
		return;
	}
	__sync_fetch_and_add(&n->aborted, 1);
	if (!n->first_ns)
		n->first_ns = bpf_ktime_get_ns();
	if (!n->first_error_ns)
		n->first_error_ns = bpf_ktime_get_ns();
}

SEC("sockops")
int connection(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct counts *n;
	struct conn *c;

	if (!sk)
		return 1;
	switch (ctx->op) {
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		bpf_sock_ops_cb_flags_set(ctx,
					  ctx->bpf_sock_ops_cb_flags |
						  BPF_SOCK_OPS_RETRANS_CB_FLAG |
						  BPF_SOCK_OPS_STATE_CB_FLAG);
		c = bpf_sk_storage_get(&conns, sk, 0,
				       BPF_SK_STORAGE_GET_F_CREATE);
		if (c)
			accepted(ctx, c);
		else
			add_total(LOST);
		break;
	case BPF_SOCK_OPS_RETRANS_CB:
		c = bpf_sk_storage_get(&conns, sk, 0, 0);
		n = c ? counts_of(c) : 0;
		if (n && !ctx->args[2]) /* 0: it was sent */
			__sync_fetch_and_add(&n->retransmits, ctx->args[1]);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		c = ctx->args[1] == BPF_TCP_CLOSE
			    ? bpf_sk_storage_get(&conns, sk, 0, 0)
			    : 0;
		if (c)
			closed(c);
		break;
	}
	return 1;
}
