/* Finds the requests in what a client sends, without keeping it.
 *
 * Of the lines of a head only the first, Content-Length, Transfer-Encoding,
 * traceparent and the empty one matter: 16 bytes at a time are searched for a
 * newline with the start of such a line behind it. A body of known length is
 * skipped by arithmetic. So pipelined requests are told from bodies, even when
 * a body looks like requests. Where the end of a request cannot be known
 * (chunked, bytes missed) the client's bytes are LOOSE: while an answer is due
 * nothing more is looked for, and after it a segment that starts with a method
 * is the next request.
 *
 * What the reader knows lives in map memory, and a line is read by a function
 * that is not static: the verifier checks it once, and not for every line. */
#pragma once

#include "record.h"

#define WINDOW 512   /* bytes looked at together */
#define KEPT 80	     /* of a line that a segment cut; traceparent fits */
#define MID_LINE 255 /* in line_len: its start is gone, and did not matter */
#define CALLS 20     /* lines, cubed: 64 KiB of the shortest heads */

enum phase {
	START, /* the next byte begins a request */
	HEAD,
	BODY, /* body bytes of it are to come */
	LOOSE,
};

enum kind {
	UNKNOWN, /* no request line yet */
	HTTP,
	H2,
	FOREIGN, /* something else: TLS, … */
	DIALED,	 /* one that was opened from here */
};

/* request is what is known of the bytes of a client between two segments. */
struct request {
	__u64 body;    /* in HEAD: the length it has announced so far */
	__u8 line_len; /* bytes kept of a line */
	__u8 kind;
	__u8 phase;
	__u8 loose; /* in HEAD: it has announced a body without a length */
	__u8 unused[4];
};

/* reader is where in a segment the reading is. */
struct reader {
	struct request is;
	struct trace trace; /* of the request that is read */
	__u32 base;	    /* where in the packet bytes[0] is */
	__u32 end;	    /* bytes in the window */
	__u32 stop;	    /* end of the segment in the packet */
	__u32 line; /* start of a line that may matter in the window, NO_LINE */
	__u32 at;   /* where in the window the next newline is looked for */
	__u32 begun;
	__u32 complete;		 /* heads that ended in this segment */
	__u32 unread;		 /* bytes behind a head were not understood */
	__u32 found;		 /* a newline was found */
	__u32 digits;		 /* a number had one */
	__u8 bytes[1024 + KEPT]; /* WINDOW and KEPT are used; 1024 is a mask */
};

/* forget reads a variable in map memory anew. The verifier does not know what
 * is there, so the paths that wrote it are one again. */
#define forget(x) (*(volatile typeof(x) *)&(x))

#define NO_LINE 0xffffffff
#define AT(r, i) (*(__u64 *)&(r)->bytes[(i) & 1023])

/* Only ingress reads requests, and it runs in a softirq: one at a time a CPU.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct reader);
} readers SEC(".maps");

static __always_inline struct reader *the_reader(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&readers, &zero);
}

#define ONES 0x0101010101010101ULL
#define LOW_BITS 0x7f7f7f7f7f7f7f7fULL
#define LOWER 0x2020202020202020ULL
#define NEWLINES ('\n' * ONES)

/* fill puts the bytes from base + from on into the window, behind kept bytes.
 */
static __always_inline int fill(struct __sk_buff *skb, struct reader *r,
				__u32 from, __u32 kept)
{
	__u32 off = r->base + from, n = r->stop - off;

	if (off >= r->stop)
		return -1;
	if (n > WINDOW)
		n = WINDOW;
	if (kept > KEPT || bpf_skb_load_bytes(skb, off, r->bytes + kept,
					      within(n, WINDOW - 1)))
		return -1;
	r->base = off - kept;
	r->end = kept + n;
	AT(r, kept + n) = NEWLINES; /* where a search for one ends */
	return 0;
}

/* zero_byte marks the first zero byte of eight by its high bit (Bit Twiddling
 * Hacks, "Determine if a word has a zero byte"; bits above it may be wrong). */
static __always_inline __u64 zero_byte(__u64 w)
{
	return (w - ONES) & ~w & ~LOW_BITS;
}

/* first_byte is the number of the lowest byte with its high bit set: as many
 * bytes are below its lowest set bit. */
static __always_inline __u32 first_byte(__u64 mark)
{
	mark = (mark & -mark) >> 7;
	return ((mark - 1) & ONES) * ONES >> 56;
}

/* filled has the high bit of each byte of w that is not zero. */
static __always_inline __u64 filled(__u64 w)
{
	return ((w & LOW_BITS) + LOW_BITS) | w;
}

