//go:build ignore

// Measures every HTTP request that a control group answers, from the packets of
// its sockets: HTTP/1.x, and HTTP/2 in the clear with gRPC.
//
// cgroup_skb sees each segment once, with its socket; sockops sees connections
// begin and end. What is known of a connection lives in the socket's own
// storage, what is counted of a workload in a slot whose ticket is kept there.
// Only requests worth a look are sent to user space; it reads the slots.
//
// A request of HTTP/1.x begins with its first byte. It is answered by the first
// segment that begins with a final status line while an answer is due: how many
// are due is known from reading the requests (request.h). HTTP/2 is followed
// frame by frame (h2.h). Segments that were seen before, by sequence number, do
// not count.

#include <sluice.h>

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>

#include "cost.h"
#include "packet.h"
#include "conn.h"
#include "http1.h"
#include "h2.h"
#include "dial.h"

SLUICE_OBJECT("5.10"); /* sockops that show the packet */

/* settle counts what waited for a ticket. */
static __always_inline void settle(struct conn *c, struct counts *n)
{
	if (c->begun)
		add(&n->begun, c->begun);
	if (c->bytes_in)
		add(&n->bytes_in, c->bytes_in);
	c->begun = c->bytes_in = 0;
}

/* adopt begins to follow a connection that is older than the probe, if it is
 * one that we answer and can be read from here on. It is 0 if not. */
static __noinline int adopt(struct __sk_buff *skb, struct bpf_sock *sk,
			    const struct segment *s)
{
	int http = known_method(skb, s);
	struct conn *c;
	struct h2 *h;

	if (!http && !answers_here(sk))
		return 0;
	c = bpf_sk_storage_get(&conns, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!c) {
		add_total(LOST, 1);
		return 0;
	}
	if (http || c->in.kind != UNKNOWN)
		return 1;
	h = looks_like_h2(skb, s) ? begin_h2(sk, 1) : 0;
	c->in.kind = h ? H2 : FOREIGN;
	if (!h)
		add_total(OLDER, 1);
	return h != 0;
}

/* take reads a segment that is in order, behind n bytes that could not be read.
 */
static __always_inline void take(struct __sk_buff *skb, struct bpf_sock *sk,
				 struct conn *c, struct segment *s, __u32 n)
{
	struct h2 *h;

	c->bytes_in += s->len + n;
	if (c->in.kind == UNKNOWN && c->in.phase == START && !n &&
	    speaks_h2(skb, s)) {
		c->in.kind = begin_h2(sk, 0) ? H2 : FOREIGN;
	} else if (c->in.kind == UNKNOWN && c->in.phase == LOOSE &&
		   c->asked == 1 && looks_like_h2(skb, s)) {
		/* Its preface came with the handshake. */
		h = begin_h2(sk, 1);
		if (h) {
			h->out.f.astray = 0; /* nothing was answered yet */
			c->in.kind = H2;
			c->begun = 0;
			c->given = c->asked;
		}
	}
	if (c->in.kind == H2) {
		h = bpf_sk_storage_get(&h2conns, sk, 0, 0);
		if (!h)
			return;
		enrol(skb, c);
		h->ticket = c->ticket;
		h->in.late = c->early != 0;
		walk(skb, h, s, n, bpf_ktime_get_ns(), 0);
		return;
	}
	if (n)
		skipped(c, n, c->early_ns ? c->early_ns : bpf_ktime_get_ns());
	read(skb, s, c);
}

#define OUT_OF_ORDER 0xffffffff
#define REORDERED (16U << 20) /* no window is larger, in practice */

/* early deals with a segment that has a hole before it. Those that came early
 * are not kept: they are bytes that were skipped, as soon as those before them
 * are here. It is the hole if TCP has what is missing, else OUT_OF_ORDER. */
static __noinline __u32 early(struct bpf_sock *sk, struct conn *c,
			      const struct segment *s)
{
	struct bpf_tcp_sock *tcp = bpf_tcp_sock(sk);
	__u32 hole = s->seq - c->in_next;

	if (tcp && (__s32)(tcp->rcv_nxt - s->seq) >= 0)
		return hole;
	if (hole > REORDERED)
		return OUT_OF_ORDER;
	if (!c->early || (__s32)(s->seq - c->early) < 0)
		c->early = s->seq;
	if (!c->early_end || (__s32)(s->seq + s->len - c->early_end) > 0)
		c->early_end = s->seq + s->len;
	c->early_ns = bpf_ktime_get_ns();
	return OUT_OF_ORDER;
}

