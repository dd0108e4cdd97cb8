/* The streams of an HTTP/2 connection (RFC 9113): a request begins with its
 * HEADERS, is answered by the final HEADERS of its stream, and ends with
 * END_STREAM. For gRPC the trailers say how it went.
 *
 * What is known lives in the storage of the socket, so nothing is left of a
 * connection that is gone. */
#pragma once

#include "hpack.h"

#define STREAMS 256 /* open at a time on one connection */
#define TRACES 32   /* of them those whose trace is known, at most */
#define NEAR 8	    /* places where a stream may be, next to each other */
#define PROBES 12   /* these, and more all over the table */
#define FRAME_HEAD 9
#define FARTHEST (1U << 24) /* no client leaves out more streams */

/* Frame types and flags of RFC 9113, section 6. */
enum frame {
	DATA,
	HEADERS,
	PRIORITY,
	RST_STREAM,
	SETTINGS,
	PUSH_PROMISE,
	PING,
	GOAWAY,
	WINDOW_UPDATE,
	CONTINUATION,
};
#define END_STREAM 0x1
#define END_HEADERS 0x4
#define PADDED 0x8
#define PRIORITY_FLAG 0x20

/* The storage of a socket should not exceed 8 KiB, hence no trace in each. */
struct stream {
	__u64 began;
	__u32 id; /* 0: free */
	__u16 status;
	__u8 answered;
	__u8 unused;
};

struct traced {
	__u32 id; /* of the stream */
	__u32 unused;
	struct trace trace;
};

/* flow is what is known of one direction between two segments. */
struct flow {
	__u64 now;
	__u32 pos;     /* where in the packet the next byte is */
	__u32 end;     /* of the segment */
	__u32 payload; /* bytes of the frame still to come */
	__u32 block;   /* of them those of the header block, at their front */
	__u32 front;   /* bytes in front of the block: priority, promised id */
	__u32 stream;
	__u32 place; /* of a stream that was looked for */
	__u8 type;
	__u8 flags;
	__u8 opening; /* the stream's END_STREAM, for CONTINUATION */
	__u8 lost;    /* it is not known where the next frame begins */
	__u8 inside;  /* a header block goes on in the next frame */
	__u8 strange; /* nothing was seen of it yet, and it is old */
	__u8 late;    /* this segment comes after one that should follow it */
	__u8 head_len;
	__u8 head[32]; /* FRAME_HEAD with a pad length or a reset's reason are
			  used */
	struct fields f;
};

struct h2 {
	__u32 ticket;
	__u32 newest;	 /* the highest stream so far */
	__u64 newest_ns; /* when it began */
	__u32 due;	 /* requests without an answer; changed atomically */
	__u8 crowded;	 /* the table was nearly full once */
	__u8 overflowed; /* a stream had no place once */
	__u16 unused;
	struct flow in;
	struct flow out;
	struct stream streams[STREAMS];
	struct traced traces[TRACES];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct h2);
} h2conns SEC(".maps");

static __always_inline struct h2 *h2_of(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	return sk ? bpf_sk_storage_get(&h2conns, sk, 0, 0) : 0;
}

#define ROW 32 /* streams looked at by one call */

/* search_row looks through a part of the table. */
__noinline int search_row(struct __sk_buff *skb, int out, __u32 from,
			  __u32 want)
{
	struct h2 *h = h2_of(skb);
	struct flow *w;
	__u32 i, at;

	if (!h)
		return 1;
	w = out ? &h->out : &h->in;
	for (i = 0; i < ROW; i++) {
		at = (from + i) & (STREAMS - 1);
		if (h->streams[at].id == want) {
			w->place = at;
			return 1;
		}
	}
	return 0;
}

/* search looks through the whole table, when it is nearly full. */
__noinline int search(struct __sk_buff *skb, int out, __u32 want)
{
	__u32 from;

	one_call for (from = 0; from < STREAMS;
		      from += ROW) if (search_row(skb, out, from, want)) break;
	return 0;
}

/* find looks for a stream, or, with want 0, for a place for one. */
static __always_inline struct stream *find(struct __sk_buff *skb, struct h2 *h,
					   struct flow *w, __u32 id, __u32 want)
{
	__u32 i, at;

	w->place = STREAMS;
	for (i = 0; i < PROBES; i++) {
		at = i < NEAR ? (id >> 1) + i
			      : (id * 0x9e3779b1 >> 24) + 37 * i;
		at &= STREAMS - 1;
		if (h->streams[at].id == want) {
			w->place = at;
			break;
		}
	}
	if (forget(w->place) == STREAMS && (!want || h->crowded)) {
		h->crowded = 1; /* some are where they are not looked for */
		search(skb, w == &h->out, want);
	}
	at = forget(w->place);
	if (at >= STREAMS)
		return 0;
	keep(at);
	return &h->streams[at & (STREAMS - 1)];
}