#define ANY_LINE 0
#define LINE_THAT_MAY_MATTER ~LOW_BITS

/* dull has the high bit of each of eight bytes that is no newline of a line
 * that is looked for. One that begins with a letter other than c and t cannot
 * matter. */
static __always_inline __u64 dull(const void *bytes, __u64 wanted)
{
	__u64 next = *(const __u64 *)(bytes + 1);

	return filled(*(const __u64 *)bytes ^ NEWLINES) |
	       (wanted & next << 1 & filled((next | LOWER) ^ 'c' * ONES) &
		filled((next | LOWER) ^ 't' * ONES));
}

#define SPAN 256 /* bytes searched by one call */

/* newline moves on to the first newline behind which a wanted line begins. It
 * is 0 if that is farther away than one call looks. If none is in the window it
 * is where that ends, or beyond. */
static __always_inline int newline(struct reader *r, __u64 wanted)
{
	__u64 *w, a = 0, b = 0;
	__u32 i, at = r->at;

	for (i = 0; i < SPAN / 16; i++) {
		w = &AT(r, at);
		if (zero_byte(w[0] ^ NEWLINES) | zero_byte(w[1] ^ NEWLINES)) {
			a = ~dull(w, wanted) & ~LOW_BITS;
			b = ~dull(w + 1, wanted) & ~LOW_BITS;
			if (a | b)
				break;
		}
		at += 16;
	}
	if (a | b)
		at += a ? first_byte(a) : 8 + first_byte(b);
	r->at = at;
	r->found = (a | b) != 0;
	return forget(r->found);
}

/* is_method reports whether n bytes (4 count) can begin a request. "HTTP" is an
 * answer, so this is a connection of ours to somebody; "PRI " is HTTP/2. */
static __always_inline int is_method(__u32 word, __u32 n)
{
	__u8 a = word, b = word >> 8, c = word >> 16;

	if (a < 'A' || a > 'Z' || (n > 1 && (b < 'A' || b > 'Z')) ||
	    (n > 2 && (c < 'A' || c > 'Z')))
		return 0;
	return n < 4 || (word != 0x50545448 && word != 0x20495250);
}

/* content_length reads the decimal number of the line that starts at line,
 * behind "content-length:". Without a digit, or with more than fit here, the
 * body's length is not known. */
static __always_inline void content_length(struct reader *r, __u32 line)
{
	__u32 i;

	r->is.body = r->digits = 0;
	for (i = 15; i < 34; i++) {
		__u8 c = r->bytes[(line + i) & 1023];

		if (c == ' ' || c == '\t')
			continue;
		if (c < '0' || c > '9')
			break;
		r->is.body = forget(r->is.body) * 10 + (c - '0');
		r->digits = 1;
	}
	if (!forget(r->digits) || i == 34)
		r->is.loose = 1;
}

/* The start of a line that says how long the body is, by its first and its
 * second eight bytes in lower case. */
static __always_inline int is_length(__u64 name, __u64 rest)
{
	return name == 0x2d746e65746e6f63ULL /* content- */ &&
	       (rest & 0xffffffffffffffULL) ==
		       0x3a6874676e656cULL /* length: */;
}

static __always_inline int is_encoding(__u64 name, __u64 rest)
{
	return name == 0x726566736e617274ULL /* transfer */ &&
	       rest == 0x6e69646f636e652dULL /* -encodin */;
}

static __always_inline int is_trace(__u64 name, __u64 rest)
{
	return name == 0x7261706563617274ULL /* tracepar */ &&
	       (rest & 0xffffffff) == 0x3a746e65 /* ent: */;
}

/* measures reports whether the line that starts at line says how long the body
 * is. */
static __always_inline int measures(struct reader *r, __u32 line)
{
	__u64 name = AT(r, line) | LOWER, rest = AT(r, line + 8) | LOWER;

	return is_length(name, rest) || is_encoding(name, rest);
}

/* hex4 makes four bytes of eight hexadecimal digits. */
static __always_inline __u32 hex4(__u64 digits)
{
	__u64 n = (digits & 0x0f0f0f0f0f0f0f0fULL) + 9 * ((digits >> 6) & ONES);

	n = ((n << 4) | (n >> 8)) & 0x00ff00ff00ff00ffULL;
	n = (n | (n >> 8)) & 0x0000ffff0000ffffULL;
	return n | (n >> 16);
}

