//go:build ignore

// Measures every HTTP/1.x request that a control group answers, from the
// packets of its sockets.
//
// cgroup_skb sees each segment once, with its socket; sockops sees connections
// begin and end. What is known of a connection lives in the socket's own
// storage, what is counted of a workload in a per-CPU slot whose number is
// cached there. Nothing is sent to user space; it reads the slots.
//
// A request begins with the first new payload byte while none is pending. It is
// answered by the first segment that begins with a final status line. Segments
// that were seen before, by sequence number, do not count.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "buckets.h"

#define WORKLOADS 256 /* user space may load with fewer or more */
#define CLASSES 8     /* 1xx … 5xx by their first digit; the rest is padding */

/* keep makes the compiler forget what it knows of a variable, so that it does
 * not optimise away a bound that the verifier needs to see. */
#define keep(x) asm volatile("" : "+r"(x))

/* workload is what is counted separately. IPv4 is ::ffff:a.b.c.d. */
struct workload {
	__u64 cgroup;
	__u32 addr[4]; /* local address, network order */
	__u32 port;    /* local port, host order */
	__u32 unused;
};

struct counts {
	__u64 requests;       /* answered with a final status */
	__u64 aborted;        /* connection closed with a request pending */
	__u64 retransmits;    /* segments sent again */
	__u64 first_ns;       /* first answer, CLOCK_MONOTONIC; 0: none */
	__u64 first_error_ns; /* first 5xx or abort */
	__u64 sum_ns;
	__u64 classes[CLASSES];
	__u64 buckets[BUCKETS];
};

enum kind {
	UNKNOWN, /* no payload yet */
	HTTP,
	FOREIGN, /* something else: TLS, HTTP/2, … */
};

/* conn is what is known of one connection. */
struct conn {
	__u64 request_ns; /* when the pending request began */
	__u64 last_in_ns; /* last payload from the client */
	__u32 in_next;    /* sequence number after what was seen */
	__u32 out_next;
	__u32 slot; /* number of the slot + 1; 0: not looked up */
	__u8 kind;
	__u8 pending;
	__u8 answered; /* an answer was seen, more may follow (pipelining) */
	__u8 in_seen;  /* in_next is valid */
	__u8 out_seen;
	__u8 unused[3];
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
	NEXT_SLOT, /* slots given away so far */
	LOST,      /* requests that could not be counted */
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

/* bucket returns the number of the histogram bucket of a duration, exactly. */
static __always_inline __u32 bucket(__u64 ns)
{
	__u32 e = 0, cell, i;
	__u64 v = ns;

	if (ns <= FIRST_EDGE)
		return 0;
	if (ns > LAST_EDGE)
		return BUCKETS - 1;
	if (v >> 32) { v >>= 32; e += 32; }
	if (v >> 16) { v >>= 16; e += 16; }
	if (v >> 8) { v >>= 8; e += 8; }
	if (v >> 4) { v >>= 4; e += 4; }
	if (v >> 2) { v >>= 2; e += 2; }
	if (v >> 1) e += 1;
	if (e < 5)
		return 0; /* not reached: FIRST_EDGE is larger */
	cell = e * 32 + ((ns >> (e - 5)) & 31);
	if (cell >= CELLS)
		return BUCKETS - 1;
	i = cell_bucket[cell];
	/* a cell is 1/32 octave at most 1.42 buckets wide */
	if (i < EDGES && ns > edge_ns[i])
		i++;
	if (i < EDGES && ns > edge_ns[i])
		i++;
	if (i < EDGES && ns > edge_ns[i])
		i++;
	return i;
}

/* segment is the payload of one TCP segment. */
struct segment {
	__u32 off; /* of the payload, from the IP header */
	__u32 len;
	__u32 seq;
};

/* parse is 0 for a TCP segment with payload. */
static __always_inline int parse(struct __sk_buff *skb, struct segment *s)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct tcphdr *tcp;
	__u32 l3;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = data;

