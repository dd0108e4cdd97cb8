/* Finds the requests in what a client sends, without keeping it.
 *
 * A head is read line by line; of its lines only the first, Content-Length,
 * Transfer-Encoding and the empty one matter. A body of known length is skipped
 * by arithmetic. So pipelined requests are told from bodies, even when a body
 * looks like requests. Where the end of a request cannot be known (chunked,
 * bytes missed, a head of more than LINES lines) the client's bytes are LOOSE:
 * while an answer is due nothing more is looked for, and after it a segment
 * that starts with a method is the next request.
 *
 * What the reader knows lives in map memory, and a line is read by a function
 * that is not static: the verifier checks it once, and not for every line. */
#pragma once

#define WINDOW 512 /* bytes looked at together */
#define KEPT 40	   /* of a line that a segment cut; Content-Length fits */
#define MID_LINE                                                               \
	255 /* in line_len: the line's start is gone, and did not matter */
#define LINES 256 /* of one segment */

enum phase {
	START, /* the next byte begins a request */
	HEAD,
	BODY, /* body bytes of it are to come */
	LOOSE,
};

enum kind {
	UNKNOWN, /* no request line yet */
	HTTP,
	FOREIGN, /* something else: TLS, HTTP/2, … */
};

/* request is what is known of the bytes of a client between two segments. */
struct request {
	__u64 body; /* in HEAD: the length it has announced so far */
	__u64 line[KEPT / 8];
	__u8 line_len; /* bytes kept in line */
	__u8 kind;
	__u8 phase;
	__u8 loose; /* in HEAD: it has announced a body without a length */
	__u32 unused;
};

/* reader is where in a segment the reading is. */
struct reader {
	struct request is;
	__u32 base; /* where in the packet bytes[0] is */
	__u32 end;  /* bytes in the window */
	__u32 stop; /* end of the segment in the packet */
	__u32 line; /* start of the current line in the window, or NO_LINE */
	__u32 at;   /* no newline from line up to here */
	__u32 begun;
	__u32 complete; /* heads that ended in this segment */
	__u32 unused;
	__u8 bytes[1024 + 64]; /* WINDOW and KEPT are used; 1024 is a mask */
};

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
	keep(n);
	if (n == 0 || n > WINDOW || kept > KEPT ||
	    bpf_skb_load_bytes(skb, off, r->bytes + kept, n))
		return -1;
	r->base = off - kept;
	r->end = kept + n;
	return 0;
}

/* zero_byte marks the first zero byte of eight by its high bit (Bit Twiddling
 * Hacks, "Determine if a word has a zero byte"; bits above it may be wrong). */
static __always_inline __u64 zero_byte(__u64 w)
{
	return (w - 0x0101010101010101ULL) & ~w & 0x8080808080808080ULL;
}

#define ONES 0x0101010101010101ULL

/* first_byte is the number of the lowest byte with its high bit set: as many
 * bytes are below its lowest set bit. */
static __always_inline __u32 first_byte(__u64 mark)
{
	mark = (mark & -mark) >> 7;
	return ((mark - 1) & ONES) * ONES >> 56;
}

#define NEWLINES 0x0a0a0a0a0a0a0a0aULL
#define LOW_BITS 0x7f7f7f7f7f7f7f7fULL

/* others has the high bit of each byte that is surely no newline. */
static __always_inline __u64 others(__u64 w)
{
	return ((w ^ NEWLINES) & LOW_BITS) + LOW_BITS;
}

/* find_newline returns the place in the window of the first newline from at on;
 * the end or more if there is none. Most lines end within a few rounds of 32
 * bytes. */
