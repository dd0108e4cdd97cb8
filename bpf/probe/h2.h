/* Follows the frames of an HTTP/2 connection in both directions, and with them
 * its streams. A piece of a segment is read by a function that is not static:
 * the verifier checks it once, and not for every piece. */
#pragma once

#include "stream.h"

#define PIECES 20  /* of one segment, cubed: 64 KiB of empty frames */
#define PREFACE 24 /* "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" */

/* frame_over takes note of the end of a frame. */
static __always_inline void frame_over(struct __sk_buff *skb, struct h2 *h,
				       struct flow *w, int out)
{
	struct stream *s;

	if (w->type == HEADERS || w->type == CONTINUATION ||
	    w->type == PUSH_PROMISE) {
		if (!(w->flags & END_HEADERS)) {
			w->inside = 1;
			return;
		}
		w->inside = 0;
		if (w->f.kept || w->f.skip || w->f.value)
			w->f.astray = 1; /* it ended inside a field */
		w->f.kept = w->f.skip = w->f.value = 0;
		if (w->type == PUSH_PROMISE)
			return;
		if (!out) {
			request_block(h, w);
			return;
		}
		answer_block(skb, h, w);
		if (!(w->opening & END_STREAM))
			return;
	} else if (w->type != DATA || !(w->flags & END_STREAM) || !out) {
		return;
	}
	s = find(skb, h, w, w->stream, w->stream);
	if (s && s->answered && w->stream & 1)
		over(h, s, w->now);
}

/* begin_block prepares for a header block. */
static __always_inline void begin_block(struct flow *w, __u32 pad)
{
	__u32 rest = w->payload, front = 0;

	if (w->type != CONTINUATION) {
		w->opening = w->flags;
		w->f.status = 0;
		w->f.grpc = NO_GRPC;
		w->f.trace.form = NO_TRACE;
		w->f.kept = w->f.skip = w->f.value = 0;
		if (w->type == PUSH_PROMISE)
			front = 4;
		else if (w->flags & PRIORITY_FLAG)
			front = 5;
	}
	if (front + pad > rest) {
		lose_track(w);
		return;
	}
	w->front = front;
	w->block = rest - front - pad;
}

/* frame takes note of the head of a frame. */
static __always_inline void frame(struct __sk_buff *skb, struct h2 *h,
				  struct flow *w, int out)
{
	__u32 len =
		(__u32)w->head[0] << 16 | (__u32)w->head[1] << 8 | w->head[2];
	__u32 pad = 0;

	w->type = w->head[3];
	w->flags = w->head[4];
	w->stream = (__u32)(w->head[5] & 0x7f) << 24 | (__u32)w->head[6] << 16 |
		    (__u32)w->head[7] << 8 | w->head[8];
	w->head_len = 0;
	w->payload = len;
	w->block = w->front = 0;
	if (w->inside != (w->type == CONTINUATION)) {
		lose_track(w);
		return;
	}
	if (w->type == HEADERS || w->type == PUSH_PROMISE) {
		if (w->flags & PADDED) {
			if (!len) {
				lose_track(w);
				return;
			}
			pad = w->head[FRAME_HEAD];
			w->payload--;
		}
		begin_block(w, pad);
		if (w->type == HEADERS && !out)
			open(skb, h, w);
	} else if (w->type == CONTINUATION) {
		begin_block(w, 0);
	} else if (w->type == RST_STREAM && len == 4) {
		w->payload = 0;
		reset(skb, h, w, out,
		      w->head[9] | w->head[10] | w->head[11] | w->head[12]);
	}
}

/* head_more is how many bytes behind the head of a frame are read with it: the
 * length of the padding, and the reason of a reset. */
static __always_inline __u32 head_more(const struct flow *w)
{
	__u8 type = w->head[3];

	if (type == RST_STREAM && !w->head[0] && !w->head[1] && w->head[2] == 4)
		return 4;
	return (type == HEADERS || type == PUSH_PROMISE) &&
	       (w->head[4] & PADDED);
}

/* read_head reads the head of a frame, which a segment may have cut. It is 0 if
 * the segment ends before. */
static __always_inline int read_head(struct __sk_buff *skb, struct h2 *h,
				     struct flow *w, int out)
{
	__u32 have = w->head_len, left = w->end - w->pos, want = FRAME_HEAD, n;

	if (have >= FRAME_HEAD)
		want += head_more(w);
	n = want - have;
	if (n > left)
		n = left;
	keep(have);
	if (bpf_skb_load_bytes(skb, w->pos, &w->head[have & 15],
			       within(n, 15))) {
		w->pos = w->end;
		return 0;
	}
	w->pos += n;
	w->head_len = have + n;
	if (w->head_len < want)
		return 0;
	if (want == FRAME_HEAD && head_more(w))
		return 1; /* there is more of it */
	frame(skb, h, w, out);
	return 1;
}