/* read_early reads a segment that came before its time, if it begins with a
 * frame that opens a stream, and what is missing does so, too: two CPUs bring
 * segments of loopback in another order. */
static __always_inline void read_early(struct __sk_buff *skb,
				       struct bpf_sock *sk, struct conn *c,
				       struct segment *s, int first)
{
	struct h2 *h = bpf_sk_storage_get(&h2conns, sk, 0, 0);

	if (first)
		c->early_read = h && between(&h->in) &&
				recognised(skb, h, &h->in, s, 0);
	else
		c->early_read =
			c->early_read && s->seq + s->len == c->early_end;
	if (!h || !c->early_read)
		return;
	h->in.late = 0;
	walk(skb, h, s, 0, c->early_ns, 0);
	c->early_read = between(&h->in);
}

/* catch_up skips what came early, when it is in order now. */
static __noinline int catch_up(struct bpf_sock *sk, struct conn *c)
{
	__u32 n = c->early_end - c->in_next;
	struct h2 *h;

	if ((__s32)(c->early - c->in_next) > 0)
		return 0;
	c->early = c->early_end = 0;
	if ((__s32)n <= 0)
		return 0;
	c->in_next += n;
	c->bytes_in += n;
	if (c->in.kind != H2) {
		skipped(c, n, c->early_ns);
		return 0;
	}
	h = bpf_sk_storage_get(&h2conns, sk, 0, 0);
	if (h && !(c->early_read && between(&h->in)))
		lose_track(&h->in);
	return 0;
}

/* receive takes note of a segment. */
static __always_inline void receive(struct __sk_buff *skb, struct bpf_sock *sk,
				    struct conn *c, struct segment *s)
{
	struct counts *n;
	int first = !c->early;
	__u32 hole = 0;

	if (c->in_seen && (__s32)(s->seq - c->in_next) > 0)
		hole = early(sk, c, s);
	if (hole == OUT_OF_ORDER) {
		if (c->in.kind == H2)
			read_early(skb, sk, c, s, first);
		return;
	}
	if (!fresh(s, &c->in_next, &c->in_seen))
		return;
	take(skb, sk, c, s, hole);
	if (c->early)
		catch_up(sk, c);
	if (c->in.kind == FOREIGN) {
		add_total(UNMEASURED, 1);
		return;
	}
	if (c->in.kind < HTTP)
		return;
	n = enrol(skb, c);
	if (n)
		settle(c, n);
}

/* arrives takes note of a segment for one of our sockets. */
static __always_inline void arrives(struct __sk_buff *skb, struct bpf_sock *sk,
				    struct segment *s)
{
	struct conn *c;

	/* Data in the last packet of the handshake finds the listener here; see
	 * connection. */
	if (!s->len || sk->state == BPF_TCP_LISTEN)
		return;
	c = bpf_sk_storage_get(&conns, sk, 0, 0);
	if (!c) {
		if (!adopt(skb, sk, s))
			return;
		c = bpf_sk_storage_get(&conns, sk, 0, 0);
		if (!c)
			return;
	}
	if (c->in.kind >= FOREIGN || !enter(skb, c, s->seq))
		return;
	receive(skb, sk, c, s);
	leave(c);
}

/* departs takes note of a segment from one of our sockets. */
static __always_inline void departs(struct __sk_buff *skb, struct bpf_sock *sk,
				    struct segment *s)
{
	struct counts *n;
	struct conn *c;
	struct h2 *h;
	__u32 hole;
	__u64 now;

