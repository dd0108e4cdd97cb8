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

#include "packet.h"
#include "slots.h"
#include "record.h"
#include "request.h"
#include "answer.h"
#include "h2.h"
#include "dial.h"

SLUICE_OBJECT("5.10"); /* sockops that show the packet */

#define ANSWERS                                                                \
	16 /* looked for in one segment, when requests are pipelined           \
	    */

/* conn is what is known of one connection. Ingress and egress of it may run at
 * the same time. */
struct conn {
	__u64 oldest_ns; /* when the oldest request without an answer began */
	__u64 newest_ns; /* when the newest one began */
	__u64 answer_ns; /* when the request began whose answer is being sent */
	__u64 sent_ns;	 /* when the last segment of that answer was sent */
	__u32 in_next;	 /* sequence number after what was seen */
	__u32 out_next;
	__u32 ticket; /* 0: not looked up */
	__u32 due;    /* answers due to complete requests; changed atomically */
	__u32 begun;  /* requests not counted yet, for want of a ticket */
	__u32 bytes_in; /* and bytes */
	__u8 in_seen;	/* in_next is valid */
	__u8 out_seen;
	__u8 status_len; /* bytes kept in status */
	__u8 unused[5];
	__u8 status[32]; /* the start of an answer that a segment cut */
	struct trace trace; /* of the newest request */
	struct request in;
	__u64 line[KEPT / 8]; /* the start of a line that a segment cut */
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct conn);
} conns SEC(".maps");

/* enrol finds the workload of a connection. */
static __always_inline void enrol(struct __sk_buff *skb, struct bpf_sock *sk,
				  struct conn *c)
{
	struct counts *n;

	if (c->ticket)
		return;
	c->ticket = ticket_at(skb, sk);
	n = counts_of(c->ticket);
	if (n)
		add(&n->connections, 1);
}

/* expect notes requests that are complete: answers are due to them. */
static __always_inline void expect(struct conn *c, __u32 requests)
{
	__sync_fetch_and_add(&c->due, requests);
	c->begun += requests;
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
		c->trace.form = NO_TRACE;
		expect(c, 1);
		break;
	case HEAD:
		expect(c, 1);
		break;
	}
	c->in.phase = LOOSE;
	return 1;
}

/* read takes note of what a client of HTTP/1.x sent. */
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
	if (!read_heads(skb, r, s, &c->in, c->line)) {
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
	if (r->begun || r->trace.form)
		c->trace = r->trace;
	c->in = r->is;
	if (r->complete)
		expect(c, r->complete);
}

/* settle counts what waited for a ticket. */
static __always_inline void settle(struct conn *c)
{
	struct counts *n = counts_of(c->ticket);

	if (!n)
		return;
	if (c->begun)
		add(&n->begun, c->begun);
	if (c->bytes_in)
		add(&n->bytes_in, c->bytes_in);
	c->begun = c->bytes_in = 0;
}

/* adopt begins to follow a connection that is older than the probe, if it is one
 * that we answer and can be read from here on. */
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
		return 0;
	h = opens_stream(skb, s) ? begin_h2(sk, 1) : 0;
	c->in.kind = h ? H2 : FOREIGN;
	if (!h)
		add_total(OLDER, 1);
	return 0;
}

/* follow_h2 reads what a client of HTTP/2 sent. */
static __noinline int follow_h2(struct __sk_buff *skb, struct bpf_sock *sk,
				struct conn *c, const struct segment *s,
				__u32 hole)
{
	struct h2 *h;

	h = bpf_sk_storage_get(&h2conns, sk, 0, 0);
	if (!h)
		return 0;
	enrol(skb, sk, c);
	h->ticket = c->ticket;
	walk(skb, h, s, hole, 0);
	return 0;
}

SEC("cgroup_skb/ingress")
int ingress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct segment s;
	struct conn *c;
	__u32 hole;

	if (!sk || parse(skb, &s) || !s.len)
		return 1;
	sk = bpf_sk_fullsock(sk);
	/* Data in the last packet of the handshake finds the listener here; see
	 * connection. */
	if (!sk || sk->state == BPF_TCP_LISTEN)
		return 1;
	c = bpf_sk_storage_get(&conns, sk, 0, 0);
	if (!c) {
		adopt(skb, sk, &s);
		c = bpf_sk_storage_get(&conns, sk, 0, 0);
		if (!c)
			return 1;
	}
	if (c->in.kind == FOREIGN)
		return 1;
	hole = c->in_seen ? s.seq - c->in_next : 0;
	if (!fresh(&s, &c->in_next, &c->in_seen))
		return 1;
	if ((__s32)hole <= 0)
		hole = 0;
	c->bytes_in += s.len;
	if (c->in.kind == UNKNOWN && c->in.phase == START && !hole &&
	    speaks_h2(skb, &s))
		c->in.kind = begin_h2(sk, 0) ? H2 : FOREIGN;
	if (c->in.kind == H2)
		follow_h2(skb, sk, c, &s, hole);
	else if (!hole || !missed(c, &s, hole))
		read(skb, &s, c);
	if (c->in.kind == FOREIGN) {
		add_total(UNMEASURED, 1);
		return 1;
	}
	if (c->in.kind == HTTP)
		enrol(skb, sk, c);
	settle(c);
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
	if (have >= STATUS_LINE ||
	    bpf_skb_load_bytes(skb, s->off, c->status + have, within(n, 15)))
		return 0;
	have += n;
	if (have >= STATUS_LINE) {
		c->status_len = 0;
		return status(c->status);
	}
	c->status_len = c->status[0] == 'H' ? have : 0;
	return 0;
}