		if ((void *)(ip + 1) > end || ip->protocol != IPPROTO_TCP)
			return -1;
		l3 = ip->ihl * 4;
		if (l3 < sizeof(*ip) || l3 > 60)
			return -1;
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = data;

		if ((void *)(ip + 1) > end || ip->nexthdr != IPPROTO_TCP)
			return -1;
		l3 = sizeof(*ip);
	} else {
		return -1;
	}
	tcp = data + l3;
	if ((void *)(tcp + 1) > end)
		return -1;
	s->off = l3 + tcp->doff * 4;
	if (skb->len <= s->off)
		return -1;
	s->len = skb->len - s->off;
	s->seq = bpf_ntohl(tcp->seq);
	return 0;
}

/* is_old reports whether all of a segment was seen before, and takes note of it
 * if not. */
static __always_inline int is_old(const struct segment *s, __u32 *next, __u8 *seen)
{
	__u32 end = s->seq + s->len;

	if (*seen && (__s32)(end - *next) <= 0)
		return 1;
	*next = end;
	*seen = 1;
	return 0;
}

/* method reports whether payload looks like the start of a request. Of less
 * than four bytes the first has to do. */
static __always_inline int method(struct __sk_buff *skb, const struct segment *s)
{
	__u32 word = 0;

	if (s->len < 4) {
		__u8 c = 0;

		if (bpf_skb_load_bytes(skb, s->off, &c, 1))
			return 0;
		return c >= 'A' && c <= 'Z';
	}
	if (bpf_skb_load_bytes(skb, s->off, &word, 4))
		return 0;
	switch (bpf_ntohl(word)) {
	case 0x47455420: /* "GET " */
	case 0x504f5354: /* "POST" */
	case 0x50555420: /* "PUT " */
	case 0x48454144: /* "HEAD" */
	case 0x44454c45: /* "DELE" */
	case 0x50415443: /* "PATC" */
	case 0x4f505449: /* "OPTI" */
	case 0x434f4e4e: /* "CONN" */
	case 0x54524143: /* "TRAC" */
		return 1;
	}
	return 0;
}

/* slot_of returns the slot of the socket's workload + 1, 0 if there is none
 * left. */