	if (!s->len) {
		if (s->syn && measure_dials)
			dialing(skb, sk);
		return;
	}
	c = bpf_sk_storage_get(&conns, sk, 0, 0);
	if (!c || c->in.kind >= FOREIGN)
		return;
	hole = c->out_seen ? s->seq - c->out_next : 0;
	if (!fresh(s, &c->out_next, &c->out_seen))
		return;
	/* TCP has noted when it leaves (CLOCK_MONOTONIC). */
	now = skb->tstamp;
	if (!now)
		now = bpf_ktime_get_ns();
	c->bytes_out += s->len;
	c->segments += skb->gso_segs ? skb->gso_segs : 1;
	if (c->in.kind == H2) {
		h = bpf_sk_storage_get(&h2conns, sk, 0, 0);
		if (h)
			walk(skb, h, s, (__s32)hole > 0 ? hole : 0, now, 1);
	} else {
		answers(skb, c, s, now);
	}
	c->sent_ns = now;
	if (c->segments) { /* it did not begin an answer */
		n = counts_of(c->ticket);
		if (n)
			flush(c, n);
	}
}

/* passes takes note of a packet, and lets it pass. */
static __always_inline int passes(struct __sk_buff *skb, int out)
{
	struct bpf_sock *sk = skb->sk;
	struct segment s;
	__u64 began;

	if (!sk || parse(skb, &s))
		return 1;
	began = sample(s.dice);
	if (out)
		departs(skb, sk, &s);
	else
		arrives(skb, sk, &s);
	spent(began);
	return 1;
}

SEC("cgroup_skb/ingress")
int ingress(struct __sk_buff *skb)
{
	return passes(skb, 0);
}

SEC("cgroup_skb/egress")
int egress(struct __sk_buff *skb)
{
	return passes(skb, 1);
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
	expect(c, 1);
}

/* closed counts what a connection leaves behind, which ends from a state. */
static __always_inline void closed(struct bpf_sock *sk, struct conn *c,
				   __u32 from)
{
	struct outcome o = { .began = c->oldest_ns,
			     .now = bpf_ktime_get_ns(),
			     .grpc = NO_GRPC,
			     .aborted = 1 };
	struct counts *n = counts_of(c->ticket);
	struct h2 *h;

	if (n && (from == BPF_TCP_ESTABLISHED || from == BPF_TCP_CLOSE_WAIT))
		add(&n->resets, 1);
	if (n)
		finish(c, n);
	if (c->in.kind == H2) {
		h = bpf_sk_storage_get(&h2conns, sk, 0, 0);
		if (h)
			hung_up(h, o.now);
		return;
	}
	if (!due(c) || c->in.kind != HTTP)
		return;
	if (n)
		lapsed(n, due(c), &o, trace_if_one(c));
	else
		add_total(LOST, due(c));
	c->given = c->asked;
}

static __always_inline void watch(struct bpf_sock_ops *ctx, int flags)
{
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | flags);
}

/* event takes note of what happens to a connection. */
static __always_inline void event(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct counts *n;
	struct conn *c;

	switch (ctx->op) {
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		watch(ctx, BPF_SOCK_OPS_RETRANS_CB_FLAG |
				   BPF_SOCK_OPS_STATE_CB_FLAG);
		c = bpf_sk_storage_get(&conns, sk, 0,
				       BPF_SK_STORAGE_GET_F_CREATE);
		if (c)
			accepted(ctx, c);
		else
			add_total(LOST, 1);
		break;
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		dial(sk);
		if (measure_dials)
			watch(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		c = measure_dials ? bpf_sk_storage_get(&conns, sk, 0, 0) : 0;
		if (c && c->in.kind == DIALED)
			dialed(c);
		break;
	case BPF_SOCK_OPS_RETRANS_CB:
		c = bpf_sk_storage_get(&conns, sk, 0, 0);
		n = c ? counts_of(c->ticket) : 0;
		if (n && !ctx->args[2]) /* 0: it was sent */
			add(&n->retransmits, ctx->args[1]);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (ctx->args[1] != BPF_TCP_CLOSE)
			break;
		c = bpf_sk_storage_get(&conns, sk, 0, 0);
		if (c && c->in.kind != DIALED)
			closed(sk, c, ctx->args[0]);
		else if (c && ctx->args[0] == BPF_TCP_SYN_SENT)
			undialed(c);
		break;
	}
}

SEC("sockops")
int connection(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	__u64 began;

	if (!sk)
		return 1;
	began = sample(ctx->snd_nxt ^ ctx->local_port ^ ctx->op);
	event(ctx, sk);
	spent(began);
	return 1;
}