/* load_fields fills the window behind what it holds from before, which is the
 * start of one field. It is how many bytes it took from the segment, 0 if none
 * are there. */
static __always_inline __u32 load_fields(struct __sk_buff *skb, struct flow *w)
{
	__u32 kept = w->f.kept, n = w->end - w->pos;

	if (n > w->block)
		n = w->block;
	if (n > LOAD)
		n = LOAD;
	keep(kept);
	if (kept > CARRY || n == 0 ||
	    bpf_skb_load_bytes(skb, w->pos, &w->f.window[kept],
			       within(n, LOAD - 1)))
		return 0;
	w->f.have = kept + n;
	w->f.at = 0;
	return n;
}

/* fields reads a field of a header block. */
static __always_inline int fields(struct __sk_buff *skb, int out)
{
	struct h2 *h = h2_of(skb);
	struct flow *w;
	__u32 n, at;

	if (!h)
		return 0;
	w = out ? &h->out : &h->in;
	n = load_fields(skb, w);
	if (!n) {
		lose_track(w);
		return 0;
	}
	if (!read_field(&w->f))
		w->f.at = 0;
	at = forget(w->f.at);
	if (!at && w->f.have <= CARRY) {
		w->f.kept = w->f.have; /* the next segment has the rest of it */
		pass(w, n);
		return 0;
	}
	if (at <= w->f.kept) {
		lose_track(w);
		return 0;
	}
	if (at > w->f.have) {
		w->f.skip = at - w->f.have;
		at = w->f.have;
	}
	pass(w, at - w->f.kept);
	w->f.kept = 0;
	return 0;
}

/* One for each direction: the verifier has less to tell apart. */
__noinline int fields_in(struct __sk_buff *skb)
{
	return fields(skb, 0);
}
__noinline int fields_out(struct __sk_buff *skb)
{
	return fields(skb, 1);
}

/* read_block reads on in a header block, of which left bytes are there. */
static __always_inline void read_block(struct __sk_buff *skb, struct flow *w,
				       __u32 left, int out)
{
	__u32 n = w->f.skip;

	if (!n) {
		if (out)
			fields_out(skb);
		else
			fields_in(skb);
		return;
	}
	if (left > w->block)
		left = w->block;
	if (n > left)
		n = left;
	w->f.skip -= n;
	pass(w, n);
}

/* read_rest passes over what does not matter of a frame. */
static __always_inline void read_rest(struct flow *w, __u32 left)
{
	__u32 n = w->payload;

	if (n > left)
		n = left;
	w->pos += n;
	w->payload -= n;
}

/* piece reads on in a segment: the head of a frame, some fields, or what does
 * not matter. It is 0 at the end. */
static __always_inline int piece(struct __sk_buff *skb, int out)
{
	struct h2 *h = h2_of(skb);
	struct flow *w;
	__u32 n;

	if (!h)
		return 0;
	w = out ? &h->out : &h->in;
	if (w->lost || w->pos >= w->end)
		return 0;
	if (!w->payload && !read_head(skb, h, w, out))
		return w->pos < w->end;
	if (w->payload && w->pos < w->end) {
		n = w->end - w->pos;
		if (w->front) {
			if (n > w->front)
				n = w->front;
			w->front -= n;
			w->pos += n;
			w->payload -= n;
		} else if (w->block) {
			read_block(skb, w, n, out);
		} else {
			read_rest(w, n);
		}
	}
	if (!w->payload && !w->head_len && !w->lost)
		frame_over(skb, h, w, out);
	return w->pos < w->end;
}

__noinline int piece_in(struct __sk_buff *skb)
{
	return piece(skb, 0);
}
__noinline int piece_out(struct __sk_buff *skb)
{
	return piece(skb, 1);
}

static __always_inline int pieces(struct __sk_buff *skb, int out)
{
	__u32 i;

	one_call for (i = 0; i < PIECES;
		      i++) if (!(out ? piece_out(skb)
				     : piece_in(skb))) return 0;
	return 1;
}

__noinline int pieces_in(struct __sk_buff *skb)
{
	return pieces(skb, 0);
}
__noinline int pieces_out(struct __sk_buff *skb)
{
	return pieces(skb, 1);
}

static __always_inline int more_pieces(struct __sk_buff *skb, int out)
{
	__u32 i;

	one_call for (i = 0; i < PIECES;
		      i++) if (!(out ? pieces_out(skb)
				     : pieces_in(skb))) return 0;
	return 1;
}

__noinline int more_pieces_in(struct __sk_buff *skb)
{
	return more_pieces(skb, 0);
}
__noinline int more_pieces_out(struct __sk_buff *skb)
{
	return more_pieces(skb, 1);
}

/* opens_stream returns the stream whose HEADERS a segment begins with, 0 if it
 * begins with something else. */