static __noinline __u32 slot_of(struct __sk_buff *skb, struct bpf_sock *sk)
{
	struct workload w = {};
	__u32 *known, fresh;
	__u64 taken;

	if (!skb || !sk)
		return 0;
	w.cgroup = bpf_skb_cgroup_id(skb);
	w.port = sk->src_port;
	if (sk->family == 2 /* AF_INET */) {
		w.addr[2] = bpf_htonl(0xffff);
		w.addr[3] = sk->src_ip4;
	} else {
		/* Each on its own: the verifier allows no arithmetic on sk. */
		__u32 a = sk->src_ip6[0], b = sk->src_ip6[1], c = sk->src_ip6[2], d = sk->src_ip6[3];

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
	fresh = taken;
	if (bpf_map_update_elem(&workloads, &w, &fresh, BPF_NOEXIST)) {
		known = bpf_map_lookup_elem(&workloads, &w); /* another CPU was first */
		return known ? *known + 1 : 0;
	}
	return fresh + 1;
}

static __always_inline struct counts *counts_of(const struct conn *c)
{
	__u32 slot = c->slot - 1;

	return c->slot ? bpf_map_lookup_elem(&slots, &slot) : 0;
}

SEC("cgroup_skb/ingress")
int ingress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct segment s;
	struct conn *c;
	__u64 now;

	if (!sk || parse(skb, &s))
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 1;
	c = bpf_sk_storage_get(&conns, sk, 0, 0);
	if (!c) {
		/* A connection that is older than the probe, or one of our own to
		 * somebody else: only a request says that it is the former. */
		if (!method(skb, &s))
			return 1;
		c = bpf_sk_storage_get(&conns, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		if (!c) {
			add_total(LOST);
			return 1;
		}
	}
	if (c->kind == FOREIGN || is_old(&s, &c->in_next, &c->in_seen))
		return 1;
	now = bpf_ktime_get_ns();
	c->last_in_ns = now;
	if (c->pending)
		return 1; /* more of the same request, or a pipelined one */
	if (!method(skb, &s)) {
		/* After an answer this is the rest of a body that nobody waited
		 * for. At the start it is another protocol. */
		if (c->kind == UNKNOWN) {
			c->kind = FOREIGN;
			add_total(UNMEASURED);
		}
		return 1;
	}
	c->kind = HTTP;
	c->request_ns = now;
	c->pending = 1;
	c->answered = 0;
	if (!c->slot)
		c->slot = slot_of(skb, sk);
	return 1;
}

/* status returns the status code of "HTTP/1.x NNN", 0 for anything else. */
static __always_inline __u32 status(struct __sk_buff *skb, const struct segment *s)
{
	__u8 b[12];

	if (s->len < sizeof(b) || bpf_skb_load_bytes(skb, s->off, b, sizeof(b)))
		return 0;
	if (b[0] != 'H' || b[1] != 'T' || b[2] != 'T' || b[3] != 'P' || b[4] != '/' || b[5] != '1' || b[6] != '.' || b[8] != ' ')
		return 0;
	if (b[9] < '1' || b[9] > '5' || b[10] < '0' || b[10] > '9' || b[11] < '0' || b[11] > '9')
		return 0;
	return (b[9] - '0') * 100 + (b[10] - '0') * 10 + (b[11] - '0');
}

static __always_inline void record(struct conn *c, __u32 code, __u64 now)
{
	struct counts *n = counts_of(c);
	__u32 class = code / 100, i;
	__u64 took = now - c->request_ns;

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
	i = bucket(took);
	keep(i);
	if (i < BUCKETS)
		__sync_fetch_and_add(&n->buckets[i], 1);
	if (!n->first_ns)
		n->first_ns = now;
	if (class == 5 && !n->first_error_ns)
		n->first_error_ns = now;
}

SEC("cgroup_skb/egress")
int egress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct segment s;
	struct conn *c;
	__u32 code;

	if (!sk)
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 1;
	c = bpf_sk_storage_get(&conns, sk, 0, 0);
	if (!c || c->kind != HTTP || parse(skb, &s) || is_old(&s, &c->out_next, &c->out_seen))
		return 1;
	if (!c->pending && !c->answered)
		return 1;
	code = status(skb, &s);
	/* 1xx is not yet the answer, but for 101: what follows is no HTTP. */
	if (!code || (code < 200 && code != 101))
		return 1;
	record(c, code, bpf_ktime_get_ns());
	c->pending = 0;
	c->answered = 1;
	c->request_ns = c->last_in_ns; /* of the next one, if it was pipelined */
	if (code == 101)
		c->kind = FOREIGN;
	return 1;
}

static __always_inline void closed(struct conn *c)
{
	struct counts *n;

	if (!c->pending)
		return;
	c->pending = 0;
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
		bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_RETRANS_CB_FLAG | BPF_SOCK_OPS_STATE_CB_FLAG);
		if (!bpf_sk_storage_get(&conns, sk, 0, BPF_SK_STORAGE_GET_F_CREATE))
			add_total(LOST);
		break;
	case BPF_SOCK_OPS_RETRANS_CB:
		c = bpf_sk_storage_get(&conns, sk, 0, 0);
		n = c ? counts_of(c) : 0;
		if (n)
			__sync_fetch_and_add(&n->retransmits, 1);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		c = ctx->args[1] == BPF_TCP_CLOSE ? bpf_sk_storage_get(&conns, sk, 0, 0) : 0;
		if (c)
			closed(c);
		break;
	}
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