/* Where the frames are not followed any more, until one is recognised. */
static __always_inline void lose_track(struct flow *w)
{
	if (!w->lost)
		add_total(DESYNCED, 1);
	w->lost = 1;
	w->f.astray = 1;
	w->inside = 0;
	w->f.kept = w->f.value = 0;
	w->f.skip = w->payload = w->block = w->head_len = 0;
}

/* pass goes on by n bytes of a header block. */
static __always_inline void pass(struct flow *w, __u32 n)
{
	w->pos += n;
	w->block -= n;
	w->payload -= n;
}

/* over counts the end of a stream. */
static __always_inline void over(struct h2 *h, struct stream *s, __u64 now)
{
	struct counts *n = counts_of(h->ticket);

	if (n)
		ended(n, passed(s->began, now));
	s->id = 0;
}

static __always_inline struct trace *trace_of(struct h2 *h, __u32 stream)
{
	struct traced *t = &h->traces[(stream >> 1) & (TRACES - 1)];

	return t->id == stream ? &t->trace : 0;
}

/* request_block takes note of a header block of the client. */
static __always_inline void request_block(struct h2 *h, struct flow *w)
{
	struct traced *t = &h->traces[(w->stream >> 1) & (TRACES - 1)];

	if (w->f.trace.form == NO_TRACE)
		return;
	t->trace = w->f.trace;
	t->id = w->stream;
}

/* open begins a stream. */
static __always_inline void open(struct __sk_buff *skb, struct h2 *h,
				 struct flow *w)
{
	struct counts *n;
	struct stream *s;

	if (!(w->stream & 1))
		return;
	if (w->stream > h->newest)
		h->newest = w->stream;
	else if (!w->late || find(skb, h, w, w->stream, w->stream))
		return; /* trailers of a request */
	s = find(skb, h, w, w->stream, 0);
	n = counts_of(h->ticket);
	if (!s || !n) { /* lost, if it is answered and not refused */
		h->overflowed = 1;
		return;
	}
	s->began = h->newest_ns = w->now;
	s->status = 0;
	s->answered = 0;
	s->id = w->stream;
	__sync_fetch_and_add(&h->due, 1);
	add(&n->begun, 1);
}

/* answer_block takes note of a header block of the server, when it is
 * complete. */
static __always_inline void answer_block(struct __sk_buff *skb, struct h2 *h,
					 struct flow *w)
{
	struct counts *n = counts_of(h->ticket);
	struct stream *s = find(skb, h, w, w->stream, w->stream);
	struct outcome o = { .now = w->now,
			     .status = w->f.status,
			     .grpc = w->f.grpc };

	if (!(w->stream & 1))
		return;
	if (!s && o.status >= 200 &&
	    (w->stream > h->newest || h->in.f.astray || h->overflowed))
		add_total(LOST, 1); /* its request was not kept, or not seen */
	if (!s || !n)
		return;
	o.began = s->began;
	if (!s->answered && (o.status >= 200 || !o.status)) {
		s->answered = 1;
		s->status = o.status;
		__sync_fetch_and_add(&h->due, -1);
		answered(n, &o, trace_of(h, w->stream));
	}
	if (o.grpc == NO_GRPC || !s->answered)
		return;
	if (o.grpc >= GRPC_CODES)
		o.grpc = 2; /* UNKNOWN, as gRPC's clients take it */
	add(&n->grpc[o.grpc & 31], 1);
	if (SERVER_ERRORS & (1U << (o.grpc & 31))) {
		o.status = s->status;
		failed(n, w->now);
		tell(h->ticket, &o, trace_of(h, w->stream));
	}
}

/* reset takes note of RST_STREAM. */
static __always_inline void reset(struct __sk_buff *skb, struct h2 *h,
				  struct flow *w, int ours, __u32 code)
{
	struct counts *n = counts_of(h->ticket);
	struct stream *s = find(skb, h, w, w->stream, w->stream);
	struct outcome o = { .now = w->now, .grpc = NO_GRPC };

	if (!s || !(w->stream & 1))
		return; /* stream 0 would find a free place */
	o.began = s->began;
	o.status = s->status;
	if (n && !s->answered) {
		o.aborted = 1;
		__sync_fetch_and_add(&h->due, -1);
		lapsed(n, 1, &o, trace_of(h, w->stream));
	} else if (n && ours && code) {
		add(&n->truncated, 1);
		failed(n, w->now);
		tell(h->ticket, &o, trace_of(h, w->stream));
	}
	s->id = 0;
}
