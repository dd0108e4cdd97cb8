/* What is known of one connection. */
#pragma once

#include "request.h"

/* conn is what is known of one connection. Ingress and egress of it may run at
 * the same time. */
struct conn {
	__u64 oldest_ns; /* when the oldest request without an answer began */
	__u64 newest_ns; /* when the newest one began */
	__u64 answer_ns; /* when the request began whose answer is being sent */
	__u64 first_ns;	 /* when its first segment was sent */
	__u64 sent_ns;	 /* when the last segment so far was sent */
	__u64 unread_ns; /* when bytes came that were not understood */
	__u64 early_ns;	 /* when bytes came before their time */
	__u32 in_next;	 /* sequence number after what was seen */
	__u32 out_next;
	__u32 ticket; /* 0: not looked up */
	__u32 asked;  /* complete requests */
	__u32 given;  /* answers to them */
	__u32 begun;  /* requests not counted yet, for want of a ticket */
	__u32 bytes_in; /* and bytes */
	__u32 bytes_out; /* sent and not counted yet, to count them together */
	__u32 segments;
	__u32 early;	 /* where bytes begin that came before their time */
	__u32 early_end; /* and end; 0: there are none */
	__u32 unused3;
	__u8 in_seen;	/* in_next is valid */
	__u8 out_seen;
	__u8 status_len; /* bytes kept in status */
	__u8 unused;
	__u16 bucket; /* of first_ns - answer_ns */
	__u16 unused2;
	union {
		__u8 status[32]; /* the start of an answer that a segment cut */
		__u64 version;
	};
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

/* due is how many answers are due. Requests come by ingress only and answers
 * leave by egress only, so neither number needs an atomic operation. */
static __always_inline __u32 due(const struct conn *c)
{
	return c->asked - c->given;
}
