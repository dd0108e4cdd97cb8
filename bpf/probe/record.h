/* Counts what became of a request, and tells user space of those that a person
 * may want to look at: each that failed, and the slowest so far of a workload
 * in a second. */
#pragma once

#include "bucket.h"
#include "slots.h"

#define NO_GRPC 0xff
/* gRPC status codes that are the server's fault, as OpenTelemetry's conventions
 * have it: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE,
 * DATA_LOSS. */
#define SERVER_ERRORS                                                          \
	(1U << 2 | 1U << 4 | 1U << 12 | 1U << 13 | 1U << 14 | 1U << 15)
#define SECOND_BITS 30 /* a second here has 2^30 ns */

/* trace is the trace id of a request, as it came: in a traceparent header of
 * HTTP/1.x, or in a field that HPACK wrote with or without Huffman's code. */
struct trace {
	__u8 id[24];
	__u8 form;
	__u8 unused[7];
} __attribute__((aligned(8))); /* or it is copied byte by byte */

enum form {
	NO_TRACE,
	BINARY,	 /* 16 bytes */
	HUFFMAN, /* 32 hexadecimal digits in Huffman's code of RFC 7541 */
};

struct exemplar {
	__u64 at_ns; /* CLOCK_MONOTONIC */
	__u64 took_ns;
	__u32 ticket;
	__u16 status;
	__u8 grpc; /* NO_GRPC: none */
	__u8 aborted;
	struct trace trace;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} exemplars SEC(".maps");

/* outcome is what became of a request. */
struct outcome {
	__u64 began;
	__u64 now;
	__u16 status;
	__u8 grpc;
	__u8 aborted;
};

/* passed is the time from one moment to another. A departure that TCP noted
 * ahead of what it answers would be a very long one. */
static __always_inline __u64 passed(__u64 began, __u64 now)
{
	return above(now, began);
}

/* tell does not wake a reader: user space reads with every snapshot. */
static __always_inline void tell(__u32 ticket, const struct outcome *o,
				 const struct trace *t)
{
	struct exemplar *e;

	e = bpf_ringbuf_reserve(&exemplars, sizeof(*e), 0);
	if (!e) {
		add_total(UNTOLD, 1);
		return;
	}
	e->at_ns = o->now;
	e->took_ns = passed(o->began, o->now);
	e->ticket = ticket;
	e->status = o->status;
	e->grpc = o->grpc;
	e->aborted = o->aborted;
	if (t)
		e->trace = *t;
	else
		e->trace.form = NO_TRACE;
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
}

/* slowest reports whether nothing took longer in this second. */
static __always_inline int slowest(struct counts *n, __u64 took, __u64 now)
{
	__u32 window = now >> SECOND_BITS;

	if (n->window != window) {
		n->window = window;
	} else if (took <= n->slowest_ns) {
		return 0;
	}
	n->slowest_ns = took;
	return 1;
}

static __always_inline void observe(__u64 *buckets, __u32 in)
{
	keep(in);
	if (in < BUCKETS)
		add(&buckets[in], 1);
}

static __always_inline void failed(struct counts *n, __u64 now)
{
	if (!n->first_error_ns)
		n->first_error_ns = now;
}

/* answered counts the first byte of an answer with a final status. It is the
 * bucket of the duration. */
static __always_inline __u32 answered(struct counts *n, const struct outcome *o,
				      const struct trace *t)
{
	__u32 class = o->status * 41U >> 12; /* by 100, up to 1000 */
	__u64 took = passed(o->began, o->now);
	__u32 in = bucket(took);

	if (class > 5)
		class = 0; /* no class of HTTP */
	add(&n->sum_ns, took);
	keep(class);
	add(&n->classes[class & (CLASSES - 1)], 1);
	observe(n->latency, in);
	if (!n->first_ns)
		n->first_ns = o->now;
	if (class == 5)
		failed(n, o->now);
	if (slowest(n, took, o->now) || class == 5)
		tell(n->ticket, o, t);
	return in;
}

/* ended counts the last byte of an answer. */
static __always_inline void ended(struct counts *n, __u64 took)
{
	observe(n->complete, bucket(took));
}

/* lapsed counts requests that ended without an answer. */
static __always_inline void lapsed(struct counts *n, __u32 requests,
				   const struct outcome *o,
				   const struct trace *t)
{
	add(&n->aborted, requests);
	if (!n->first_ns)
		n->first_ns = o->now;
	failed(n, o->now);
	tell(n->ticket, o, t);
}
