/* What is known of one connection. */
#pragma once

#include "request.h"

/* conn is what is known of one connection. Ingress and egress of it may run at
 * the same time; of ingress only one run at a time reads, see enter. What most
 * requests need comes first, in two lines of the cache: the kernel puts eight
 * bytes in front of it. */
struct conn {
	struct request in;
	__u32 busy; /* how many want to read its ingress; changed atomically */
	__u32 ticket;	/* 0: not looked up */
	__u32 in_next;	/* sequence number after what was seen */
	__u32 early;	/* where bytes begin that came before their time */
	__u32 asked;	/* complete requests */
	__u32 given;	/* answers to them */
	__u32 begun;	/* requests not counted yet, for want of a ticket */
	__u32 bytes_in; /* and bytes */
	__u8 in_seen;	/* in_next is valid */
	__u8 out_seen;
	__u8 status_len; /* bytes kept in status */
	__u8 early_read; /* what came early could be read */
	__u16 bucket;	 /* of first_ns - answer_ns */
	__u8 traced;	 /* the newest request has a trace */
	__u8 unused;
	/* The second line. */
	__u64 oldest_ns; /* when the oldest request without an answer began */
	__u64 newest_ns; /* when the newest one began */
	__u64 unread_ns; /* when bytes came that were not understood */
	__u64 answer_ns; /* when the request began whose answer is being sent */
	__u64 first_ns;	 /* when its first segment was sent */
	__u64 sent_ns;	 /* when the last segment so far was sent */
	__u32 out_next;
	__u32 bytes_out; /* sent and not counted yet, to count them together */
	__u32 segments;
	__u32 early_end; /* where what came early ends; 0: there is none */
	/* What few need. */
	__u64 early_ns; /* when it came */
	union {
		__u8 status[32]; /* the start of an answer that a segment cut */
		__u64 version;
	};
	struct trace trace;
	__u64 line[KEPT / 8]; /* the start of a line that a segment cut */
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct conn);
} conns SEC(".maps");

/* trace_if_one is the trace of the newest request if it is the only one that
 * has no answer, 0 if it has no trace. */
static __always_inline const struct trace *trace_if_one(const struct conn *c)
{
	return c->traced && c->asked - c->given <= 1 ? &c->trace : 0;
}

/* due is how many answers are due. Requests come by ingress only and answers
 * leave by egress only, so neither number needs an atomic operation. Kind and
 * phase are written by both; where requests are not pipelined, in turn. */
static __always_inline __u32 due(const struct conn *c)
{
	return c->asked - c->given;
}

/* try_enter is 1 if nobody else reads what the client of a connection sends:
 * two CPUs may have segments of it at once. Who finds itself alone is, because
 * all who come later see it; if two come at the same time neither is. (An
 * addition that returns the old value would do, from 5.12 on; a spin lock takes
 * four calls of the kernel.) */
static __always_inline int try_enter(struct conn *c)
{
	__sync_fetch_and_add(&c->busy, 1);
	if (forget(c->busy) == 1)
		return 1;
	__sync_fetch_and_add(&c->busy, -1);
	return 0;
}

static __always_inline void leave(struct conn *c)
{
	__sync_fetch_and_add(&c->busy, -1);
}

static __always_inline struct conn *conn_of(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	return sk ? bpf_sk_storage_get(&conns, sk, 0, 0) : 0;
}

#define TRIES 24 /* squared for an order, to the fourth for a turn */

/* try_order waits a moment for another CPU to read up to seq. */
__noinline int try_order(struct __sk_buff *skb, __u32 seq)
{
	struct conn *c = conn_of(skb);
	__u32 i;

	if (!c)
		return 1;
	for (i = 0; i < TRIES; i++)
		if ((__s32)(seq - forget(c->in_next)) <= 0)
			return 1;
	return 0;
}

/* try_turn waits a moment for another CPU to leave. */
__noinline int try_turn(struct __sk_buff *skb)
{
	struct conn *c = conn_of(skb);
	__u32 i;

	if (!c)
		return 0;
	one_call for (i = 0; i < TRIES;
		      i++) if (!forget(c->busy) && try_enter(c)) return 1;
	return 0;
}

/* try_turns and try_long wait longer: the other CPU may have a large segment.
 */
__noinline int try_turns(struct __sk_buff *skb)
{
	__u32 i;

	one_call for (i = 0; i < TRIES; i++) if (try_turn(skb)) return 1;
	return 0;
}

__noinline int try_long(struct __sk_buff *skb)
{
	__u32 i;

	one_call for (i = 0; i < TRIES; i++) if (try_turns(skb)) return 1;
	return 0;
}

/* enter waits for the turn of a segment of a connection. On loopback what comes
 * before it may be on another CPU just now, and HTTP/2 cannot do without. It is
 * 0 if that takes too long: what is not read then is a hole. */
static __always_inline int enter(struct __sk_buff *skb, struct conn *c,
				 __u32 seq)
{
	__u32 i;

	if (c->in.kind == H2 && (__s32)(seq - c->in_next) > 0)
		one_call for (i = 0; i < TRIES;
			      i++) if (try_order(skb, seq)) break;
	if (try_enter(c))
		return 1;
	one_call for (i = 0; i < TRIES; i++) if (try_long(skb)) return 1;
	return 0;
}

/* enrol finds the workload of a connection, and where to count for it: 0 if
 * there is no slot. A workload may have been forgotten meanwhile. */
static __always_inline struct counts *enrol(struct __sk_buff *skb,
					    struct conn *c)
{
	struct counts *n = counts_of(c->ticket);

	if (n)
		return n;
	c->ticket = ticket_at(skb);
	n = counts_of(c->ticket);
	if (n)
		add(&n->connections, 1);
	return n;
}
