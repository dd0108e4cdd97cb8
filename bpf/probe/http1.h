/* What becomes of the bytes of a connection of HTTP/1.x: requests that are
 * complete expect answers, and answers leave. */
#pragma once

#include "answer.h"
#include "conn.h"

/* looked for in one segment, squared, when requests are pipelined */
#define ANSWERS 45

/* expect notes requests that are complete: answers are due to them. */
static __always_inline void expect(struct conn *c, __u32 requests)
{
	c->asked += requests;
	c->begun += requests;
}

/* skipped deals with bytes that came, and could not be read in order. */
static __always_inline void skipped(struct conn *c, __u32 n, __u64 when)
{
	if (c->in.phase == BODY && c->in.body >= n) {
		c->in.body -= n;
		if (!c->in.body)
			c->in.phase = START;
		return;
	}
	if (c->in.phase == BODY || c->in.phase == START) {
		/* A request begins somewhere in them. */
		c->newest_ns = when;
		if (!due(c))
			c->oldest_ns = when;
		c->traced = 0;
		expect(c, 1);
	} else if (c->in.phase == HEAD) {
		expect(c, 1);
	} else {
		c->unread_ns = when;
	}
	c->in.phase = LOOSE;
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
	r = the_reader();
	if (!r)
		return;
	if (c->in.phase == LOOSE && due(c)) {
		c->unread_ns = bpf_ktime_get_ns();
		return;
	}
	if (!read_heads(skb, r, s, &c->in, c->line)) {
		if (c->in.kind == UNKNOWN)
			c->in.kind = FOREIGN;
		c->in.phase = LOOSE;
		c->unread_ns = bpf_ktime_get_ns();
		return;
	}
	if (r->begun) {
		c->newest_ns = bpf_ktime_get_ns();
		if (!due(c) && c->in.phase != HEAD) {
			c->oldest_ns = c->newest_ns;
			c->unread_ns = 0;
		}
	}
	if (r->unread)
		c->unread_ns = c->newest_ns;
	if (r->trace.form) {
		c->trace = r->trace;
		c->traced = 1;
	} else if (r->begun) {
		c->traced = 0;
	}
	c->in = r->is;
	if (r->complete)
		expect(c, r->complete);
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
		return status(c->version, *(__u32 *)&c->status[8]);
	}
	c->status_len = c->status[0] == 'H' ? have : 0;
	return 0;
}

/* flush counts what was sent. */
static __always_inline void flush(struct conn *c, struct counts *n)
{
	add(&n->bytes_out, c->bytes_out);
	add(&n->segments, c->segments);
	c->bytes_out = c->segments = 0;
}

/* finish counts the last byte of the answer before. */
static __always_inline void finish(struct conn *c, struct counts *n)
{
	__u32 in = c->bucket;

	if (c->sent_ns != c->first_ns) /* it was more than one segment */
		in = bucket(passed(c->answer_ns, c->sent_ns));
	if (c->answer_ns)
		observe(n->complete, in);
	c->answer_ns = 0;
	flush(c, n);
}

/* owing reports whether an answer may come. Bytes that were not understood may
 * have been a request: behind a chunked one, say. */
static __always_inline int owing(const struct conn *c)
{
	return due(c) || c->in.phase == HEAD || c->unread_ns;
}

/* answer counts an answer with a final status. */
static __always_inline void answer(struct __sk_buff *skb, struct conn *c,
				   __u32 code, __u64 now)
{
	struct outcome o = { .began = c->oldest_ns,
			     .now = now,
			     .status = code,
			     .grpc = NO_GRPC };
	struct counts *n;

	if (!due(c) && c->in.phase != HEAD)
		o.began = c->unread_ns;
	c->in.kind = HTTP;
	n = enrol(skb, c);
	if (n) {
		finish(c, n);
		c->bucket = answered(n, &o, trace_if_one(c));
		c->answer_ns = o.began;
		c->first_ns = now;
	} else {
		add_total(LOST, 1);
	}
	if (!due(c)) {
		c->in.phase = LOOSE; /* answered before its head was complete */
		if (n)
			add(&n->begun, 1);
	} else {
		c->given++;
		/* Of three or more in flight the next one may have begun later
		 * than this says. */
		if (due(c) == 1)
			c->oldest_ns = c->newest_ns;
	}
	if (code == 101) { /* what follows is no HTTP */
		c->in.kind = FOREIGN;
		if (n)
			add(&n->begun, -(__u64)due(c));
		c->given = c->asked;
	}
}

/* next_answer counts an answer that shares a segment with one before. It is 0
 * if no other one is due. */
__noinline int next_answer(struct __sk_buff *skb, __u32 code, __u64 now)
{
	struct conn *c = conn_of(skb);

	if (!c)
		return 0;
	if (code >= 200 || code == 101)
		answer(skb, c, code, now);
	return c->in.kind != FOREIGN && owing(c);
}

/* more_answers counts those from a place on. It is where to go on, 0 if no
 * other one is there, or due. */
__noinline __u32 more_answers(struct __sk_buff *skb, __u32 off, __u64 now)
{
	__u32 i;

	one_call for (i = 0; i < ANSWERS; i++)
	{
		off = next_status(skb, off);
		if (!off || !next_answer(skb, status_at(skb, off), now))
			return 0;
		off += STATUS_LINE;
	}
	return off;
}

/* answers counts the answers in a segment, if one is due. It may begin with
 * one; the others share a segment with one before. */
static __always_inline void answers(struct __sk_buff *skb, struct conn *c,
				    const struct segment *s, __u64 now)
{
	__u32 code, off = s->off, i;

	if (!owing(c))
		return;
	code = first_status(skb, s, c);
	if (code >= 200 || code == 101)
		answer(skb, c, code, now);
	/* Without a status line at its front it is the rest of an answer; only
	 * if another one is due already there may be one in it. */
	if (c->in.kind == FOREIGN || !owing(c) ||
	    (!code && (!c->answer_ns || !due(c))))
		return;
	if (code)
		off++;
	one_call for (i = 0; off && i < ANSWERS; i++) off =
		more_answers(skb, off, now);
}