/* traceparent keeps the trace id of the line that starts at line, which is
 * "traceparent: 00-<32 digits>-…" (W3C Trace Context). */
static __always_inline void traceparent(struct reader *r, __u32 line)
{
	__u32 i = line + 12, k;

	for (k = 0; k < 8; k++) {
		__u8 c = r->bytes[i & 1023];

		if (c != ' ' && c != '\t')
			break;
		i++;
	}
	if ((AT(r, i) & 0xffffff) != 0x2d3030 /* 00- */)
		return;
	i += 3;
	*(__u32 *)&r->trace.id[0] = hex4(AT(r, i));
	*(__u32 *)&r->trace.id[4] = hex4(AT(r, i + 8));
	*(__u32 *)&r->trace.id[8] = hex4(AT(r, i + 16));
	*(__u32 *)&r->trace.id[12] = hex4(AT(r, i + 24));
	r->trace.form = BINARY;
}

/* field takes note of the header field that starts at line, if it says how long
 * the body is, or which trace the request belongs to. */
__noinline int field(struct __sk_buff *skb, __u32 line, __u32 len)
{
	struct reader *r = the_reader();
	__u64 name, rest;

	if (!skb || !r || len < 15)
		return 0;
	name = AT(r, line) | LOWER;
	rest = AT(r, line + 8) | LOWER;
	if (is_length(name, rest))
		content_length(r, line);
	else if (is_encoding(name, rest))
		r->is.loose = 1;
	else if (len >= 12 + 55 && is_trace(name, rest))
		traceparent(r, line);
	return 0;
}

/* is_http reports whether the first line of a connection, whose newline is at
 * nl, ends with HTTP/1.x, as far as it is in the window. */
static __always_inline int is_http(struct reader *r, __u32 nl)
{
	if (nl >= 9 && r->bytes[(nl - 1) & 1023] == '\r')
		nl--;
	if (nl < 8)
		return r->line == NO_LINE;
	return (AT(r, nl - 8) & 0xffffffffffffffULL) == 0x2e312f50545448ULL;
}

/* begin begins a request at p in the window. Only the first one's first line
 * matters. */
static __always_inline void begin(struct reader *r, __u32 p)
{
	r->at = p;
	r->line = r->is.kind == UNKNOWN ? p : NO_LINE;
	r->is.phase = HEAD;
	r->is.line_len = 0;
	r->is.loose = 0;
	r->is.body = 0;
	r->trace.form = NO_TRACE;
	r->begun = 1;
}

/* end_of_head takes note of a complete head that ends at p in the window. It is
 * 1 if another request begins in this segment. */
static __always_inline int end_of_head(struct __sk_buff *skb, struct reader *r,
				       __u32 p)
{
	__u32 rest = r->stop - (r->base + p);

	r->complete++;
	if (r->is.loose) {
		r->is.phase = LOOSE;
		r->unread = rest != 0;
		return 0;
	}
	if (r->is.body >= rest) {
		r->is.body -= rest;
		r->is.phase = r->is.body ? BODY : START;
		return 0;
	}
	r->is.phase = LOOSE;
	p += (__u32)r->is.body;
	rest -= r->is.body;
	if (p + 4 > r->end) {
		if (fill(skb, r, p, 0))
			return 0;
		p = 0;
	}
	if (!is_method((__u32)AT(r, p), rest)) {
		r->unread = 1;
		return 0;
	}
	begin(r, p);
	return 1;
}

/* more moves the window on. It is 0 at the end of the segment. */
static __always_inline int more(struct __sk_buff *skb, struct reader *r)
{
	__u32 from = r->end;

	if (r->base + r->end >= r->stop)
		return 0;
	if (r->line == 0) { /* longer than the window */
		if (measures(r, 0))
			r->is.loose = 1;
		r->line = NO_LINE;
	} else if (r->line != NO_LINE) {
		from = r->line;
	}
	if (fill(skb, r, from, 0))
		return 0;
	if (r->line != NO_LINE)
		r->line = 0;
	r->at = 0;
	return 1;
}

/* matters reports whether the line that starts at line may say something: it is
 * one of those that do, or no field, or too little of it is in the window. */
static __always_inline int matters(struct reader *r, __u32 line)
{
	__u64 name = AT(r, line) | LOWER, rest = AT(r, line + 8) | LOWER;

	return line + 16 > r->end || (__u8)name < 'a' ||
	       is_length(name, rest) || is_encoding(name, rest) ||
	       is_trace(name, rest);
}