static __always_inline __u32 opens_stream(struct __sk_buff *skb,
					  const struct segment *s)
{
	__u8 b[FRAME_HEAD];
	__u32 id;

	if (s->len < FRAME_HEAD ||
	    bpf_skb_load_bytes(skb, s->off, b, FRAME_HEAD))
		return 0;
	if (b[0] || b[1] > 0x40 || b[3] != HEADERS || !(b[4] & END_HEADERS) ||
	    (b[4] & ~(END_STREAM | END_HEADERS | PADDED | PRIORITY_FLAG)) ||
	    (b[5] & 0x80))
		return 0;
	id = (__u32)b[5] << 24 | (__u32)b[6] << 16 | (__u32)b[7] << 8 | b[8];
	return id & 1 ? id : 0;
}

/* looks_like_h2 reports whether a segment begins with what can be a frame. */
static __always_inline int looks_like_h2(struct __sk_buff *skb,
					 const struct segment *s)
{
	__u8 b[FRAME_HEAD];
	int alone; /* on the connection, not on a stream */

	if (s->len < FRAME_HEAD ||
	    bpf_skb_load_bytes(skb, s->off, b, FRAME_HEAD))
		return 0;
	if (b[0] || b[1] > 0x40 || b[3] > CONTINUATION || b[5] & 0x80)
		return 0;
	alone = !(b[5] | b[6] | b[7] | b[8]);
	switch (b[3]) {
	case SETTINGS:
	case PING:
	case GOAWAY:
		return alone;
	case RST_STREAM:
		return !alone && !b[1] && b[2] == 4;
	case WINDOW_UPDATE:
		return !b[1] && b[2] == 4;
	}
	return !alone && b[8] & 1;
}

/* recognised reports whether a segment begins with a frame that opens a stream
 * (in), or answers one (out): so that it is known again where frames begin. */
static __always_inline int recognised(struct __sk_buff *skb, struct h2 *h,
				      struct flow *w, const struct segment *s,
				      int out)
{
	__u32 id = opens_stream(skb, s);

	if (w->strange) {
		w->strange = 0;
		if (looks_like_h2(skb, s))
			return 1;
		add_total(DESYNCED, 1);
	}
	if (!id)
		return 0;
	if (out)
		return find(skb, h, w, id, id) != 0;
	return id > h->newest && id - h->newest <= FARTHEST;
}

/* between reports whether the next byte begins a frame. */
static __always_inline int between(const struct flow *w)
{
	return !w->lost && !w->payload && !w->head_len && !w->inside;
}

/* walk reads a segment of an HTTP/2 connection. */
static __always_inline void walk(struct __sk_buff *skb, struct h2 *h,
				 const struct segment *s, __u32 hole, __u64 now,
				 int out)
{
	struct flow *w = out ? &h->out : &h->in;
	__u32 i;

	if (hole)
		lose_track(w);
	if (w->lost) {
		if (!recognised(skb, h, w, s, out))
			return;
		w->lost = 0;
	}
	w->now = now;
	w->pos = s->off;
	w->end = s->off + s->len;
	one_call for (i = 0; i < PIECES;
		      i++) if (!(out ? more_pieces_out(skb)
				     : more_pieces_in(skb))) return;
	lose_track(w);
}

/* speaks_h2 reports whether a segment begins with the preface of HTTP/2: no
 * method of HTTP/1.x begins with PRI. */
static __always_inline int speaks_h2(struct __sk_buff *skb,
				     const struct segment *s)
{
	__u32 w = 0;

	return s->len >= 3 && !bpf_skb_load_bytes(skb, s->off, &w, 3) &&
	       w == 0x495250;
}

/* begin_h2 begins to follow a connection whose preface is in this segment, or
 * one that is older than the probe. */
static __always_inline struct h2 *begin_h2(struct bpf_sock *sk, int older)
{
	struct h2 *h = bpf_sk_storage_get(&h2conns, sk, 0,
					  BPF_SK_STORAGE_GET_F_CREATE);

	if (!h)
		return 0;
	if (older) {
		/* Who was silent begins with a frame, in all likelihood. */
		h->in.lost = h->out.lost = 1;
		h->in.strange = h->out.strange = 1;
		h->in.f.astray = h->out.f.astray = 1;
	} else {
		h->in.payload = PREFACE;
		h->in.type = 0xff;
	}
	return h;
}

/* hung_up counts the requests that a connection leaves without an answer. */
static __always_inline void hung_up(struct h2 *h, __u64 now)
{
	struct outcome o = {
		.began = h->newest_ns, .now = now, .grpc = NO_GRPC, .aborted = 1
	};
	struct counts *n = counts_of(h->ticket);

	if (h->due && n)
		lapsed(n, h->due, &o, 0);
	else if (h->due)
		add_total(LOST, h->due);
	h->due = 0;
}