/* finish counts the last byte of the answer before. */
static __always_inline void finish(struct conn *c, struct counts *n)
{
	if (c->answer_ns && n)
		ended(n, c->sent_ns - c->answer_ns);
	c->answer_ns = 0;
}

/* answer counts an answer with a final status. */
static __always_inline void answer(struct __sk_buff *skb, struct bpf_sock *sk,
				   struct conn *c, __u32 code, __u64 now)
{
	struct outcome o = { .began = c->oldest_ns,
			     .now = now,
			     .status = code,
			     .grpc = NO_GRPC };
	struct counts *n;

	c->in.kind = HTTP;
	enrol(skb, sk, c);
	n = counts_of(c->ticket);
	if (n) {
		finish(c, n);
		answered(n, &o, c->due <= 1 ? &c->trace : 0);
		c->answer_ns = o.began;
		c->sent_ns = now;
	} else {
		add_total(LOST, 1);
	}
	if (!c->due) {
		c->in.phase = LOOSE; /* answered before its head was complete */
		if (n)
			add(&n->begun, 1);
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

/* next_answer counts an answer that shares a segment with one before. It is 0 if
 * no other one is due. */
__noinline int next_answer(struct __sk_buff *skb, __u32 code)
{
	struct bpf_sock *sk = skb->sk;
	struct conn *c;

	if (!sk)
		return 0;
	sk = bpf_sk_fullsock(sk);
	c = sk ? bpf_sk_storage_get(&conns, sk, 0, 0) : 0;
	if (!c)
		return 0;
	if (code >= 200 || code == 101)
		answer(skb, sk, c, code, bpf_ktime_get_ns());
	return c->in.kind != FOREIGN && (c->due || c->in.phase == HEAD);
}

/* answers counts the answers in a segment, which begins with a status line. */
static __always_inline void answers(struct __sk_buff *skb, struct bpf_sock *sk,
				    struct conn *c, __u32 off, __u32 code)
{
	int i;

	if (code >= 200 || code == 101)
		answer(skb, sk, c, code, bpf_ktime_get_ns());
	if (c->in.kind == FOREIGN || (!c->due && c->in.phase != HEAD))
		return;
	for (i = 0; i < ANSWERS; i++) {
		off = next_status(skb, off);
		if (!off || !next_answer(skb, status_at(skb, off)))
			return;
		off += STATUS_LINE;
	}
}

/* sent counts a segment, and keeps the time for the answer that it is of. */
static __always_inline void sent(struct __sk_buff *skb, struct conn *c,
				 __u32 bytes)
{
	struct counts *n = counts_of(c->ticket);

	if (n) {
		add(&n->bytes_out, bytes);
		add(&n->segments, skb->gso_segs ? skb->gso_segs : 1);
	}
	if (c->answer_ns)
		c->sent_ns = bpf_ktime_get_ns();
}

SEC("cgroup_skb/egress")
int egress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct segment s;
	struct conn *c;
	struct h2 *h;
	__u32 code, hole;

	if (!sk || parse(skb, &s))
		return 1;
	if (!s.len && !(s.syn && measure_dials))
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 1;
	if (!s.len) {
		dialing(skb, sk);
		return 1;
	}
	c = bpf_sk_storage_get(&conns, sk, 0, 0);
	if (!c || c->in.kind == FOREIGN)
		return 1;
	hole = c->out_seen ? s.seq - c->out_next : 0;
	if (!fresh(&s, &c->out_next, &c->out_seen))
		return 1;
	if (c->in.kind == H2) {
		sent(skb, c, s.len);
		h = bpf_sk_storage_get(&h2conns, sk, 0, 0);
		if (h)
			walk(skb, h, &s, (__s32)hole > 0 ? hole : 0, 1);
		return 1;
	}
	if (!c->due && c->in.phase != HEAD) {
		sent(skb, c, s.len);
		return 1;
	}
	code = first_status(skb, &s, c);
	if (code)
		answers(skb, sk, c, s.off + 1, code);
	sent(skb, c, s.len);
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
	if (c->in.kind == H2) {
		h = bpf_sk_storage_get(&h2conns, sk, 0, 0);
		if (h)
			hung_up(h, o.now);
		return;
	}
	finish(c, n);
	if (!c->due || c->in.kind != HTTP)
		return;
	if (n)
		lapsed(n, c->due, &o, c->due == 1 ? &c->trace : 0);
	else
		add_total(LOST, c->due);
	c->due = 0;
}

static __always_inline void watch(struct bpf_sock_ops *ctx, int flags)
{
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | flags);
}

SEC("sockops")
int connection(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct counts *n;
	struct conn *c;
	struct dial *d;

	if (!sk)
		return 1;
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
		if (!measure_dials)
			break;
		watch(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
		d = bpf_sk_storage_get(&dials, sk, 0,
				       BPF_SK_STORAGE_GET_F_CREATE);
		if (d)
			d->began = bpf_ktime_get_ns();
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		d = bpf_sk_storage_get(&dials, sk, 0, 0);
		if (d)
			dialed(d);
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
		if (c)
			closed(sk, c, ctx->args[0]);
		d = ctx->args[0] == BPF_TCP_SYN_SENT
			    ? bpf_sk_storage_get(&dials, sk, 0, 0)
			    : 0;
		if (d)
			undialed(d);
		break;
	}
	return 1;
}