/* in_line reports whether the line that is read may matter. */
static __always_inline int in_line(const struct reader *r)
{
	return forget(r->line) != NO_LINE || forget(r->is.kind) == UNKNOWN;
}

/* end_of_line takes note of a line that may matter and ends with the newline at
 * nl. It is 1 if the line is empty. */
static __always_inline int end_of_line(struct __sk_buff *skb, struct reader *r,
				       __u32 line, __u32 nl)
{
	__u8 c = r->bytes[line & 1023];

	if (r->is.kind == UNKNOWN)
		r->is.kind = is_http(r, nl) ? HTTP : FOREIGN;
	else if (nl == line || (nl == line + 1 && c == '\r'))
		return 1;
	else if (c == ' ' || c == '\t') /* maybe of a field that matters */
		r->is.loose = 1;
	else
		field(skb, line, nl - line);
	return 0;
}

/* read_line reads the next line that may matter; 0 ends the reading of the
 * segment. Where it is stands in map memory, or the verifier would tell all
 * ways to get there apart. */
__noinline int read_line(struct __sk_buff *skb)
{
	struct reader *r = the_reader();
	__u32 line, nl;
	int told;

	if (!r)
		return 0;
	if (!newline(r, in_line(r) ? ANY_LINE : LINE_THAT_MAY_MATTER))
		return 1;
	nl = forget(r->at);
	told = in_line(r);
	if (nl >= r->end)
		return more(skb, r);
	if (told && end_of_line(skb, r, r->line, nl))
		return end_of_head(skb, r, nl + 1);
	if (r->is.kind == FOREIGN)
		return 0;
	line = nl + 1;
	if ((AT(r, line) & 0xffff) == ('\r' | '\n' << 8) && line + 1 < r->end)
		return end_of_head(skb, r, line + 2); /* as most heads end */
	r->line = matters(r, line) ? line : NO_LINE;
	r->at = line;
	return 1;
}

__noinline int read_lines(struct __sk_buff *skb)
{
	__u32 i;

	one_call for (i = 0; i < CALLS; i++) if (!read_line(skb)) return 0;
	return 1;
}

__noinline int more_lines(struct __sk_buff *skb)
{
	__u32 i;

	one_call for (i = 0; i < CALLS; i++) if (!read_lines(skb)) return 0;
	return 1;
}

/* recall puts the start of a line that a segment cut into the window. */
static __always_inline __u32 recall(struct reader *r, const __u64 *line)
{
	__u32 i;

	if (r->is.phase != HEAD)
		return 0;
	if (r->is.line_len == MID_LINE) {
		r->line = NO_LINE;
		return 0;
	}
	if (r->is.line_len)
		for (i = 0; i < KEPT / 8; i++)
			AT(r, 8 * i) = line[i];
	return r->is.line_len;
}

/* cut keeps what the next segment needs of a line that this one did not end. */
static __always_inline void cut(struct reader *r, __u64 *line)
{
	__u32 from = r->line, n = r->end - from, i;

	if (from == NO_LINE || n > KEPT) {
		if (from != NO_LINE && measures(r, from))
			r->is.loose = 1;
		r->is.line_len = MID_LINE;
		return;
	}
	r->is.line_len = n;
	if (n)
		for (i = 0; i < KEPT / 8; i++)
			line[i] = (&AT(r, from))[i];
}

/* read_heads reads the heads of a segment, from where one goes on or where one
 * may begin. line is what is kept of a cut line. It is 0 if none begins there,
 * else the_reader has the result. */
static __always_inline int read_heads(struct __sk_buff *skb, struct reader *r,
				      const struct segment *s,
				      const struct request *is, __u64 *line)
{
	__u32 i, kept;
	int goes_on;

	r->is = *is;
	r->base = s->off;
	r->stop = s->off + s->len;
	r->at = r->line = 0;
	r->begun = r->complete = r->unread = 0;
	r->trace.form = NO_TRACE;
	kept = recall(r, line);
	keep(kept);
	if (kept > KEPT || fill(skb, r, 0, kept))
		return 0;
	if (r->is.phase != HEAD) {
		if (!is_method((__u32)AT(r, 0), s->len))
			return 0;
		begin(r, 0);
	}
	goes_on = read_line(skb); /* most end in the first one */
	one_call for (i = 0; goes_on && i < CALLS; i++) goes_on =
		more_lines(skb);
	if (goes_on) { /* too long: take the rest for one request */
		r->complete++;
		r->is.phase = LOOSE;
	} else if (r->is.phase == HEAD && r->is.kind != FOREIGN) {
		cut(r, line);
	}
	return 1;
}