static __always_inline __u32 find_newline(struct reader *r, __u32 at, __u32 end)
{
	__u64 mark;
	__u32 i, k;

	for (i = 0; i < (WINDOW + KEPT) / 32 + 1; i++) {
		__u64 *w = &AT(r, at);

		if (at >= end)
			break;
		if (~(others(w[0]) & others(w[1]) & others(w[2]) &
		      others(w[3])) &
		    ~LOW_BITS) {
			for (k = 0; k < 4; k++) {
				mark = zero_byte(w[k] ^ NEWLINES);
				if (mark)
					return at + 8 * k + first_byte(mark);
			}
		}
		at += 32;
	}
	return at;
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
 * behind "content-length:". */
static __always_inline __u64 content_length(struct reader *r, __u32 line)
{
	__u64 n = 0;
	__u32 i;

	for (i = 15; i < KEPT; i++) {
		__u8 c = r->bytes[(line + i) & 1023];

		if (c == ' ' || c == '\t')
			continue;
		if (c < '0' || c > '9')
			break;
		n = n * 10 + (c - '0');
	}
	return n;
}

/* field takes note of the header field that starts at line, if it says how long
 * the body is. */
static __always_inline void field(struct reader *r, __u32 line)
{
	__u64 name = AT(r, line) | 0x2020202020202020ULL;
	__u64 rest = AT(r, line + 8) | 0x2020202020202020ULL;

	if (name == 0x2d746e65746e6f63ULL /* content- */ &&
	    (rest & 0xffffffffffffffULL) == 0x3a6874676e656cULL /* length: */)
		r->is.body = content_length(r, line);
	else if (name == 0x726566736e617274ULL /* transfer */ &&
		 rest == 0x6e69646f636e652dULL /* -encodin */)
		r->is.loose = 1;
}

/* is_http reports whether a request line whose newline is at nl ends with
 * HTTP/1.x, as far as it is in the window. */
static __always_inline int is_http(struct reader *r, __u32 line, __u32 nl)
{
	if (nl >= 9 && r->bytes[(nl - 1) & 1023] == '\r')
		nl--;
	if (nl < 8)
		return line == NO_LINE;
	return (AT(r, nl - 8) & 0xffffffffffffffULL) == 0x2e312f50545448ULL;
}

static __always_inline void begin(struct request *is)
{
	is->phase = HEAD;
	is->line_len = 0;
	is->loose = 0;
	is->body = 0;
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
		return 0;
	}
	if (r->is.body >= rest) {
		r->is.body -= rest;
		r->is.phase = r->is.body ? BODY : START;
		return 0;
	}
	r->is.phase = LOOSE;
	if (r->is.body) {
		if (fill(skb, r, p + (__u32)r->is.body, 0))
			return 0;
		rest -= r->is.body;
		p = 0;
	}
	if (!is_method((__u32)AT(r, p), rest))
		return 0;
	begin(&r->is);
	r->begun = 1;
	r->line = r->at = p;
	return 1;
}

/* cut keeps what the next segment needs of a line that this one did not end. */
static __always_inline void cut(struct reader *r)
{
	__u32 line = r->line, n = r->end - line;

	if (line == NO_LINE || n > KEPT) {
		r->is.line_len = MID_LINE;
		return;
	}
	r->is.line_len = n;
	r->is.line[0] = AT(r, line);
	r->is.line[1] = AT(r, line + 8);
	r->is.line[2] = AT(r, line + 16);
	r->is.line[3] = AT(r, line + 24);
	r->is.line[4] = AT(r, line + 32);
}

/* more moves the window on. It is -1 at the end of the segment. */
static __always_inline int more(struct __sk_buff *skb, struct reader *r)
{
	__u32 from = r->end;

	if (r->base + r->end >= r->stop)
		return -1;
	if (r->line == 0)
		r->line = NO_LINE; /* longer than the window */
	else if (r->line != NO_LINE)
		from = r->line;
	if (fill(skb, r, from, 0))
		return -1;
	if (r->line != NO_LINE)
		r->line = 0;
	r->at = 0;
	return 0;
}

/* read_line reads on to the end of a line or of the window; 0 ends the reading.
 */
__noinline int read_line(struct __sk_buff *skb)
{
	struct reader *r = the_reader();
	__u32 nl, line;

	if (!r)
		return 0;
	line = r->line;
	nl = find_newline(r, r->at, r->end);
	if (nl >= r->end) {
		if (!more(skb, r))
			return 1;
		cut(r);
		return 0;
	}
	if (r->is.kind == UNKNOWN) {
		r->is.kind = is_http(r, line, nl) ? HTTP : FOREIGN;
		if (r->is.kind == FOREIGN)
			return 0;
	}
	r->line = r->at = nl + 1;
	if (line == NO_LINE)
		return 1;
	if (nl == line || (nl == line + 1 && r->bytes[line & 1023] == '\r'))
		return end_of_head(skb, r, nl + 1);
	if (nl - line >= 16)
		field(r, line);
	return 1;
}

/* read_heads reads the heads of a segment, from where one goes on or where one
 * may begin. It is 0 if none begins there, else the_reader has the result. */
static __always_inline int read_heads(struct __sk_buff *skb, struct reader *r,
				      const struct segment *s,
				      const struct request *is)
{
	__u32 i, kept = 0;

	r->is = *is;
	r->base = s->off;
	r->stop = s->off + s->len;
	r->at = r->line = 0;
	r->begun = r->complete = 0;
	if (is->phase == HEAD && is->line_len == MID_LINE) {
		r->line = NO_LINE;
	} else if (is->phase == HEAD) {
		kept = is->line_len;
		AT(r, 0) = is->line[0];
		AT(r, 8) = is->line[1];
		AT(r, 16) = is->line[2];
		AT(r, 24) = is->line[3];
		AT(r, 32) = is->line[4];
	}
	keep(kept);
	if (kept > KEPT || fill(skb, r, 0, kept))
		return 0;
	if (r->is.phase != HEAD) {
		if (!is_method((__u32)AT(r, 0), s->len))
			return 0;
		begin(&r->is);
		r->begun = 1;
	}
	for (i = 0; i < LINES; i++)
		if (!read_line(skb))
			return 1;
	/* Too long to be read: take the rest for one request. */
	r->complete++;
	r->is.phase = LOOSE;
	return 1;
}
